"""The documentation tells the truth: its marked commands run as written, its links lead somewhere, its help is today's.

A block after `<!-- run -->` is run whole in an empty folder. Blocks of a page run one after another in the same folder, so a
later one may use what an earlier one made. Installation commands are left out: CI runs them. Every block of bash or Python in
docs/ says whether it runs, which test runs it, or why none does; and every command takes the options it is shown with.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from itertools import takewhile
from pathlib import Path

import pytest
import typer

from ragvec.cli.main import build_app
from ragvec.data import data_path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "data").rglob("README.md"))]
WRITTEN = [page for page in PAGES if page.parent.name == "docs" and page.name not in ("api.md", "cli.md")]  # not generated
_MARK = re.compile(r"<!-- (run(: .+)?|step|not run: .+|tests/\w+\.py runs this) -->")
_BLOCK = re.compile(r"<!-- run[^>]*-->\s*```(\w+)\n(.*?)```", re.S)
_INSTALL = re.compile(r"^.*pip install[^&\n]* (?:\. |-e [^&\n]*)&& ", re.M)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, code) of a page's marked blocks."""
    return [(language, _INSTALL.sub("", code)) for language, code in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def run(language: str, code: str, folder: Path) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", "-euo", "pipefail", "-c", code] if language == "bash" else [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_marked_commands_run(page, tmp_path):
    shutil.copytree(data_path("."), tmp_path / "data", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(data_path("corpus.jsonl"), tmp_path / "corpus.jsonl")
    for language, code in blocks(page):
        out = run(language, code, tmp_path)
        assert out.returncode == 0, f"{code}\n{out.stdout}\n{out.stderr}"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_every_block_runs_or_says_why_not(page):
    for mark, start in re.findall(r"^(.*)\n```(?:bash|python)\n(.*)", page.read_text(encoding="utf-8"), re.M):
        assert _MARK.fullmatch(mark), f"{page.name}: no mark above the block that begins with {start}"
        assert all((ROOT / test).is_file() for test in re.findall(r"tests/\w+\.py", mark)), mark


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_take_what_they_are_shown_with(page):
    """Those that don't run, too. What explains a command stands behind # or several spaces."""
    for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S):
        for line in re.findall(r"^(?:[A-Z_]+=\S+ )?ragvec (\w+ [^$\n]+)$", code, re.M) if language in ("", "bash") else ():
            lexer = shlex.shlex(re.split(r" {3,}", line)[0], posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            name, *words = takewhile(lambda word: word not in ("|", ">", ">>", "&", "&&", ";"), lexer)
            typer.main.get_command(build_app(name)).commands[name].make_context(name, words)  # raises UsageError


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_names_every_command():
    from ragvec.cli.main import COMMANDS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in COMMANDS if f"ragvec {name}" not in text]
    assert not missing


KOREAN = [page for page in PAGES if page.name.endswith(".ko.md")]


@pytest.mark.parametrize("page", KOREAN, ids=lambda page: page.name)
def test_korean_pages_give_the_commands_of_the_english_ones(page):
    """Or commands that are run themselves: blocks with a mark before them."""
    english = _unquoted("\n".join(page.read_text(encoding="utf-8") for page in PAGES if page not in KOREAN))
    unmarked = re.sub(r"<!-- (?:run|step)[^>]*-->\s*```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    commands = [line for block in re.findall(r"```bash\n(.*?)```", unmarked, re.S) for line in block.splitlines() if line]
    assert not [line for line in commands if _unquoted(line) not in english]


def _unquoted(text: str) -> str:
    """Without what is quoted: queries are in the page's own language."""
    return re.sub(r'"[^"\n]*"', '""', text)


def test_nothing_names_a_machine():
    """No path of somebody's computer in anything that ships."""
    pattern = re.compile(r"(?<![\w.])/(?:root|home|work|Users)/\w")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".json", ".toml", ".txt", ".jsonl"} and path.is_file():
            assert not pattern.search(path.read_text(encoding="utf-8")), name


def test_the_reference_pages_are_what_the_code_says():
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "reference.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("place", re.findall(r"`(ragvec[\w.]*:[\w.]+)`", (ROOT / "docs/walks.md").read_text(encoding="utf-8")))
def test_every_step_of_the_walks_exists(place):
    module, _, name = place.partition(":")
    value = import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    assert callable(value)
