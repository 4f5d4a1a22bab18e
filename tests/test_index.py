"""The index folder: what is found in it, what it refuses, what it says of itself."""

import json
import random
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ragvec.errors import RagvecError
from ragvec.files import sha256_file
from ragvec.index import Index, IndexSettings, segment
from ragvec.index.ann import exact
from ragvec.index.ann.exact import RowFilter, search_exact
from ragvec.index.changes import Changes
from ragvec.records import Document, Passage
from tests.conftest import REPOSITORY

DIMENSION = 24
SETTINGS = IndexSettings("an-encoder", "f" * 32, DIMENSION)


class CountingEncoder:
    """Deterministic vectors made from a text's own hash, and a list of every text that was encoded."""

    def __init__(self) -> None:
        self.fingerprint, self.dimension, self.source = SETTINGS.fingerprint, DIMENSION, SETTINGS.encoder_source
        self.settings = SimpleNamespace(query_instruction="find:", document_instruction="")
        self.encoded: list[str] = []
        self.prompts = SimpleNamespace(room=lambda instruction="": 10_000)  # tokens: no text here is longer

    def count_tokens(self, texts):
        return [len(text.split()) for text in texts]

    def encode_documents(self, texts, *, instruction="", normalize=True):
        self.encoded.extend(texts)
        return self.encode_counted(texts, instruction=instruction, normalize=normalize).vectors

    def encode_counted(self, texts, *, instruction, normalize=True):
        vectors = np.vstack([unit_vectors(1, seed=Passage("", "", text).content_hash) for text in texts])
        return SimpleNamespace(vectors=vectors, token_counts=np.ones(len(texts), int), truncated=np.zeros(len(texts), bool))


def unit_vectors(rows: int, seed=0, dimension: int = DIMENSION) -> np.ndarray:
    """(rows, dimension) float32 of length 1."""
    vectors = np.random.default_rng(int(str(seed)[:8], 16)).standard_normal((rows, dimension), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def passages_named(names) -> list[Passage]:
    return [Passage(str(name), str(name), f"text of {name}", metadata={"name": str(name)}) for name in names]


def put(index: Index, passages: list[Passage], vectors: np.ndarray) -> None:
    """Add passages with ready vectors in one commit."""
    with index.writing() as writer:
        changes = Changes(writer.connection)
        rows = [row for row, passage in enumerate(passages) if changes.is_fresh(passage)]
        changes.finish()
        writer.commit([([passages[row] for row in rows], vectors[rows])] if rows else [], changes)


def found(index: Index, queries: np.ndarray, k: int, allowed=None) -> list[list[tuple[str, float]]]:
    """(doc_id, score) of every result, best first."""
    result = index.search(queries, k, allowed=allowed)
    return [
        list(zip([p.doc_id for p in index.passages(ids.tolist())], scores.tolist(), strict=True))
        for ids, scores in zip(result.ids, result.scores, strict=True)
    ]


def expected(names, vectors: np.ndarray, queries: np.ndarray, k: int) -> list[list[tuple[str, float]]]:
    """The same by numpy alone, on the vectors as they are stored."""
    scores = queries @ vectors.astype(np.float16).astype(np.float32).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[(str(names[row]), float(line[row])) for row in rows] for rows, line in zip(order, scores, strict=True)]


def same(left, right) -> bool:
    """Equal ids in equal order, scores within float32's rounding."""
    return all(
        [name for name, _ in a] == [name for name, _ in b] and np.allclose([s for _, s in a], [s for _, s in b], atol=1e-5)
        for a, b in zip(left, right, strict=True)
    )


@pytest.fixture
def index(tmp_path: Path):
    with Index.create_with(tmp_path / "index", SETTINGS) as made:
        yield made


def test_search_over_segments_equals_numpy(index: Index) -> None:
    vectors, queries = unit_vectors(900), unit_vectors(7, seed=1)
    for start in range(0, 900, 300):
        put(index, passages_named(range(start, start + 300)), vectors[start : start + 300])
    assert same(found(index, queries, 12), expected(range(900), vectors, queries, 12))
    assert len(index) == 900
    assert [segment["rows"] for segment in index.describe()["segments"]] == [300, 300, 300]


@pytest.mark.parametrize("queries", [1, 40])
@pytest.mark.parametrize("filtered", [False, True])
def test_both_exact_searches_equal_numpy(monkeypatch: pytest.MonkeyPatch, queries: int, filtered: bool) -> None:
    monkeypatch.setattr(exact, "BLOCK_VALUES", 2**20)  # 4,096 rows at a time
    vectors = unit_vectors(20_000, dimension=256).astype(np.float16)  # enough values for FAISS over the mapped file
    wanted = unit_vectors(queries, seed=1, dimension=256)
    allowed = np.arange(20_000) % 3 > 0 if filtered else None
    result = search_exact(vectors, wanted, 10, RowFilter(allowed) if filtered else None)
    scores = wanted @ vectors.astype(np.float32).T
    if filtered:
        scores[:, ~allowed] = -np.inf
    assert np.array_equal(result.ids, np.argsort(-scores, axis=1, kind="stable")[:, :10])
    assert np.allclose(result.scores, -np.sort(-scores, axis=1)[:, :10], atol=1e-5)


def test_a_score_that_is_no_number_finds_nothing_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BLOCK_VALUES", 60 * DIMENSION)  # fewer rows than are asked for
    vectors, queries = unit_vectors(5000).astype(np.float16), unit_vectors(20, seed=1)
    wanted = search_exact(vectors, queries, 100, None).ids
    queries[3] = np.nan  # as sums beyond float32 are
    odd = RowFilter(np.arange(5000) % 2 > 0)
    assert (search_exact(vectors, queries, 100, odd).ids[3] == -1).all()
    result = search_exact(vectors, queries, 100, None)
    assert (result.ids[3] == -1).all()
    assert np.array_equal(np.delete(result.ids, 3, axis=0), np.delete(wanted, 3, axis=0))


def test_a_segment_written_in_pieces_holds_all_rows_and_its_checksums(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "BLOCK_VALUES", 7 * DIMENSION)
    vectors = unit_vectors(100)
    put(index, passages_named(range(100)), vectors)
    folder = segment.segment_folder(index.path, 1)
    assert np.array_equal(segment.map_vectors(folder, 100, DIMENSION), vectors.astype(np.float16))
    with index.reading() as view:
        (opened,) = view.segments
        assert opened.ids.tolist() == sorted(set(opened.ids.tolist())) and len(opened.ids) == 100
        for name, file in opened.record.files.items():
            assert file == {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
    vectors[57, 2] = np.inf
    with pytest.raises(RagvecError, match="vector 57 holds NaN, infinity"):
        put(index, passages_named(range(100, 200)), vectors)
    assert len(index) == 100


def test_vectors_of_a_large_segment_are_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "vectors.f16"
    unit_vectors(40_000, dimension=256).astype(np.float16).tofile(path)
    vectors = np.memmap(path, np.float16, "r", shape=(40_000, 256))
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("resident anonymous memory is read from /proc")
    search_exact(vectors, unit_vectors(1, dimension=256), 10, None)
    before = _anonymous_kib(status)
    search_exact(vectors, unit_vectors(1, dimension=256), 10, None)
    assert _anonymous_kib(status) - before < 4_000  # the vectors are 20,000 KiB


def _anonymous_kib(status: Path) -> int:
    return int(next(line for line in status.read_text().splitlines() if line.startswith("RssAnon")).split()[1])


def test_delete_add_and_compact_equal_a_fresh_build(tmp_path: Path) -> None:
    dice = random.Random(5)
    vectors, queries = unit_vectors(400), unit_vectors(5, seed=1)
    alive: dict[str, int] = {}
    with Index.create_with(tmp_path / "lived", SETTINGS) as lived:
        for _ in range(6):
            rows = dice.sample(range(400), 40)
            put(lived, passages_named(rows), vectors[rows])
            alive.update({str(row): row for row in rows})
            gone = dice.sample(sorted(alive), 15)
            assert lived.delete(gone) == 15
            for name in gone:
                del alive[name]
        rows = sorted(alive.values())
        with Index.create_with(tmp_path / "fresh", SETTINGS) as fresh:
            put(fresh, passages_named(rows), vectors[rows])
            for k in (1, 10, 1000):
                assert same(found(lived, queries, k), found(fresh, queries, k))
            lived.compact()
            assert same(found(lived, queries, 1000), found(fresh, queries, 1000))
            assert [p["rows"] for p in lived.describe()["segments"]] == [len(rows)]
            assert lived.describe()["deleted_rows"] == 0
            for word in ("text", str(rows[3]), gone[0]):
                assert words_found(lived, word) == words_found(fresh, word)


def words_found(index: Index, query: str) -> set[tuple[str, float]]:
    with index.reading() as view:
        ranking = view.search_lexical(query, 1000)
        names = [p.doc_id for p in view.passages([number for number, _ in ranking])]
    return {(name, round(score, 6)) for name, (_, score) in zip(names, ranking, strict=True)}


def test_filter_is_applied_inside_the_search(index: Index) -> None:
    vectors = unit_vectors(500)
    put(index, passages_named(range(300)), vectors[:300])
    put(index, passages_named(range(300, 500)), vectors[300:])
    index.delete(["499"])
    allowed = np.arange(480, 501)  # ids count from 1: documents 479 … 499, of which 499 is deleted
    result = found(index, unit_vectors(3, seed=1), 20, allowed)
    assert same(result, expected(range(479, 499), vectors[479:499], unit_vectors(3, seed=1), 20))
    assert found(index, unit_vectors(1), 5, np.array([10_000])) == [[]]


def test_replacing_a_document_encodes_only_what_changed(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    with Index.create(tmp_path / "index", encoder=encoder) as index:
        assert index.add([Document("a", "one"), Document("b", "two")]) == (2, 0, 0, 0)
        assert index.add([Document("a", "one"), Document("b", "zwei"), Document("c", "three")]) == (1, 1, 1, 0)
        assert encoder.encoded == ["one", "two", "zwei", "three"]
        index.add([Document("a", "one", metadata={"year": 1999})])
        assert len(encoder.encoded) == 4
        assert {p.doc_id: (p.text, p.metadata) for p in index.passages([1, 3, 4])} == {
            "a": ("one", {"year": 1999}),
            "b": ("zwei", {}),
            "c": ("three", {}),
        }
        assert [[name for name, _ in hits] for hits in found(index, encoder.encode_documents(["two"]), 9)] != [[]]
        assert len(index) == 3
        assert words_found(index, "two") == set()


def test_sync_removes_what_does_not_come_again(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    with Index.create(tmp_path / "index", encoder=encoder) as index:
        index.add([Document(name, f"text {name}") for name in "abcd"])
        assert index.add([Document("b", "text b"), Document("c", "new c"), Document("e", "text e")], sync=True) == (1, 1, 1, 2)
        assert sorted(p.doc_id for p in index.passages([2, 5, 6])) == ["b", "c", "e"]
        assert len(index) == 3 and words_found(index, "d") == set()
        assert index.add([Document("b", "text b")], sync=True) == (0, 0, 1, 2)
        assert len(index) == 1
        assert index.add([Document("x", "text x")]) == (1, 0, 0, 0)
        assert len(index) == 2
    assert encoder.encoded == ["text a", "text b", "text c", "text d", "new c", "text e", "text x"]


def test_delete_by_filter(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", encoder=CountingEncoder()) as index:
        index.add([Document(str(year), "text", metadata={"year": year}) for year in range(2000, 2010)])
        assert index.delete_where("year < 2003 or doc_id = '2009'") == 4
        assert index.delete_where("year < 2003") == 0
        with pytest.raises(RagvecError, match="no field yaer"):
            index.delete_where("yaer = 1")
        assert len(index) == 6


def test_fields_are_those_of_living_passages_after_compacting(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", encoder=CountingEncoder()) as index:
        index.add([Document("a", "x", metadata={"old": 1}), Document("b", "y", metadata={"year": 1})])
        index.add([Document("a", "x", metadata={"new": 1})])
        with index.reading() as view:
            assert view.matching("old = 1").tolist() == [] and view.matching("new = 1").tolist() == [1]
        index.delete(["b"])
        index.compact()
        with index.reading() as view, pytest.raises(RagvecError, match="there are new, doc_id"):
            view.matching("old = 1")


def test_duplicate_ids_lone_strings_and_other_encoders_are_refused(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    with Index.create(tmp_path / "index", encoder=encoder) as index:
        with pytest.raises(RagvecError, match="the id 'a' was used before"):
            index.add([Document("a", "one"), Document("b", "x"), Document("a", "two")])
        assert len(index) == 0
        assert not list((tmp_path / "index" / "segments").glob("*"))
        with pytest.raises(TypeError, match="sequence of Document or dict"):
            index.add(Document("a", "one"))
        with pytest.raises(TypeError, match=r"pass \[doc_id\]"):
            index.delete("a")
    encoder.fingerprint = "0" * 32
    with pytest.raises(RagvecError, match="built with encoder an-encoder .*ffffffffffff.*000000000000.*--encoder"):
        Index.open(tmp_path / "index", encoder=encoder)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_vectors_that_are_not_finite_are_refused(index: Index, bad: float) -> None:
    vectors = unit_vectors(3)
    vectors[1, 2] = bad
    with pytest.raises(RagvecError, match="vector 1 holds NaN, infinity"):
        put(index, passages_named(range(3)), vectors)
    assert len(index) == 0


def test_bad_queries_are_refused(index: Index) -> None:
    put(index, passages_named(range(3)), unit_vectors(3))
    with pytest.raises(RagvecError, match="holds 24-d vectors, the queries have shape \\(1, 25\\)"):
        index.search(np.zeros((1, 25)), 1)
    with pytest.raises(RagvecError, match="NaN"):
        index.search(np.full((1, DIMENSION), np.nan), 1)
    with pytest.raises(RagvecError, match="k is 0"):
        index.search(np.zeros((1, DIMENSION)), 0)
    assert index.search(np.zeros((2, DIMENSION)), 99).ids.shape == (2, 3)
    assert index.search(np.zeros((0, DIMENSION)), 99).ids.shape == (0, 0)


def test_empty_index_finds_nothing(index: Index) -> None:
    assert index.search(unit_vectors(2), 5).ids.shape == (2, 0)
    assert words_found(index, "text") == set()
    index.compact()
    assert len(index) == 0


def test_deleting_everything_and_compacting_leaves_an_empty_index(index: Index) -> None:
    put(index, passages_named(range(5)), unit_vectors(5))
    assert index.delete([str(row) for row in range(5)] + ["nobody"]) == 5
    index.compact()
    assert (len(index), index.describe()["segments"]) == (0, [])
    assert not list((index.path / "segments").iterdir())
    put(index, passages_named(range(5)), unit_vectors(5))
    assert same(found(index, unit_vectors(1), 1), expected(range(5), unit_vectors(5), unit_vectors(1), 1))


def test_no_index_a_damaged_one_and_a_newer_one_are_told_apart(index: Index, tmp_path: Path) -> None:
    with pytest.raises(RagvecError, match="no index in .*elsewhere: make one with `ragvec index CORPUS -o"):
        Index.open(tmp_path / "elsewhere")
    put(index, passages_named(range(9)), unit_vectors(9))
    vectors = index.path / "segments" / "0001" / "vectors.f16"
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-2])
    with Index.open(index.path) as damaged, pytest.raises(RagvecError, match="vectors.f16 is damaged: 430 bytes, not 432"):
        damaged.search(unit_vectors(1), 1)
    vectors.unlink()
    with Index.open(index.path) as damaged, pytest.raises(RagvecError, match="damaged, .*vectors.f16 is missing"):
        damaged.search(unit_vectors(1), 1)
    for version, remedy in ((99, "upgrade ragvec"), (2, "remove the folder and build it again with `ragvec index`")):
        with closing(sqlite3.connect(index.path / "index.sqlite", isolation_level=None)) as connection:
            connection.execute("UPDATE settings SET value = ? WHERE key = 'format'", (version,))
        with pytest.raises(RagvecError, match=f"format {version}, this ragvec reads 5: {remedy}$"):
            Index.open(index.path)
    (index.path / "index.sqlite").write_bytes(b"not a database, but long enough to be one" * 100)
    with pytest.raises(RagvecError, match="is damaged .file is not a database"):
        Index.open(index.path)


def test_a_folder_with_other_files_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RagvecError, match="holds other files .thesis.tex"):
        Index.create_with(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def run_python(code: str, *arguments: Path) -> subprocess.CompletedProcess:
    """Run a script in a process of its own, from the repository."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)


def test_a_wrong_faiss_key_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(RagvecError, match="`faiss_key` 'Nonsense7' makes no FAISS index"):
        Index.create_with(tmp_path / "index", IndexSettings("e", "f", DIMENSION, faiss_key="Nonsense7"))
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("loaded", [False, True])
def test_a_few_vectors_are_compared_by_whatever_is_loaded(index: Index, monkeypatch: pytest.MonkeyPatch, loaded: bool) -> None:
    vectors = unit_vectors(300)
    put(index, passages_named(range(300)), vectors)
    monkeypatch.setattr("ragvec.index.ann.exact.faiss_is_loaded", lambda: loaded)
    monkeypatch.setattr("ragvec.index.ann.exact._small_searches", repeat(0))
    assert same(found(index, vectors[:5], 10), expected(range(300), vectors, vectors[:5], 10))


def test_describe_is_json(index: Index) -> None:
    put(index, passages_named(range(3)), unit_vectors(3))
    described = json.loads(json.dumps(index.describe()))
    assert (described["documents"], described["passages"], described["dimension"]) == (3, 3, DIMENSION)
    assert described["encoder"] == "an-encoder"


def test_a_first_search_loads_neither_torch_nor_faiss(index: Index) -> None:
    put(index, passages_named(range(30)), unit_vectors(30))
    code = f"""
        import sys
        from tests.test_index import Index, unit_vectors
        index = Index.open({str(index.path)!r})
        for _ in range(2):
            index.search(unit_vectors(1), 3)
            print(sorted({{"torch", "transformers", "faiss", "pyarrow"}} & set(sys.modules)))
    """
    assert run_python(code).stdout == "[]\n['faiss']\n", "who searches twice will search more, and FAISS is faster"


@pytest.mark.parametrize("metadata", [[1], "s", []], ids=["list", "text", "empty"])
def test_metadata_that_is_no_dict_is_refused_and_leaves_the_index_whole(tmp_path: Path, metadata: object) -> None:
    with Index.create(tmp_path / "i", encoder=CountingEncoder()) as index:
        index.add([Document("1", "words")])
        with pytest.raises(RagvecError, match="give document '2' a dict"):
            index.add([Document("2", "x", metadata=metadata)])
        assert len(index) == 1
