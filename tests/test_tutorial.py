"""The tutorials are true: their commands are carried out in order in an empty folder, and print what the pages show."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from ragvec.cli.main import main
from ragvec.cli.output import Format
from ragvec.data import data_path
from tests.conftest import REPOSITORY

_STEP = re.compile(r"<!-- step -->\n```bash\n(.*?)```\n(?:\n(?:[^\n]+\n\n)?```text\n(.*?)```\n)?", re.S)
_SECONDS = re.compile(r"\d+\.\d s\b")
_SCORE = re.compile(r"~? ?\d\.\d{4}\b")
NEAR = 0.05  # scores of bfloat16 and float32 differ by less


def steps(page: str) -> list[tuple[str, str | None]]:
    """(commands, what they show) of a page's steps; None = nothing is shown."""
    return [(code, shown or None) for code, shown in _STEP.findall((REPOSITORY / "docs" / page).read_text(encoding="utf-8"))]


def carry_out(code: str) -> None:
    """Run a step's lines: those of ragvec here, everything else by bash."""
    if not code.startswith("ragvec "):
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
        return
    for line in code.splitlines():
        with pytest.raises(SystemExit) as end:
            main(shlex.split(line)[1:])
        assert end.value.code == 0, line


def plain(text: str) -> list[str]:
    return [_SCORE.sub("SCORE", _SECONDS.sub("TIME", line)).rstrip() for line in text.strip().splitlines()]


def scores(text: str) -> list[float]:
    return [float(found.strip("~ ")) for found in _SCORE.findall(text)]


@pytest.mark.parametrize("page", ["tutorial.md", "tutorial.ko.md"])
def test_a_tutorial_shows_what_happens(page, tmp_path, monkeypatch, capsys):
    follow(page, tmp_path, monkeypatch, capsys, least=5)


def follow(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *, least: int) -> None:
    """Carry a page's steps out in an empty folder as on a terminal; at least so many show something."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("RAGVEC_INDEX", raising=False)
    monkeypatch.setattr("ragvec.cli.search.default_format", lambda: Format.table)  # as on a terminal
    seen = 0
    for code, shown in steps(page):
        carry_out(code)
        printed = capsys.readouterr().out
        if shown is not None:
            assert plain(printed) == plain(shown), code
            assert scores(printed) == pytest.approx(scores(shown), abs=NEAR), code
            seen += 1
    assert seen >= least and (tmp_path / "ragvec-index" / "index.sqlite").is_file()


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_a_readme_shows_what_happens(page, tmp_path, monkeypatch, capsys):
    shutil.copy(data_path("corpus.jsonl"), tmp_path / "corpus.jsonl")
    follow(f"../{page}", tmp_path, monkeypatch, capsys, least=1)


def test_both_tutorials_take_the_same_steps():
    verbs = [
        [code.split()[:2] for code, _ in steps(page) if code.startswith("ragvec")] for page in ("tutorial.md", "tutorial.ko.md")
    ]
    assert verbs[0] == verbs[1] and len(verbs[0]) >= 5


def test_the_tutorials_lead_on(tmp_path):
    for page in ("tutorial.md", "tutorial.ko.md"):
        text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
        links = re.findall(r"\]\(([\w.]+\.md)", text)
        assert {"training.md", "serving.md", "retrieval.md"} <= set(links)
        assert all((REPOSITORY / "docs" / Path(link)).is_file() for link in links)
