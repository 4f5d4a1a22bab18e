"""The command line's manners: help with examples, wrong usage, completion, Ctrl-C, and bars that fit."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from ragvec.cli.main import COMMANDS, WAITING, build_app, main
from ragvec.ingest.meter import Meter
from ragvec.progress import progress_bar
from tests.conftest import REPOSITORY

WIDTH = 80


def said(capsys: pytest.CaptureFixture, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return end.value.code, *capsys.readouterr()


def command(name: str):
    return typer.main.get_command(build_app(name)).commands[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_short_of_nothing(name, capsys, monkeypatch):
    """Both spellings, within 80 columns, with examples that the command takes and a page that is there."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    code, out, err = said(capsys, name, "-h")
    assert (code, err, out) == (0, "", said(capsys, name, "--help")[1])
    module = import_module(f"ragvec.cli.{name}")
    assert out.endswith("Examples:\n" + "".join(f"  {line}\n" for line in module.EXAMPLES) + f"\nMore: docs/{module.PAGE}\n")
    assert (REPOSITORY / "docs" / module.PAGE).is_file()
    assert max(map(len, out.splitlines())) <= WIDTH
    for parameter in command(name).params:
        assert parameter.hidden or max(parameter.opts, key=len) in out or parameter.param_type_name == "argument"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_are_taken(name, monkeypatch):
    monkeypatch.setenv("RAGVEC_API_KEY", "secret")
    for line in import_module(f"ragvec.cli.{name}").EXAMPLES:
        words = shlex.split(line.split(" -- ")[-1])  # `claude mcp add my-documents -- ragvec mcp …`
        if words[0] == "export":
            assert words[1].startswith("OPENAI_")
            continue
        words = words[words.index("ragvec") :]
        words = words[: words.index(">")] if ">" in words else words
        chosen = command(words[1])
        chosen.make_context(words[1], list(words[2:]))  # raises UsageError for what it does not take


def test_the_options_of_search_stand_under_headings(capsys):
    _, out, _ = said(capsys, "search", "-h")
    headings = [line for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [
        "Arguments:", "Options:", "How they are found:", "Encoder:", "What is printed:", "Which hits:", "A running server:",
        "Examples:",
    ]  # fmt: skip
    which = out.partition("Which hits:\n")[2].partition("\n\n")[0]
    assert "--where " in which and "--offset" in which and "--rerank" not in which


def test_the_commands_are_summed_up_in_a_line_each(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    _, out, _ = said(capsys, "-h")
    assert "..." not in out.partition("Commands:\n")[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["searhc"], "No such command 'searhc'. Did you mean 'search'?"),
        (["search", "x", "--wher", "y"], "No such option: --wher (Possible options: --help, --where, --where-values)"),
        (["search", "x", "--mode", "words"], "'words' is not one of 'hybrid', 'dense', 'lexical'"),
        (["search", "x", "-k", "0"], "error: k is 0"),
        (["search", "x", "--offset", "-1"], "error: offset is -1"),
        (["search", ""], "error: a query is empty"),
        (["search", "red", "apple", "-k", "3"], "extra argument(s) (apple): in quotes it is one, 'red apple'"),
        (["ask", "what", "is", "this"], "extra argument(s) (is this): in quotes it is one, 'what is this'"),
        (["serve", "here"], "extra argument(s) (here)\n"),
        (["search", "x", "--queries", "f"], "error: both a query and --queries f are given"),
        (["encode", "corpus.jsonl"], "Missing option '--output'"),
        (["encode", "corpus.jsonl", "-o", "s", "--device", "gpu"], "error: device 'gpu' can't be used here"),
        (["index", "corpus.jsonl", "--overlap", "4"], "error: an overlap needs a length of passages"),
        (["index", "corpus.jsonl", "--language", "klingon"], "error: no stemmer for the language 'klingon'"),
        (["index", "corpus.jsonl", "-o", "http://x"], "error: --output is http://…, an address: give a folder"),
        (["index", "corpus.jsonl", "--recall", "7"], "error: the target recall is 7"),
        (["index", "corpus.jsonl", "--encoding", "utf-99"], "error: --encoding 'utf-99' is not known"),
        (["train", "mntpp", "r.json"], "error: unknown objective 'mntpp': did you mean 'mntp'?"),
        (["train", "mntp", "r.json"], "unknown key 'learning_rat': did you mean 'learning_rate'?"),
        (["train", "mntp", "r.json", "--set", "learning_rate"], "is not key=value"),
        (["export", ".", "--to", "onnx", "-o", "x"], "error: unknown format 'onnx'"),
        (["eval"], "error: no qrels"),
        (["eval", "x", "--test", "sign"], "error: unknown test 'sign'"),
        (["delete"], "error: say what to delete"),
        (["documents", "--count", "--distinct", "x"], "are different questions"),
        (["ask", "x"], "error: no language model is named"),
        (["serve", "--port", "99999"], "Invalid value for '--port'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_wrong_usage_ends_with_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    Path("corpus.jsonl").write_text('{"text": "plants make food"}\n')
    Path("r.json").write_text('{"model_name_or_path": "x", "train_file": "t", "output_dir": "o", "learning_rat": 1}')
    code, _, err = said(capsys, *words)
    assert code == 2 and message in err, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "x", "-i", "no-index"], "no index in no-index"),
        (["index", "missing.jsonl"], "missing.jsonl does not exist"),
        (["index", "bad.jsonl"], "bad.jsonl, line 1"),
        (["info", "no-folder"], "no-folder does not exist"),
    ],
)
def test_what_fails_without_wrong_usage_ends_with_1(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.jsonl").write_text("{\n")
    code, _, err = said(capsys, *words)
    assert code == 1 and message in err


def test_the_filters_mistakes_are_wrong_usage(capsys, tmp_path, tiny_decoder):
    from ragvec import Document, Encoder, Index

    with Index.create(tmp_path / "i", encoder=Encoder.load(tiny_decoder)) as index:
        index.add([Document("1", "plants make food", metadata={"year": 2020})])
    code, _, err = said(capsys, "search", "x", "-i", str(tmp_path / "i"), "--mode", "lexical", "--where", "year >")
    assert code == 2 and "the filter is wrong at column" in err


def completions(shell: str, line: str) -> list[str]:
    """What a shell is offered for a line, the cursor at its end."""
    count = len(line.split(" ")) - 1
    environment = {
        "_RAGVEC_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(count),
        "_TYPER_COMPLETE_ARGS": line,
    }
    code = "from ragvec.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True)
    return done.stdout.split()


def test_a_shell_completes_commands_options_and_choices():
    assert completions("bash", "ragvec se") == ["search", "serve"]
    assert completions("bash", "ragvec search --whe") == [
        "--where",
        "--where-values",
    ]
    assert completions("bash", "ragvec search x --mode l") == ["lexical"]


def test_completion_is_installed_by_an_option(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, out, _ = said(capsys, "--show-completion", "bash")
    assert code == 0 and "_RAGVEC_COMPLETE=complete_bash" in out and "complete -o default -F _ragvec_completion ragvec" in out


def test_what_is_said_of_an_interruption_is_true():
    encode, index = (import_module(f"ragvec.cli.{name}").goes_on for name in ("encode", "index"))
    assert encode(overwrite=False, corpus="x") == index(vector_field=None) == "the same command goes on where it stopped"
    assert encode(overwrite=True) == "the same command goes on where it stopped, without --overwrite"  # which begins anew
    assert index(vector_field="v") == "nothing was changed"  # brought vectors are stored in one transaction


def test_ctrl_c_ends_with_130_and_says_it(capsys, monkeypatch):
    def run() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ragvec.cli.info.run", run)
    assert said(capsys, "info") == (130, "", "interrupted\n")
    monkeypatch.setattr("ragvec.cli.info.goes_on", lambda: "the same command goes on", raising=False)
    assert said(capsys, "info") == (130, "", "interrupted: the same command goes on\n")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("total", [None, 137, 123_456_789])
def test_the_bar_of_encoding_fits_80_columns_whole(total, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress_bar("encode", total=total, unit="passages", show=True) as bar:
        bar.ncols = WIDTH
        meter = Meter(bar, total=total)
        meter.count_kept(120_000_000 if total and total > 1000 else 100, 99)
        meter._tokens = 9 * 10**9
        meter._show(1)
        bar.refresh()
    drawn = [line.rstrip("\n") for line in terminal.getvalue().split("\r")]
    assert max(map(len, drawn)) <= WIDTH
    assert drawn[-1].rstrip().endswith("tokens/s]")


@pytest.mark.parametrize(
    ("table", "package", "needs"),
    [
        ("score\tsentence1\tsentence2\n1\ta\tb\n2\tc\td\n", "scipy", "need scipy"),
        ("label\ttext\nx\ta\ny\tb\n", "sklearn", "need scikit-learn"),
    ],
)
def test_eval_misses_a_package_before_an_encoder_is_loaded(table, package, needs, capsys, monkeypatch, tmp_path):
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the encoder was loaded first")

    path = tmp_path / "set.test.tsv"
    path.write_text(table)
    (tmp_path / "set.train.tsv").write_text(table)
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    monkeypatch.setattr("ragvec.encoder.Encoder.load", load)
    code, _, err = said(capsys, "eval", str(path))
    assert code == 1 and needs in err and "pip install 'ragvec[eval]'" in err


def test_info_describes_a_model_of_the_hubs_cache(capsys, monkeypatch, tmp_path, tiny_decoder):
    repository = tmp_path / "models--org--tiny"
    shutil.copytree(tiny_decoder, repository / "snapshots" / ("1" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    code, out, _ = said(capsys, "info", "org/tiny")
    described = json.loads(out)
    assert (code, described["path"], described["architecture"], described["base_model"]) == (0, "org/tiny", "llama", "org/tiny")
    code, _, err = said(capsys, "info", "org/other")
    assert code == 1 and "org/other" in err and "cache" in err


def in_a_shell(line: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `ragvec` in a shell's line; `ragvec` is what this interpreter runs."""
    script = f'ragvec() {{ "{sys.executable}" -c "from ragvec.cli.main import main; main()" "$@"; }}; {line}'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full is Linux's")
@pytest.mark.parametrize("words", ["--version", "-h", "info {encoder}"])
def test_a_full_disk_below_the_output_is_told_in_one_line(words, tiny_decoder):
    words = words.format(encoder=tiny_decoder)
    assert in_a_shell(f"ragvec {words} > /dev/full") == (
        1,
        "",
        "error: what is printed can't be written: No space left on device\n",
    )


def test_output_that_nobody_reads_ends_quietly(tiny_decoder, tmp_path):
    (tmp_path / "corpus.jsonl").write_text("".join(f'{{"_id": "{n}", "text": "{"plants " * 40}"}}\n' for n in range(2000)))
    index = tmp_path / "index"
    assert in_a_shell(f"ragvec index {tmp_path}/corpus.jsonl -o {index} --encoder {tiny_decoder}")[0] == 0
    code, out, err = in_a_shell(f"ragvec documents -i {index} | head -1")  # more than a pipe holds
    assert (code, err) == (1, "") and json.loads(out)["_id"] == "0"
    assert in_a_shell(f"ragvec documents -i {index} --count >&-") == (0, "", "")
    assert in_a_shell(f"ragvec documents -i {index} - <&-") == (0, "", "")


@pytest.mark.parametrize(("place", "code"), [("{encoder}", 0), ("no-folder", 1)])
def test_a_process_without_streams_works(place, code, tiny_decoder):
    """As under pythonw."""
    script = "import sys; sys.stdin = sys.stdout = sys.stderr = None; from ragvec.cli.main import main; main()"
    words = [sys.executable, "-c", script, "info", place.format(encoder=tiny_decoder)]
    assert subprocess.run(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode == code


def test_threads_wait_asleep():
    """As OpenMP itself has read it, in a command's own process; what a user has set stays."""
    program = "from ragvec.cli.main import main\ntry: main(['doctor', '--help'])\nfinally: import torch"
    for told, policy in ({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"):
        kept = {name: value for name, value in os.environ.items() if name not in WAITING}
        done = subprocess.run(
            [sys.executable, "-c", program], env={**kept, **told, "OMP_DISPLAY_ENV": "TRUE"}, capture_output=True, text=True
        )
        assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr
