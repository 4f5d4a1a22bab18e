"""FAISS codes from a stranger: damaged, of other vectors, or with parameters that are none, they are refused in one line."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ragvec.errors import Damaged
from ragvec.index import Index
from tests.test_index import DIMENSION, SETTINGS, found, passages_named, put, unit_vectors
from tests.test_index_safety import refused, sql


@pytest.fixture(scope="module")
def approximate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose segment is searched through FAISS's codes."""
    path = tmp_path_factory.mktemp("approximate") / "index"
    settings = SETTINGS.__class__("an-encoder", "f" * 32, DIMENSION, faiss_key="IVF16,SQ8")
    with Index.create_with(path, settings) as index:
        put(index, passages_named(range(2000)), unit_vectors(2000))
    assert (path / "segments" / "0001" / "index.faiss").is_file()
    return path


def test_a_flipped_bit_in_faiss_codes_is_found_before_faiss_reads_them(approximate: Path, tmp_path: Path) -> None:
    path = tmp_path / "index"
    shutil.copytree(approximate, path)
    codes = path / "segments" / "0001" / "index.faiss"
    whole = codes.read_bytes()
    for place in (0, 5, 40, len(whole) // 2, len(whole) - 1):
        codes.write_bytes(whole[:place] + bytes([whole[place] ^ 0x80]) + whole[place + 1 :])
        with Index.open(path) as index, pytest.raises(Damaged, match="index.faiss is damaged, its checksum is another"):
            index.search(unit_vectors(1), 5)
    with Index.open(path) as index:
        index.compact(faiss_key="exact")
        assert found(index, unit_vectors(1), 1)[0][0][0] == "0"


@pytest.mark.parametrize("effort", ["nprobe=-4", "nprobe=1e9", "candidates=99999999999999", "size=4", "nprobe"])
def test_an_effort_that_is_none_is_one_line(approximate: Path, tmp_path: Path, effort: str) -> None:
    path = tmp_path / "index"
    shutil.copytree(approximate, path)
    sql(path, f"UPDATE segments SET search_parameters = '{effort}'")
    refused(path, "segment 1: ")


def test_codes_of_other_vectors_are_refused(approximate: Path, tmp_path: Path) -> None:
    """With the right checksum too: an index of fewer rows than the segment would find rows that are not there."""
    other, path = tmp_path / "other", tmp_path / "index"
    shutil.copytree(approximate, path)
    with Index.create_with(other, SETTINGS.__class__("an-encoder", "f" * 32, DIMENSION, faiss_key="IVF16,SQ8")) as index:
        put(index, passages_named(range(2500)), unit_vectors(2500))
    shutil.copy(other / "segments" / "0001" / "index.faiss", path / "segments" / "0001" / "index.faiss")
    with closing(sqlite3.connect(other / "index.sqlite")) as connection:
        theirs = json.loads(connection.execute("SELECT files FROM segments").fetchone()[0])["index.faiss"]
    with closing(sqlite3.connect(path / "index.sqlite", isolation_level=None)) as connection:
        files = json.loads(connection.execute("SELECT files FROM segments").fetchone()[0])
        connection.execute("UPDATE segments SET files = ?", (json.dumps({**files, "index.faiss": theirs}),))
    with Index.open(path) as index, pytest.raises(Damaged, match="holds 2500 vectors of 24 dimensions, not 2000 of 24"):
        index.search(unit_vectors(1), 5)
