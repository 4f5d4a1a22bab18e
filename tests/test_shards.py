"""Shards on disk: what other tools read there, what the manifest says, and what is said about a folder that is not whole."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragvec.errors import RagvecError
from ragvec.records import Passage
from ragvec.shards import (
    Manifest,
    PartVectors,
    Provenance,
    Shards,
    content_digest,
    load_manifest,
    recall_of,
    restore,
    save_manifest,
    store,
    verify_shards,
    write_part,
)

PASSAGES = [
    Passage("p1", "d1", "plants make food", "Leaves", {"year": 2020, "tags": ["a", None], "태그": "식물"}),
    Passage("p2", "d1", "", "", {}),
    Passage("p3", "d2", "emoji 🌱 \n new line", "제목", {"x": 0.5}),
]
VECTORS = np.array([[1, 0.5], [0, -1], [0.25, 2.5]], np.float32)


def make(folder, dtype="float16", **changes):
    provenance = Provenance(
        source="an-encoder", fingerprint="ab" * 16, dimension=2, instruction="", dtype=dtype, normalized=False
    )
    folder.mkdir()
    encoded = PartVectors(store(VECTORS, dtype), np.array([3, 1, 7]), np.array([False, False, True]))
    part = write_part(folder, "part-00000.parquet", PASSAGES, encoded, provenance=provenance)
    save_manifest(folder, Manifest(provenance, parts=(part,), complete=True))
    return folder


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_was_written_comes_back(tmp_path, dtype):
    shards = Shards.open(make(tmp_path / "s", dtype))
    blocks = list(shards.blocks(2))
    assert [passage for block, _ in blocks for passage in block] == PASSAGES and len(shards) == 3
    assert [len(block) for block, _ in blocks] == [2, 1]
    vectors = np.concatenate([vectors for _, vectors in blocks])
    assert vectors.dtype == dtype and np.array_equal(vectors, VECTORS)
    assert (shards.manifest.rows, shards.manifest.tokens, shards.manifest.truncated) == (3, 11, 1)


def test_the_parquet_that_others_read(tmp_path):
    path = make(tmp_path / "s") / "part-00000.parquet"
    table = pq.read_table(path)
    assert table.schema.field("embedding").type == pa.list_(pa.field("element", pa.float16(), nullable=False), 2)
    assert table.column_names == [
        "doc_id", "passage_id", "title", "text", "metadata", "content_hash", "tokens", "truncated", "embedding",
    ]  # fmt: skip
    assert json.loads(table["metadata"][0].as_py()) == PASSAGES[0].metadata
    assert table["content_hash"].to_pylist() == [passage.content_hash for passage in PASSAGES]
    assert table["truncated"].to_pylist() == [False, False, True]
    about = json.loads(table.schema.metadata[b"ragvec"])
    assert (about["fingerprint"], about["content_digest"]) == ("ab" * 16, content_digest(PASSAGES))
    column = pq.ParquetFile(path).metadata.row_group(0).column(8)
    assert (column.encodings, column.compression, column.has_dictionary_page) == (("RLE", "PLAIN"), "UNCOMPRESSED", False)


def test_other_tools_read_it(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    folder = make(tmp_path / "s")
    query = f"select passage_id, embedding[2], metadata->>'year' from '{folder}/*.parquet' order by 1"
    assert duckdb.sql(query).fetchall() == [("p1", 0.5, "2020"), ("p2", -1.0, None), ("p3", 2.5, None)]


def test_pandas_polars_and_lancedb_read_it(tmp_path):
    folder = make(tmp_path / "s")
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(folder / "part-00000.parquet")
    assert frame["passage_id"].tolist() == ["p1", "p2", "p3"] and frame["embedding"][2].tolist() == [0.25, 2.5]
    polars = pytest.importorskip("polars")
    long = polars.read_parquet(folder / "*.parquet").filter(polars.col("tokens") > 2)
    assert long["text"].to_list() == ["plants make food", "emoji 🌱 \n new line"] and long["embedding"][0].to_list() == [1, 0.5]
    lancedb = pytest.importorskip("lancedb")
    table = lancedb.connect(tmp_path / "db").create_table("passages", pq.read_table(folder / "part-00000.parquet"))
    found = table.search([0.25, 2.5], vector_column_name="embedding").distance_type("dot").limit(1).to_list()
    assert [row["passage_id"] for row in found] == ["p3"]


@pytest.mark.parametrize("dtype", ["int8", "binary"])
def test_vectors_stored_in_fewer_bits(tmp_path, dtype):
    folder = make(tmp_path / "s", dtype)
    [(_, vectors)] = Shards.open(folder).blocks(10)
    table = pq.read_table(folder / "part-00000.parquet")
    if dtype == "int8":
        assert table["embedding"].to_pylist() == [[127, 64], [0, -127], [13, 127]]
        assert np.abs(vectors - VECTORS).max() < 2.5 / 127
    else:
        assert table["embedding"].to_pylist() == [[0b11000000], [0], [0b11000000]]
        assert np.allclose(vectors, np.array([[1, 1], [-1, -1], [1, 1]]) / 2**0.5)


def test_the_recall_of_stored_vectors_is_counted_against_exact_neighbours():
    exact = np.random.default_rng(0).standard_normal((300, 32)).astype(np.float32)
    assert recall_of(exact, exact) == 1.0 and recall_of(exact[:20], exact[:20]) is None
    shuffled = np.random.default_rng(1).permutation(exact)
    assert recall_of(exact, shuffled) < 0.2
    whole = {dtype: recall_of(exact, restore(store(exact, dtype), dtype, 32)) for dtype in ("float16", "int8", "binary")}
    assert whole["float16"] > whole["int8"] > whole["binary"] > 0.3


def test_the_manifest_says_what_made_it(tmp_path):
    record = json.loads((make(tmp_path / "s") / "manifest.json").read_text())
    [part] = record.pop("parts")
    assert record == {
        "format": "ragvec-shards",
        "format_version": 1,
        "ragvec_version": record["ragvec_version"],
        "complete": True,
        "encoder": {"source": "an-encoder", "fingerprint": "ab" * 16, "dimension": 2},
        "instruction": "",
        "dtype": "float16",
        "normalized": False,
        "rows": 3,
        "tokens": 11,
        "truncated": 1,
        "inputs": [],
    }
    assert (part["name"], part["rows"], len(part["sha256"])) == ("part-00000.parquet", 3, 64)
    assert load_manifest(tmp_path / "s").describe() == {**record, "parts": [part]}


@pytest.mark.parametrize(
    "changed",
    [
        Passage("p2", "d1", "x", "", {}),
        Passage("p2", "d1", "", "x", {}),
        Passage("x", "d1", "", "", {}),
        Passage("p2", "x", "", "", {}),
        Passage("p2", "d1", "", "", {"x": 1}),
    ],
)
def test_the_content_digest_sees_every_field_and_the_order(changed):
    assert content_digest([PASSAGES[0], changed, PASSAGES[2]]) != content_digest(PASSAGES) != content_digest(PASSAGES[::-1])


def test_metadata_that_is_not_json(tmp_path):
    with pytest.raises(RagvecError, match="metadata of document 'd' is not JSON"):
        content_digest([Passage("p", "d", "text", metadata={"x": {1, 2}})])


def test_folders_that_are_not_whole(tmp_path):
    with pytest.raises(RagvecError, match="none does not exist: name a folder made by `ragvec encode`"):
        Shards.open(tmp_path / "none")
    with pytest.raises(RagvecError, match=r"holds no shards \(manifest.json is missing\): make them with `ragvec encode"):
        Shards.open(tmp_path)
    folder = make(tmp_path / "s")
    with pytest.raises(RagvecError, match="part-00000.parquet is a file"):
        Shards.open(folder / "part-00000.parquet")
    part = folder / "part-00000.parquet"
    data = part.read_bytes()
    part.write_bytes(data[:-1])
    with pytest.raises(
        RagvecError, match=f"has {len(data) - 1:,} bytes instead of {len(data):,}: run the same `ragvec encode`"
    ):
        Shards.open(folder)
    part.write_bytes(b"PAR1" + bytes(len(data) - 4))
    assert verify_shards(folder) == [f"{part} is damaged"]
    with pytest.raises(RagvecError, match="part-00000.parquet is damaged .*run the same `ragvec encode`"):
        list(Shards.open(folder).blocks())
    part.unlink()
    assert verify_shards(folder) == [f"{part} is missing"]
    with pytest.raises(RagvecError, match="part-00000.parquet is missing: run the same"):
        Shards.open(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-20], r"manifest.json is damaged .*--overwrite"),
        (lambda text: "[]", "manifest.json is damaged"),
        (lambda text: text.replace('"dimension": 2', '"dimension": null'), "manifest.json is damaged"),
        (
            lambda text: text.replace('"format_version": 1', '"format_version": 2'),
            "format version 2, .* reads up to 1: upgrade",
        ),
        (lambda text: text.replace("ragvec-shards", "webpack"), "belongs to 'webpack'"),
        (lambda text: text.replace('"complete": true', '"complete": false'), r"is not finished \(3 passages so far\)"),
    ],
)
def test_manifests_that_are_not_ours_or_not_whole(tmp_path, change, message):
    path = make(tmp_path / "s") / "manifest.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(RagvecError, match=message):
        Shards.open(tmp_path / "s")
