"""GGUF files give the vectors of the folder that they were made of; what is damaged, hostile or unknown is one line."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from ragvec import Document, Encoder, Index
from ragvec.cli.main import main
from ragvec.doctor import FAILED, examine
from ragvec.doctor.info import describe
from ragvec.encoder.gguf_head import read_head
from ragvec.encoder.sources import locate
from ragvec.errors import Damaged, NotFound, RagvecError, WrongInput
from tests.gguf_files import save_pair
from tests.tiny import TEXTS

LLAMA_3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
               original_max_position_embeddings=8192)  # fmt: skip


def load(source: Path, **options) -> Encoder:
    return Encoder.load(source, device="cpu", dtype="float32", **options)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """A Llama's file; the folder it is of lies beside it."""
    return save_pair(tmp_path_factory.mktemp("gguf") / "model")


@pytest.mark.parametrize(
    ("kind", "sizes", "added"),
    [
        ("llama", {}, {}),
        ("llama", {"tie_word_embeddings": False, "max_position_embeddings": 16384, "rope_parameters": LLAMA_3}, {}),
        ("qwen2", {}, {}),
        ("qwen3", {"head_dim": 16}, {}),
        (
            "llama",
            {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
            {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
        ),
    ],
    ids=["llama", "llama-3.1", "qwen2", "qwen3", "stretched"],
)
def test_equal_to_the_folder_it_is_of(kind, sizes, added, tmp_path):
    path = save_pair(tmp_path / "model", kind, added=added, **sizes)
    ours, expected = load(path), load(tmp_path / "model")
    assert ours.prompts.build(TEXTS).ids == expected.prompts.build(TEXTS).ids
    np.testing.assert_allclose(ours.encode_documents(TEXTS), expected.encode_documents(TEXTS), atol=1e-6)
    assert ours.settings.packed and ours.settings.attention == "bidirectional"


def test_converted_indexed_and_described(pair, tmp_path, capsys):
    """Under a name without an ending, as Ollama has it."""
    blob = tmp_path / "sha256-0123"
    blob.symlink_to(pair)
    with pytest.raises(SystemExit) as end:
        main(["convert", str(blob), "-o", str(tmp_path / "encoder")])
    assert end.value.code == 0 and "bidirectional" in capsys.readouterr().out
    made, file = load(tmp_path / "encoder"), load(blob)
    np.testing.assert_allclose(made.encode_documents(TEXTS), file.encode_documents(TEXTS), atol=1e-6)
    assert not hasattr(made.model.config, "quantization_config")
    told = describe(blob)
    assert (told["kind"], told["loads"], told["architecture"], told["dimension"]) == ("encoder", True, "llama", 32)
    assert (told["layers"], told["weights_dtype"], told["bytes"]) == (2, "F32", pair.stat().st_size)
    assert told["parameters"] == file.describe()["parameters"]
    with Index.create(tmp_path / "index", encoder=file) as index:
        index.add([Document("1", "fox")])
    with Index.open(tmp_path / "index") as index:
        assert index.settings.encoder_source == str(pair.resolve())
        assert index.encoder.fingerprint == file.fingerprint != made.fingerprint


def test_quantised_weights_are_unpacked(pair, tmp_path):
    """Q8_0: nearly the folder's vectors; and "auto" is bfloat16."""
    path, reader = tmp_path / "q8.gguf", gguf.GGUFReader(pair)
    writer = gguf.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            of = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=of)
    kind = gguf.GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        weight = np.array(tensor.data)
        quantised = weight.ndim == 2
        writer.add_tensor(
            tensor.name, gguf.quantize(weight, kind) if quantised else weight, raw_dtype=kind if quantised else None
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    close = (load(path).encode_documents(TEXTS) * load(pair).encode_documents(TEXTS)).sum(axis=1)
    assert 0.999 < close.min() < 0.999999
    assert Encoder.load(path, device="cpu", dtype="auto").dtype == "bfloat16"
    assert describe(path)["weights_dtype"] == "F32, Q8_0"


def test_an_embedding_model_keeps_its_pooling_and_direction(tmp_path):
    path = save_pair(tmp_path / "last", "qwen3", added={"qwen3.pooling_type": 3})
    settings = load(path).settings
    assert (settings.pooling, settings.attention, settings.query_instruction) == ("last_token", "unchanged", "")
    path = save_pair(tmp_path / "mean", added={"llama.pooling_type": 1, "llama.attention.causal": False})
    assert (load(path).settings.pooling, load(path).settings.attention) == ("mean", "bidirectional")
    path = save_pair(tmp_path / "rank", added={"llama.pooling_type": 4})
    with pytest.raises(WrongInput, match="a reranker's"):
        locate(str(path))


def test_what_lies_beside_the_file_is_no_part_of_it(tmp_path):
    path = save_pair(tmp_path / "model")
    expected = load(path).encode_documents(TEXTS)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "x"}')
    np.testing.assert_array_equal(load(path).encode_documents(TEXTS), expected)


def test_training_starts_from_a_file(pair, tmp_path):
    import torch

    from ragvec.train.model import _load_with_head, load_encoder
    from ragvec.train.recipe import Recipe

    recipe = Recipe(objective="simcse", model_name_or_path=str(pair), output_dir=str(tmp_path / "o"))
    learner = load_encoder(recipe, torch.device("cpu"), torch.float32)
    assert learner.settings.base_model == str(pair)
    assert _load_with_head(locate(str(pair)), "float32").get_output_embeddings().weight.shape == (384, 32)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"drop": "blk.1.ffn_up.weight"}, "1 weights are missing, layers.1.mlp.up_proj.weight among them"),
        ({"added": {"split.count": 3}}, "is one of 3 parts: join them"),
        ({"added": {"llama.rope.scaling.type": "longrope"}}, "stretches positions by 'longrope', which is not read here"),
        ({"added": {"llama.vocab_size": 1 << 30}}, "vocab_size is 1073741824, outside 1"),
        ({"added": {"llama.rope.dimension_count": 1 << 20}}, "head_dim is 1048576, outside 1"),
        ({"added": {"general.alignment": 0}}, "its alignment is 0, not a power of two"),
        ({"added": {"llama.expert_count": 1 << 31 | 1}}, "llama.expert_count is 2147483649, outside 0"),
    ],
)
def test_what_a_file_can_not_be(change, why, tmp_path):
    path = save_pair(tmp_path / "model", **change)
    with pytest.raises(RagvecError, match=why) as error:
        load(path)
    assert "\n" not in str(error.value)


def _head(*, version: int = 3, tensors: int = 0, keys: int = 0, body: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + body + bytes(4096)


def _key(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


_LLAMA = _key("general.architecture", 8, _text("llama"))
_ONE = struct.pack("<IQIQ", 1, 32, 0, 0)  # a tensor of 32 float32 at the beginning


def _with(values: int, kind: int, *, count: int = 1) -> bytes:
    """A file with so many tensors of so many values, all at the same place."""
    told = (_text(str(number)) + struct.pack("<IQIQ", 1, values, kind, 0) for number in range(count))
    return _head(keys=1, tensors=count, body=_LLAMA + b"".join(told))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (_head(version=1), "its version is 1"),
        (_head(version=3 << 24), "its version is 50331648"),
        (_head(tensors=2**60), "it promises 1,152,921,504,606,846,976 tensors"),
        (_head(keys=2**63), "it promises 9,223,372,036,854,775,808 keys"),
        (_head(keys=1, body=_key("x", 9, struct.pack("<IQ", 0, 2**60))), "its lists have over 4,000,000 values"),
        (_head(keys=1, body=_key("x", 9, struct.pack("<IQ", 8, 3_000_000))), "it ends within its own description"),
        (_head(keys=1, body=_key("x", 9, struct.pack("<IQ", 9, 1))), "a list of values of type 9"),
        (_head(keys=1, body=_key("x", 8, struct.pack("<Q", 2**50))), "it ends within its own description"),
        (_head(keys=1, body=struct.pack("<Q", 2**40)), "a name in it has"),
        (_head(keys=1, body=_key("x", 77, b"")), "a value of the unknown type 77"),
        (_head(keys=2, body=_LLAMA * 2), "'general.architecture' comes twice"),
        (_head(keys=1, body=struct.pack("<Q", 1) + b"\xff" + bytes(8)), "is not a readable GGUF file: 'utf-8' codec"),
        (_head(), "it names no architecture"),
        (_head(keys=1, body=_LLAMA), "holds no weights"),
        (_head(keys=1, tensors=2, body=_LLAMA + (_text("a") + _ONE) * 2), "comes twice or has 1 dimensions"),
        (_head(keys=1, tensors=1, body=_LLAMA + _text("a") + struct.pack("<I", 2**31)), "has 2147483648 dimensions"),
        (_with(2**62, 0), "ends beyond the file"),
        (_with(32, 999), "is of type 999"),
        (_with(3, 8), "has the shape"),
        (_with(512, 0, count=60), "its tensors lie upon each other"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_one_line(content, why, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(RagvecError, match=why) as error:
        locate(str(path))
    assert "\n" not in str(error.value)


def test_a_file_cut_off_anywhere_is_one_line(pair, tmp_path):
    whole, path = pair.read_bytes(), tmp_path / "cut.gguf"
    end_of_head = min(tensor.start for tensor in read_head(pair).tensors.values())
    for length in (4, 5, 23, *range(24, end_of_head, 997), end_of_head, len(whole) - 33):
        path.write_bytes(whole[:length])
        with pytest.raises(Damaged, match=r"copy it again|is no GGUF file|is not a readable GGUF file"):
            locate(str(path))


def test_unknown_architectures_and_files_that_are_none(pair, tmp_path, capsys):
    path = tmp_path / "other.gguf"
    path.write_bytes(pair.read_bytes().replace(_text("llama"), _text("xlama"), 1))
    with pytest.raises(Damaged, match=r"\(architecture xlama\) does not load as a transformers model") as error:
        load(path)
    assert describe(path)["refusal"] == str(error.value)
    assert [one.found for one in examine(path, device="cpu") if one.state == FAILED] == [str(error.value)]
    path.write_bytes(b"GGML" + pair.read_bytes()[4:])
    with pytest.raises(NotFound, match=f"no model folder {path}"):
        locate(str(path))
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(NotFound, match=rf"name the file, {folder}/model.gguf"):
        locate(str(folder))


def test_without_the_package_it_says_what_to_install(pair, monkeypatch):
    monkeypatch.setattr("ragvec.encoder.gguf.find_spec", lambda name: None)
    with pytest.raises(WrongInput, match=r"pip install 'ragvec\[gguf\]'"):
        load(pair)
