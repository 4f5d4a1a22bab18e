"""Random damage to folders of indices and encoders; the long run is `python -m pytest -m slow tests/test_mutations.py`."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ragvec.encoder.conversion import convert
from ragvec.index import Index
from tests.conftest import REPOSITORY
from tests.test_index import SETTINGS, passages_named, put, unit_vectors

BATCH = 100  # seeds of one process
TIMEOUT_S = 3000  # of a batch; each use has its own, in tests.mutations
FEW = 30
MANY = 1000


@pytest.fixture(scope="module")
def folders(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a segment of each kind and a deleted passage, and an encoder."""
    folder = tmp_path_factory.mktemp("folders")
    with Index.create_with(folder / "index", replace(SETTINGS, faiss_key="IVF16,SQ8")) as index:
        put(index, passages_named(range(1200)), unit_vectors(1200))
        put(index, passages_named(range(1200, 1230)), unit_vectors(30))
        index.delete(["7"])
    assert (folder / "index" / "segments" / "0001" / "index.faiss").is_file()
    convert(str(tiny_decoder), folder / "encoder")
    return folder


def wrong_seeds(kind: str, folder: Path, first: int, count: int) -> str:
    """What tests.mutations says of these seeds."""
    words = [sys.executable, "-m", "tests.mutations", kind, str(folder / kind), str(first), str(count)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
    return done.stdout + (f"ended by {done.returncode}: {done.stderr[-2000:]}" if done.returncode else "")


@pytest.mark.parametrize("kind", ["index", "encoder"])
def test_damage_is_one_line_and_stays_inside(folders: Path, kind: str) -> None:
    assert wrong_seeds(kind, folders, 0, FEW) == ""


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, MANY, BATCH))
@pytest.mark.parametrize("kind", ["index", "encoder"])
def test_much_damage_is_one_line_and_stays_inside(folders: Path, kind: str, first: int) -> None:
    assert wrong_seeds(kind, folders, first, min(BATCH, MANY - first)) == ""
