"""What an encoder's folder may say: values of a wrong type or size, files that are none, names that lead out of it."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ragvec.cli.main import main
from ragvec.doctor.info import describe
from ragvec.encoder import Encoder
from ragvec.encoder.checkpoint import check_free
from ragvec.encoder.conversion import convert
from ragvec.encoder.sources import locate
from ragvec.encoder.weights import load_tokenizer
from ragvec.errors import Damaged, NotFound, RagvecError
from ragvec.index import Index
from ragvec.index.encoder import load_encoder
from ragvec.train.checkpoints import remove_checkpoints, remove_leftovers
from ragvec.train.data.pieces import tokenize
from ragvec.train.recipe import Recipe
from tests.test_index import SETTINGS, passages_named, put, unit_vectors


@pytest.fixture(scope="module")
def converted(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "encoder"
    convert(str(tiny_decoder), folder)
    return folder


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted, tmp_path / "encoder"))


def change(path: Path, **values) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **values}))


def run(words: list[str], capsys: pytest.CaptureFixture) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(words)
    said = capsys.readouterr()
    return end.value.code, said.err + said.out


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("ragvec.json", {"max_length": 1.5}, "ragvec.json: max_length is 1.5, not a whole number"),
        ("ragvec.json", {"truncate_dim": "8"}, "ragvec.json: truncate_dim is '8', not a whole number"),
        ("ragvec.json", {"query_instruction": 5}, "ragvec.json: query_instruction is 5, not a text"),
        ("ragvec.json", {"max_length": 0}, "ragvec.json: max_length 0 and"),
        ("ragvec.json", {"packed": 1}, "ragvec.json: packed is 1, not true or false"),
        ("ragvec.json", {"adapters": "x"}, "ragvec.json: adapters is 'x', not a list"),
        ("ragvec.json", {"template": {"prefix": 1}}, "ragvec.json: template.prefix is 1, not a text"),
        ("ragvec.json", {"format": "1"}, "ragvec.json: format is '1', not a whole number"),
        ("config.json", {"num_labels": 10**9}, "config.json: num_labels is 1000000000, outside 1"),
        ("config.json", {"hidden_size": "384"}, "config.json: hidden_size is '384', not a whole number"),
        ("config.json", {"num_hidden_layers": 10**9}, r"config.json: num_hidden_layers is 1000000000, outside 1 … \d+"),
        ("config.json", {"vocab_size": 10**12}, "config.json: vocab_size is 1000000000000, outside"),
        ("config.json", {"type_vocab_size": 10**9}, "config.json: type_vocab_size is 1000000000, outside"),
        ("config.json", {"n_layers": 20_000}, "config.json: n_layers is 20000, outside"),
        (
            "config.json",
            {"model_type": "bert", "max_position_embeddings": 60_000_000},
            "max_position_embeddings is 60000000, outside",
        ),
        (
            "config.json",
            {"_attn_implementation": "some/kernel"},
            "config.json: _attn_implementation 'some/kernel' asks for a program",
        ),
        ("config.json", {"model_type": []}, r"config.json: model_type is \[\], not a text"),
        ("config.json", {"text_config": 5}, "config.json: text_config is 5, not an object"),
    ],
)
def test_a_value_of_another_type_is_one_line_everywhere(folder: Path, name: str, values: dict, message: str, capsys) -> None:
    change(folder / name, **values)
    for use in (lambda: Encoder.load(folder, device="cpu"), lambda: describe(folder)):
        with pytest.raises(RagvecError, match=message) as error:
            use()
        assert "\n" not in str(error.value)
    for command in ("info", "doctor"):
        code, said = run([command, str(folder)], capsys)
        assert code == 1
        assert re.search(message, said)


@pytest.mark.parametrize("name", ["ragvec.json", "config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["[]", "5", "null", "{", "[" * 100_000, '"x"', ""])
def test_a_file_that_is_no_object_is_one_line(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(RagvecError, match=name if name != "tokenizer.json" else "holds no tokenizer that loads") as error:
        Encoder.load(folder, device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_pipe_does_not_hang(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(RagvecError, match=f"{name} is no file that can be read"):
        Encoder.load(folder, device="cpu")


@pytest.mark.parametrize(("path", "message"), [("..", "leads out"), ("/etc", "leads out"), (5, "path is 5, not a text")])
def test_a_module_lies_inside_its_folder(folder: Path, path, message: str) -> None:
    (folder / "ragvec.json").unlink()
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Transformer", "path": path}]))
    with pytest.raises(RagvecError, match=f"modules.json: .*{message}"):
        locate(str(folder))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "names no base_model_name_or_path"),
        ({"base_model_name_or_path": 5}, "adapter_config.json: base_model_name_or_path is 5, not a text"),
        ({"base_model_name_or_path": "."}, "names a base that names a base"),
        ({"base_model_name_or_path": "~nobody-here/x"}, "can't be a model folder"),
        ({"base_model_name_or_path": "x" * 5000}, "can't be a model folder|no model folder"),
    ],
)
def test_an_adapter_names_a_base_that_can_be(tmp_path: Path, config: dict, message: str) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(RagvecError, match=message):
        locate(str(tmp_path))


def test_a_rank_that_the_weights_lack_is_refused(folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder), "r": 10**9}))
    with pytest.raises(RagvecError, match="adapter_config.json: r is 1000000000, outside 1"):
        locate(str(adapter))


def test_a_pattern_that_takes_for_ever_is_one_line(folder: Path, capsys) -> None:
    """The library that matches it gives up, and panics: which is no Exception."""
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    change(folder / "tokenizer.json", pre_tokenizer=split)
    endless = "a" * 40 + "!"
    with pytest.raises(Damaged, match="the tokenizer can't read a text: .*retry-limit"):
        Encoder.load(folder).encode_documents([endless])
    with pytest.raises(Damaged, match="the tokenizer can't read a text"):
        tokenize(load_tokenizer(folder), [endless])
    path = folder.with_name("texts.jsonl")
    path.write_text(json.dumps({"text": endless}))
    code, said = run(["index", str(path), "-e", str(folder), "-o", str(folder.with_name("index"))], capsys)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 1 and "no passage of this part could be encoded" in line and "the tokenizer can't read a text" in line


def test_half_a_surrogate_pair_is_no_text(folder: Path) -> None:
    change(folder / "ragvec.json", query_instruction="\ud800")
    with pytest.raises(Damaged, match=r"ragvec.json: query_instruction is '\\ud800', not a text"):
        locate(str(folder))


def test_a_path_of_bytes_that_are_no_text_is_printed(folder: Path) -> None:
    named = folder.rename(folder.with_name(os.fsdecode(b"caf\xe9")))
    words = [sys.executable, "-c", "from ragvec.cli.main import main; main()", "info", named]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and json.loads(done.stdout)["path"].endswith("caf\udce9")


def test_arguments_are_checked_as_files_are(folder: Path) -> None:
    with pytest.raises(RagvecError, match="max_length is '8', not a whole number"):
        Encoder.load(folder, device="cpu", max_length="8")


COMMANDS = {
    "encode": ["c.jsonl", "-o", "shards", "-e"],
    "index": ["c.jsonl", "-o", "index", "-e"],
    "plan": ["c.jsonl", "-e"],
    "mine": ["pairs.jsonl", "-o", "mined.jsonl", "-e"],
    "eval": ["sts.tsv", "-e"],
    "convert": ["-o", "encoder"],
    "export": ["--to", "hf", "-o", "exported"],
    "train": ["simcse", "recipe.json", "--set"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_takes_a_model_can_be_kept_off_the_hub(command: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.jsonl").write_text('{"text": "a"}\n')
    Path("pairs.jsonl").write_text('{"query": "q", "positive": "p"}\n')
    Path("sts.tsv").write_text("sentence1\tsentence2\tscore\na\tb\t1\na\tc\t2\n")
    Path("recipe.json").write_text('{"output_dir": "out", "train_file": "c.jsonl"}')
    asked = []

    def snapshot(source, *, local_files_only, **_):
        from huggingface_hub.errors import LocalEntryNotFoundError

        asked.append((source, local_files_only))
        raise LocalEntryNotFoundError("not here")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)  # there is no network to watch here
    model = "model_name_or_path=someone/their-model" if command == "train" else "someone/their-model"
    for words, offline in ([], False), (["--offline"], True):
        asked.clear()
        code, said = run([command, *COMMANDS[command], model, *words], capsys)
        assert (code, asked) == (1, [("someone/their-model", offline)])
        [error] = [line for line in said.splitlines() if not line.startswith("loading ")]
        assert error.startswith("error: no folder someone/their-model")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "ragvec.json", "tokenizer_config.json"])
def test_a_file_without_end_is_not_read(folder: Path, name: str) -> None:
    os.truncate(folder / name, 1 << 40)  # a hole, which takes no room on the disk
    with pytest.raises(Damaged, match=rf"{name} has 1,099,511,627,776 bytes, over 268,435,456"):
        locate(str(folder))


def test_an_index_that_names_a_hub_id_says_so_and_offline_forbids_it(tmp_path: Path, caplog, capsys, monkeypatch) -> None:
    path = tmp_path / "index"
    settings = SETTINGS.__class__("someone/their-model", "f" * 32, SETTINGS.dimension)
    with Index.create_with(path, settings) as index:
        put(index, passages_named(range(3)), unit_vectors(3))
    asked = []

    def snapshot(source, *, local_files_only, **_):
        from huggingface_hub.errors import LocalEntryNotFoundError

        asked.append((source, local_files_only))
        raise LocalEntryNotFoundError("not here")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)  # there is no network to watch here
    with caplog.at_level(logging.WARNING, "ragvec"), pytest.raises(NotFound):
        load_encoder(settings)
    assert [record.getMessage() for record in caplog.records] == [
        "the index names the model someone/their-model, which is not here: asking the hub for it (`offline` forbids that)"
    ]
    assert asked == [("someone/their-model", True), ("someone/their-model", False)]
    asked.clear()
    code, said = run(["search", "text", "-i", str(path), "--offline"], capsys)
    assert (code, asked) == (1, [("someone/their-model", True)])
    assert said.startswith("error: no folder someone/their-model")


def test_replacing_an_encoder_loses_nothing_else(folder: Path, tiny_decoder: Path) -> None:
    check_free(folder, overwrite=True)
    (folder / "notes.txt").write_text("years of work")
    with pytest.raises(RagvecError, match="holds 'notes.txt', which is no part of an encoder and would be lost"):
        convert(str(tiny_decoder), folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "years of work"


def test_a_run_removes_only_what_a_run_makes(tmp_path: Path) -> None:
    recipe = Recipe(objective="mntp", model_name_or_path="x", output_dir=str(tmp_path / "out"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("years of work")
    checkpoints = tmp_path / "out" / "checkpoints"
    for name in ("checkpoint-5", "mine", "checkpoint-6.12.tmp"):
        (checkpoints / name).mkdir(parents=True)
    (checkpoints / "checkpoint-7").symlink_to(outside)
    (tmp_path / "out" / "notes.tmp").write_text("years of work")
    (tmp_path / "out" / "result.12.tmp").symlink_to(outside)
    (tmp_path / "out" / "backup.2024.tmp").mkdir()
    remove_leftovers(recipe)
    remove_checkpoints(recipe)
    assert sorted(entry.name for entry in checkpoints.iterdir()) == ["checkpoint-7", "mine"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["backup.2024.tmp", "checkpoints", "notes.tmp"]
    assert (outside / "precious").read_text() == "years of work"
