"""What pip installs: one name in site-packages, with the command and the data in it."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    import build

    folder = tmp_path_factory.mktemp("wheel")
    builder = build.ProjectBuilder(ROOT)
    return Path(builder.build("wheel", folder))


def test_the_wheel_holds_one_package_and_its_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "ragvec",
        *(name.split("/")[0] for name in names if ".dist-info/" in name),
    }
    for needed in (
        "ragvec/cli/main.py",
        "ragvec/data/corpus.jsonl",
        "ragvec/data/encoder/model.safetensors",
        "ragvec/py.typed",
        "ragvec/serve/page/map.js",
        "ragvec/serve/search.html",
        "ragvec/data/recipes/schema.json",
    ):
        assert needed in names
    packages = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "ragvec").rglob("*.py")}
    assert all(any(name.startswith(f"{package}/") for name in names) for package in packages), "a subpackage is not listed"
    assert wheel.stat().st_size < 60e6


def test_a_checkout_runs_without_an_installation():
    """As `python -m tests.bench.encode` does where only the libraries are installed."""
    check = (
        "import sys; sys.meta_path[:] = [one for one in sys.meta_path if 'editable' not in repr(one)]; import tests.bench; "
        "import ragvec.cli.main; from ragvec.data import data_path; print(data_path('corpus.jsonl'))"
    )
    out = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.strip() == str(ROOT / "data" / "corpus.jsonl")


def test_the_installed_command_runs_from_elsewhere(wheel, tmp_path):
    """In an environment that sees this one's libraries but not the checkout: `ragvec index`, `ragvec search`."""
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    site = next((home / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    import numpy

    (site / "libraries.pth").write_text(str(Path(numpy.__file__).parent.parent), encoding="utf-8")
    python = home / "bin" / "python"
    run = "from ragvec.cli.main import main; main()"
    where = subprocess.run(
        [python, "-c", "import ragvec; print(ragvec.__file__)"], cwd=tmp_path, capture_output=True, text=True
    )
    assert Path(where.stdout.strip()).is_relative_to(site), "the checkout's editable install must not shadow the wheel"
    corpus = site / "ragvec" / "data" / "corpus.jsonl"
    index = subprocess.run([python, "-c", run, "index", corpus], cwd=tmp_path, capture_output=True, text=True)
    assert index.returncode == 0, index.stderr
    search = subprocess.run(
        [python, "-c", run, "search", "how do plants make food?", "-k", "3"], cwd=tmp_path, capture_output=True, text=True
    )
    assert search.returncode == 0, search.stderr
    assert len(search.stdout.splitlines()) == 3


def test_the_version_is_written_once():
    import ragvec

    out = subprocess.run([sys.executable, "-m", "pip", "show", "ragvec"], capture_output=True, text=True, check=True).stdout
    assert f"Version: {ragvec.__version__}" in out
