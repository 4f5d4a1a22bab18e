"""Vectors that were made elsewhere: added in Python, read from corpora, searched with and without their encoder."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragvec.corpus import read_documents
from ragvec.doctor.index import examine_index
from ragvec.encoder import Encoder
from ragvec.errors import WrongInput
from ragvec.index import Index
from ragvec.records import Document
from ragvec.retrieve import Request, Retriever, open_retriever
from tests.test_cli_index import ragvec, write_corpus
from tests.test_index import CountingEncoder, run_python, unit_vectors

VECTORS = unit_vectors(6, dimension=5) * np.arange(1, 7, dtype=np.float32)[:, None]
DOCUMENTS = [Document(f"d{number}", f"text of number {number}", metadata={"n": number}) for number in range(6)]
LONG = 70


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAGVEC_INDEX", raising=False)
    return tmp_path


def near(index: Index, vector: np.ndarray, k: int = 6) -> list[tuple[str, float]]:
    hits = Retriever(index).answer(Request(vector=vector, k=k, mode="dense"))
    return [(hit.doc_id, pytest.approx(hit.score, abs=2e-3)) for hit in hits]


def cosines(vector: np.ndarray) -> list[tuple[str, float]]:
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    scores = unit @ vector
    return [(f"d{row}", float(scores[row])) for row in np.argsort(-scores)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_vectors_are_added_scaled_and_searched(here: Path, dtype) -> None:
    query = unit_vectors(1, seed=3, dimension=5)[0]
    with Index.create("index", dimension=5) as index:
        assert index.add(DOCUMENTS, vectors=VECTORS.astype(dtype)) == (6, 0, 0, 0)
        assert near(index, query) == cosines(query)
        assert index.add(DOCUMENTS, vectors=VECTORS.astype(dtype)) == (0, 0, 6, 0)
        assert [hit.doc_id for hit in Retriever(index).retrieve("number 4", 1, mode="lexical")] == ["d4"]
        assert (index.settings.encoder_source, index.settings.dimension) == ("none", 5)
    assert {check.state for check in examine_index(here / "index")} == {"ok"}


def test_each_document_may_bring_its_own(here: Path) -> None:
    with Index.create("index", dimension=5) as index:
        own = [Document(one.doc_id, one.text, vector=vector) for one, vector in zip(DOCUMENTS, VECTORS, strict=True)]
        index.add(iter(own))
        assert near(index, VECTORS[2] / 3, 1) == [("d2", 1.0)]
        with pytest.raises(WrongInput, match="document 'd1' brings no vector, others do"):
            index.add([own[0], DOCUMENTS[1]])
        with pytest.raises(WrongInput, match="names no encoder: bring vectors"):
            index.add([Document("new", "a text without a vector")])
        assert len(index) == 6


def test_another_vector_alone_replaces_a_document(here: Path) -> None:
    with Index.create("index", dimension=5) as index:
        index.add(DOCUMENTS, vectors=VECTORS)
        changed = VECTORS.copy()
        changed[3] = -changed[3]
        assert index.add(DOCUMENTS, vectors=changed) == (0, 1, 5, 0)
        assert near(index, -VECTORS[3] / 4, 1) == [("d3", 1.0)]
        assert index.add(DOCUMENTS[:2], vectors=VECTORS[:2], sync=True) == (0, 0, 2, 4)


def test_an_empty_text_with_a_vector_of_its_own_is_found(here: Path) -> None:
    """It may be of an image."""
    with Index.create("index", dimension=5) as index:
        index.add([Document("image", "", vector=VECTORS[0]), Document("b", "b", vector=VECTORS[1])])
        for _ in range(2):
            assert near(index, VECTORS[0], 1) == [("image", 1.0)]
            index.delete(["b"])
            index.compact()


def test_an_encoders_index_takes_them_too(here: Path) -> None:
    encoder = CountingEncoder()
    with Index.create("index", encoder=encoder) as index:
        index.add([Document("a", "one")])
        index.add([Document("b", "two")], vectors=encoder.encode_documents(["two"]))
        assert near(index, encoder.encode_documents(["two"])[0], 1) == [("b", 1.0)]
        with pytest.raises(WrongInput, match="document 'd' brings its vector and others don't"):
            index.add([Document("c", "c"), Document("d", "d", vector=unit_vectors(1)[0])])


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (VECTORS[:5], r"6 documents come with vectors of shape \(5, 5\)"),
        (VECTORS[0], r"6 documents come with vectors of shape \(5,\)"),
        (VECTORS[:, :4], r"vector of document 'd0' has shape \(4,\) and type float32, the index holds 5-d"),
        (VECTORS.astype(str), "vector of document 'd0' has shape .* the index holds 5-d vectors of numbers"),
        (np.where(np.arange(6)[:, None] == 4, np.nan, VECTORS), "vector of document 'd4' holds NaN or infinity"),
        (VECTORS.astype(float) * 1e300, "vector of document 'd0' holds NaN or infinity"),
        (np.where(np.arange(6)[:, None] == 2, 0, VECTORS), "vector of document 'd2' is all zeros"),
    ],
)
def test_vectors_that_do_not_fit_change_nothing(here: Path, vectors: np.ndarray, said: str) -> None:
    with Index.create("index", dimension=5) as index:
        with pytest.raises(WrongInput, match=said):
            index.add(DOCUMENTS, vectors=vectors)
        assert len(index) == 0


def test_what_an_index_can_not_be_made_with(here: Path) -> None:
    with pytest.raises(WrongInput, match="needs an `encoder`, or the `dimension`"):
        Index.create("index")
    with pytest.raises(WrongInput, match="leave these out"):
        Index.create("index", encoder=CountingEncoder(), dimension=5)
    with pytest.raises(WrongInput, match="are not cut"):
        Index.create("index", dimension=5, passage_tokens=64)
    with pytest.raises(WrongInput, match="`dimension` is 0"):
        Index.create("index", dimension=0)
    said = "the index cuts documents into passages of 64 tokens"
    with Index.create("cut", encoder=CountingEncoder(), passage_tokens=64) as index, pytest.raises(WrongInput, match=said):
        index.add(DOCUMENTS, vectors=unit_vectors(6))


def test_a_declared_fingerprint_admits_its_encoder_alone(here: Path, tiny_decoder: Path) -> None:
    encoder = Encoder.load(tiny_decoder)
    texts = ["how plants grow", "a fox and a dog"]
    with Index.create("index", dimension=encoder.dimension, fingerprint=encoder.fingerprint) as index:
        index.add([Document(text, text) for text in texts], vectors=encoder.encode_documents(texts))
    with pytest.raises(WrongInput, match="names no encoder: bring vectors, search by words"):
        open_retriever("index")
    assert open_retriever("index", encoder=str(tiny_decoder)).retrieve(texts[1], 1, mode="dense")[0].doc_id == texts[1]
    with Index.create("unknown", dimension=encoder.dimension) as index, pytest.raises(WrongInput, match="nothing says which"):
        Retriever(index, encoder)


def parquet(path: str, column: pa.Array, texts: list[str] | None = None) -> str:
    rows = len(column)
    table = {"id": [f"d{row}" for row in range(rows)], "text": texts or [f"text of number {row}" for row in range(rows)]}
    pq.write_table(pa.table({**table, "Embedding": column, "n": list(range(rows))}), path, row_group_size=4)
    return path


LISTS = {
    "fixed float32": pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), 5),
    "fixed float16": pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.astype(np.float16).ravel()), 5),
    "list float64": pa.array(VECTORS.astype(float).tolist(), pa.list_(pa.float64())),
    "large list float32": pa.array(VECTORS.tolist(), pa.large_list(pa.float32())),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_column_of_vectors(here: Path, capsys: pytest.CaptureFixture, kind: str) -> None:
    query = unit_vectors(1, seed=3, dimension=5)[0]
    code, out, err = ragvec(capsys, "index", parquet("c.parquet", LISTS[kind]), "--vector-field", "embedding")
    assert (code, err) == (0, "") and "6 documents added, 0 replaced, 0 unchanged; 6 passages, 5-d" in out
    with Index.open("ragvec-index") as index:
        assert near(index, query) == cosines(query)
        assert index.passages([1])[0].metadata == {"n": 0}
    code, out, _ = ragvec(capsys, "index", "c.parquet", "--vector-field", "embedding")
    assert "0 documents added, 0 replaced, 6 unchanged" in out
    assert ragvec(capsys, "search", "text number", "--no-server")[::2] == (
        1,
        "error: the index holds vectors that were brought along and names no encoder: bring vectors, search by words "
        "(--mode lexical), or name the --encoder that made them\n",
    )
    code, out, _ = ragvec(capsys, "search", "number 3", "--mode", "lexical", "-k", "1", "--format", "json")
    assert (code, json.loads(out)["doc_id"]) == (0, "d3")


def test_the_encoder_that_made_them_is_recorded(here: Path, tiny_decoder: Path, capsys: pytest.CaptureFixture) -> None:
    encoder, texts = Encoder.load(tiny_decoder), ["how plants grow", "a fox and a dog"]
    rows = [
        {"_id": text, "text": text, "v": vector.tolist()}
        for text, vector in zip(texts, encoder.encode_documents(texts), strict=True)
    ]
    write_corpus(here / "c.jsonl", rows)
    code, _, err = ragvec(capsys, "index", "c.jsonl", "--vector-field", "v", "--encoder", tiny_decoder)
    assert (code, err) == (0, "")
    _, out, _ = ragvec(capsys, "search", texts[0], "--mode", "dense", "-k", "1", "--format", "json")
    assert json.loads(out)["doc_id"] == texts[0]
    write_corpus(here / "short.jsonl", [{**row, "v": row["v"][:4]} for row in rows])
    code, _, err = ragvec(capsys, "index", "short.jsonl", "--vector-field", "v")
    assert (code, err) == (1, "error: short.jsonl, line 1: field 'v' holds 4 numbers, not 32\n")
    code, _, err = ragvec(capsys, "index", "short.jsonl", "-o", "new", "--vector-field", "v", "-e", tiny_decoder)
    assert code == 1 and "vectors have 4 numbers" in err and not Path("new").exists()


BAD = [
    ([1, 2], "holds 2 numbers, not 5"),
    ([], "holds 0 numbers, not 5"),
    ([1, 2, None, 4, 5], "holds a null, NaN or infinity at position 2"),
    ([1e39, 2, 3, 4, 5], "holds a null, NaN or infinity at position 0"),
    ([0, 0, 0, 0, 0], "holds only zeros, which point nowhere"),
    (["1", "2", "3", "4", "5"], "must be a list of numbers, not ['1', '2', '3', '4', '5']"),
    ([True] * 5, "must be a list of numbers, not [True, True, True, True, True]"),
    ([[1, 2, 3, 4, 5]], "must be a list of numbers, not [[1, 2, 3, 4, 5]]"),
    ([[1], [2, 3]], "must be a list of numbers, not [[1], [2, 3]]"),
    ("0.1 0.2", "must be a list of numbers, not '0.1 0.2'"),
    ({"a": 1}, "must be a list of numbers, not {'a': 1}"),
]


def test_rows_with_bad_vectors_stop_or_are_skipped(here: Path, capsys: pytest.CaptureFixture) -> None:
    good = [{"_id": one.doc_id, "text": one.text, "v": v} for one, v in zip(DOCUMENTS, VECTORS.tolist(), strict=True)]
    bad = [{"_id": f"x{row}", "text": "bad", "v": value} for row, (value, _) in enumerate(BAD)]
    for row, (_, said) in zip(bad, BAD, strict=True):
        write_corpus(here / "c.jsonl", [good[0], row])
        code, _, err = ragvec(capsys, "index", "c.jsonl", "--vector-field", "v")
        assert (code, err) == (1, f"error: c.jsonl, line 2: field 'v' {said}\n")
        assert not Path("ragvec-index").exists()
    write_corpus(here / "c.jsonl", [*good[:3], *bad, {"_id": "y", "text": "none"}, *good[3:]])
    code, out, err = ragvec(capsys, "index", "c.jsonl", "--vector-field", "V", "--on-error", "skip")
    assert code == 0 and "6 documents added" in out and err.startswith("12 rows could not be read and were skipped")
    kept = [json.loads(line) for line in Path("ragvec-index.quarantine.jsonl").read_text().splitlines()]
    assert [one["record"]["_id"] for one in kept] == [*(f"x{row}" for row in range(11)), "y"]
    assert kept[-1]["error"] == "c.jsonl, line 15: no vector in field 'V'"


def test_bad_vectors_of_a_column_are_named_by_row(here: Path, capsys: pytest.CaptureFixture) -> None:
    lists = VECTORS.tolist()
    lists[1], lists[2][3], lists[4] = None, None, [1.0]
    path = parquet("c.parquet", pa.array(lists, pa.list_(pa.float16())))
    code, _, err = ragvec(capsys, "index", path, "--vector-field", "Embedding")
    assert (code, err) == (1, "error: c.parquet, row 2: no vector in field 'Embedding'\n")
    code, out, err = ragvec(capsys, "index", path, "--vector-field", "Embedding", "--on-error", "skip")
    assert code == 0 and "3 documents added" in out
    kept = [json.loads(line) for line in Path("ragvec-index.quarantine.jsonl").read_text().splitlines()]
    assert [one["error"] for one in kept] == [
        "c.parquet, row 2: no vector in field 'Embedding'",
        "c.parquet, row 3: field 'Embedding' holds a null, NaN or infinity at position 3",
        "c.parquet, row 5: field 'Embedding' holds 1 numbers, not 5",
    ]
    assert kept[2]["record"] == {"id": "d4", "text": "text of number 4", "n": 4, "Embedding": [1.0]}


def test_vectors_are_not_cut_and_not_of_shards(here: Path, capsys: pytest.CaptureFixture) -> None:
    path = parquet("c.parquet", LISTS["fixed float32"])
    code, _, err = ragvec(capsys, "index", path, "--vector-field", "embedding", "--passage-tokens", "64")
    said = "error: documents that bring their vectors are not cut: leave --passage-tokens out, or --vector-field\n"
    assert (code, err) == (2, said)


ROW = {"_id": "a", "text": "t", "Year": 2020, "lang": "ko", "v": [0.5] * LONG, "metadata": {"x": 1, "secret": "s"}}


def test_which_fields_become_metadata(here: Path) -> None:
    write_corpus(here / "c.jsonl", [ROW])

    def metadata(**options) -> dict:
        return next(read_documents("c.jsonl", **options)).metadata

    assert metadata(drop_fields=["v", "SECRET"]) == {"x": 1, "Year": 2020, "lang": "ko"}
    assert metadata(metadata_fields=["year", "x", "secret"], drop_fields=["secret"]) == {"x": 1, "Year": 2020}
    assert metadata(metadata_fields=[]) == {}
    assert set(metadata()) == {"x", "secret", "Year", "lang", "v"}
    assert set(metadata(vector_field="v")) == {"x", "secret", "Year", "lang"}


def test_a_vector_that_becomes_metadata_is_named_once(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    short = {**ROW, "v": [0.5] * 63, "words": ["w"] * LONG}
    write_corpus(here / "c.jsonl", [{**short, "_id": "b"}, ROW, {**ROW, "_id": "c"}])
    assert len(list(read_documents("c.jsonl"))) == 3
    said = "field 'v' is a list of 70 numbers and becomes metadata: name it as `vector_field`, or in `drop_fields`"
    assert caplog.messages == [said]
    caplog.clear()
    assert len(list(read_documents("c.jsonl", drop_fields=["v"]))) == 3 and not caplog.messages


def test_the_command_line_names_its_own_options(here: Path, tiny_decoder: Path) -> None:
    write_corpus(here / "c.jsonl", [ROW, {**ROW, "_id": "b"}])
    code = f"""
    import os
    from ragvec.cli.main import main
    os.chdir({str(here)!r})
    main(["index", "c.jsonl", "-e", {str(tiny_decoder)!r}, "--drop-fields", "lang", "--metadata-fields", "v,lang,x"])
    """
    done = run_python(code)
    said = "field 'v' is a list of 70 numbers and becomes metadata: name it as --vector-field, or in --drop-fields"
    assert done.stderr.splitlines() == [said] and done.returncode == 0
    with Index.open("ragvec-index") as index:
        assert index.passages([1])[0].metadata == {"x": 1, "v": [0.5] * LONG}
