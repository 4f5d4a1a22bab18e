"""How the command line says what the library found wrong: options for its arguments, an exit code by the class."""

import json
from pathlib import Path

import pytest

from ragvec.cli.arguments import as_options
from ragvec.cli.main import build_app, main
from ragvec.errors import Busy


def ragvec(capsys: pytest.CaptureFixture, *words: str | Path) -> tuple[int, str]:
    """Exit code and stderr of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code, capsys.readouterr().err


class Option:
    def __init__(self, name: str, *opts: str) -> None:
        self.name, self.opts = name, list(opts)


PARAMETERS = [
    Option("index_key", "--index-key"),
    Option("index", "--index", "-i"),
    Option("k", "-k"),
    Option("question", "question"),
]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("leave `index` out", "leave --index out"),
        ("`faiss_key` 'X' makes no index", "--index-key 'X' makes no index"),  # under another name
        ("`path` is a file", "--index is a file"),
        ("`question` is empty", "QUESTION is empty"),
        ("ask for less `k`", "ask for less `k`"),  # no long option
        ("raise `max_length`", "raise `max_length`"),  # not this command's
        ("run `ragvec compact --index-key auto`", "run `ragvec compact --index-key auto`"),
        ("choose index, index_key or --run", "choose index, index_key or --run"),
    ],
)
def test_arguments_are_named_as_the_commands_options(said, shown):
    assert as_options(said, PARAMETERS) == shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["index", "rows.jsonl", "--overlap", "2"], "an overlap needs a length of passages: give --passage-tokens too"),
        (["index", "rows.jsonl", "rows.jsonl", "--source", "x"], "--source and --id-prefix are for one corpus at a time"),
        (["index", "-", "--sync"], "--sync needs a whole corpus, and a pipe that broke looks like one that ended"),
        (["index", "rows.jsonl", "--index-key", "Nonsense7"], "--index-key 'Nonsense7' makes no FAISS index of "),
        (["index", "long.jsonl", "--max-value-mb", "1"], "break it up, or allow more (--max-value-mb)"),
        (["eval", "pairs.tsv", "--mode", "lexical"], "it takes no --mode"),
        (["eval", "--topics", "topics.tsv"], "name a BEIR folder, or pass --qrels FILE"),
        (["train", "mntp", "recipe.json", "--set", "lora_r"], "--set 'lora_r' is not key=value"),
        (["encode", "rows.jsonl", "-o", "shards", "--device", "gpu"], "choose cpu, or leave --device out"),
    ],
)  # fmt: skip
def test_what_the_library_says_of_arguments_is_said_of_options(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"_id": "a", "text": "one"}\n')
    Path("long.jsonl").write_text(json.dumps({"_id": "a", "text": "x" * (1 << 20)}) + "\n")
    Path("pairs.tsv").write_text("one\ttwo\t3.0\nthree\tfour\t1.0\n")
    Path("topics.tsv").write_text("1\tone\n")
    Path("recipe.json").write_text("{}")
    code, err = ragvec(capsys, *words)
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == (1 if "long.jsonl" in words else 2) and said in line and "`" not in line


def test_the_exit_code_is_the_classes(monkeypatch, capsys):
    class Later(Busy):
        exit_code = 75

    def run() -> None:
        raise Later("come again")

    monkeypatch.setattr("ragvec.cli.info.run", run)
    assert build_app("info") is not None
    assert ragvec(capsys, "info") == (75, "error: come again\n")
