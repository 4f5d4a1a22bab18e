"""Folders that no encoder can be made of: loading, `ragvec info` and `ragvec doctor` say so, and why, in a line."""

import json
import shutil
from pathlib import Path

import pytest

from ragvec.cli.info import readable
from ragvec.doctor import FAILED, OK, examine
from ragvec.doctor.info import describe
from ragvec.encoder import Encoder
from ragvec.errors import RagvecError
from tests.tiny import make_tokenizer


@pytest.fixture
def folder(tiny_decoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_decoder, tmp_path / "model"))


def change(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def remote_code(folder: Path) -> None:
    (folder / "own.py").write_text("raise SystemExit('ran')")
    change(folder / "config.json", model_type="own_kind", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})


def unknown(folder: Path) -> None:
    change(folder / "config.json", model_type="of-tomorrow")


def gptq(folder: Path) -> None:
    change(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})


def other_quantization(folder: Path) -> None:
    change(folder / "config.json", quantization_config={"quant_method": "of-tomorrow"})


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {}}')


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (remote_code, "of type own_kind, which needs the code in its own repository"),
        (unknown, r"of type of-tomorrow, which transformers [\d.]+ does not know"),
        (gptq, "holds weights quantised by gptq, which can't be read here"),
        (other_quantization, "holds weights quantised by of-tomorrow, which can't be read here"),
        (pickled, r"only pickled weights \(pytorch_model.bin\)"),
        (broken_tokenizer, "holds no tokenizer that loads"),
        (no_tokenizer, "holds no tokenizer that loads"),
    ],
)
def test_what_can_not_load_is_said_everywhere(folder, spoil, why):
    spoil(folder)
    with pytest.raises(RagvecError, match=why) as error:
        Encoder.load(folder, device="cpu")
    assert "\n" not in str(error.value)
    told = describe(folder)
    assert told["loads"] is False and told["refusal"] == str(error.value)
    assert told["architecture"] and told["pooling"] == "mean", "what can be told is told"
    assert "loads" in readable(told)[2] and readable(told)[2].endswith("no")
    checks = list(examine(folder, device="cpu"))
    assert [(one.name, one.found) for one in checks if one.state == FAILED] == [("loads", str(error.value))]
    assert any(one.area == "machine" for one in checks)


def test_what_loads_is_said_to(tiny_decoder):
    told = describe(tiny_decoder)
    assert told["loads"] is True and "refusal" not in told


def test_the_doctor_goes_on_where_texts_can_not_be_read(tiny_decoder, tmp_path):
    """The tokenizer's ids are beyond the model: it loads, and fails with the first text."""
    folder = Path(shutil.copytree(tiny_decoder, tmp_path / "model"))
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"<{number}>" for number in range(1000)])
    tokenizer.add_tokens(["sugar", "chloroplasts", "plants", "Plants", "lazy", "quick"])
    tokenizer.save_pretrained(folder)
    checks = {one.name: one for one in examine(folder, device="cpu", dtype="float32")}
    assert checks["loads"].state == checks["padding"].state == checks["packing"].state == OK
    assert checks["vectors"].state == FAILED and "beyond the model's vocabulary" in checks["vectors"].found
