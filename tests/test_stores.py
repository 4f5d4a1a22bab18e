"""Shards in PostgreSQL with pgvector, a real server: the hits, filters and scores of ragvec's own index."""

import json
from contextlib import closing
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
from ragvec.stores import Collection, StoreIndex, load_shards, open_store
from tests.stores import DIMENSION, WHERES, corpus, server, shards_of
from tests.test_cli_index import ragvec
from tests.test_index import put, unit_vectors

KINDS = ["pgvector", "milvus-lite", "milvus"]


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def database(kind: str, tmp_path_factory: pytest.TempPathFactory):
    """The address of an empty database, to which a collection's name is added."""
    with server(kind, tmp_path_factory.mktemp(kind)) as address:
        yield address


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder)


@pytest.fixture(scope="module")
def both(database, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory):
    """A retriever over an index, and one over a table, of one corpus."""
    folder = tmp_path_factory.mktemp("stores")
    passages, vectors = corpus()
    shards = shards_of(folder / "shards", encoder, passages, vectors)
    with Index.create_with(folder / "index", settings_of(encoder)) as index:
        put(index, passages, vectors)
        loaded = load_shards(shards, open_store(database("passages")))
        assert loaded[1:] == (300, 0) and loaded.name.endswith("/passages")
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


EVIL = [
    "'; DROP TABLE passages; --", '"', "%s", "{}", "\\", "$1", "x') OR true --", '" or id > 0 or title == "', "]",
    '\\" or id > 0 --', '"]) or (id > 0', "x\n", "\r\n\t", "\\u0022", "\u2028", "a" * 300, "서울", "\U0010ffff", "$meta", "%",
]  # fmt: skip


@pytest.mark.parametrize("where", [
    "lang = $v", "path like $v", "path starts with $v", "doc_id = $v", "text like $v", "lang in $v", "when > $v", "lang <= $v",
    "title >= $v", "not lang < $v", "`a\u2028) or (id > 0` = $v",
])  # fmt: skip
def test_values_and_names_of_a_filter_are_no_expression(both, where) -> None:
    for evil in EVIL:
        asked = {"mode": "dense", "where": where, "where_values": {"v": evil}}
        found = []
        for one in both:
            try:
                found.append(sorted(hit.passage_id for hit in one.retrieve("x", 400, **asked)))
            except WrongInput as error:
                found.append(str(error))
        assert found[0] == found[1]
    assert len(both[1].index) == 300


def test_a_value_that_a_database_cant_hold_is_one_line_or_nothing(both) -> None:
    for evil in ("a\x00", "\ud800"):
        for where in ("lang >= $v", "lang = $v", "doc_id = $v"):
            try:
                assert both[1].retrieve("x", 400, mode="dense", where=where, where_values={"v": evil}) is not None
            except RagvecError as error:
                assert "\n" not in str(error)
    assert len(both[1].index) == 300


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
    store = open_store(database("changing"))
    assert store.collection() is None
    first = shards_of(tmp_path / "one", encoder, passages[:30], vectors[:30])
    assert load_shards(first, store).passages == load_shards(first, store).passages == 30
    index = StoreIndex(store)
    assert len(index) == 30 and read_document(index, "9") == passages[9:12]
    changed = [Passage("new", "9", "another text", "", {"fresh": 1})]
    load_shards(shards_of(tmp_path / "two", encoder, changed, vectors[40:41]), store, keep=True)
    assert read_document(index, "9") == changed and len(index) == 28
    [hit] = Retriever(index).answer(Request(vector=vectors[40], k=1, where="fresh = 1 or year = 2019"))
    assert hit.passage_id == "new"
    assert store.upsert(passages[9:12], vectors[9:12]) == 3 and store.delete(["0", "9", "none"]) == 6
    assert len(index) == 24 and index.describe()["documents"] == 8
    with pytest.raises(WrongInput, match="p12.*unique"):
        store.upsert([Passage("p12", "another", "x")], vectors[:1])
    assert len(index) == 24
    store.close()


def test_what_is_gone_from_the_shards_goes_from_the_collection(database, encoder, tmp_path) -> None:
    passages, vectors = corpus()
    store, index = open_store(database("mirror")), None
    for name, chosen in (("one", range(30)), ("two", [*range(3, 30), 30, 31]), ("order", [4, 3, 5, *range(6, 20)])):
        rows = [passages[row] for row in chosen]
        report = load_shards(shards_of(tmp_path / name, encoder, rows, vectors[list(chosen)]), store)
        index = index or StoreIndex(store)
        assert report.passages == len(index) == len(rows)
        for doc_id in {passage.doc_id for passage in passages[:33]}:
            assert read_document(index, doc_id) == [passage for passage in rows if passage.doc_id == doc_id]
    store.close()


def test_another_encoders_vectors_are_refused(both, database, encoder, tmp_path) -> None:
    passages, vectors = corpus()
    other = Encoder.load(encoder.source, max_length=7)
    shards = shards_of(tmp_path / "shards", other, passages[:1], vectors[:1])
    with pytest.raises(WrongInput, match="was built with encoder"):
        load_shards(shards, open_store(database("passages")))
    with pytest.raises(WrongInput, match="was built with encoder"):
        Retriever(both[1].index, other)


def test_collections_of_others_are_left_alone(kind, database, encoder, tmp_path) -> None:
    store = open_store(database("theirs"))
    if kind == "pgvector":
        with store._transaction() as connection:
            connection.execute("CREATE TABLE theirs (id int)")
    else:
        store._client().create_collection("theirs", dimension=2)
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


REFUSED = {"milvus-lite": ["DISKANN", "IVF_RABITQ"], "milvus": ["IVF_RABITQ"]}  # which is newer than 2.3


def test_an_index_of_another_kind_is_made_and_searched_or_refused_at_once(kind, both, database, encoder, tmp_path) -> None:
    if kind not in REFUSED:
        pytest.skip("pgvector has one index")
    from ragvec.stores.milvus_indices import KINDS, index_of

    passages, vectors = corpus()
    shards = shards_of(tmp_path / "shards", encoder, passages, vectors)
    refused = []
    for index in KINDS:
        store = open_store(f"{database('chosen')}?index={index.lower()}")
        try:
            assert load_shards(shards, store).passages == 300
        except Unavailable as error:
            refused.append(index)
            assert "\n" not in str(error) and index in str(error)
        else:
            assert index_of(store._client(), "chosen") == index
            assert load_shards(shards, open_store(f"{database('chosen')}?index={index}"), keep=True).passages == 300
        with closing(StoreIndex(open_store(database("chosen")))) as held:
            assert len(held) == 300
            for row in (7, 70, 170):
                request = Request(vector=vectors[row], k=10, where="year > 1992")
                expected, found = ({hit.passage_id for hit in one.answer(request)} for one in (both[0], Retriever(held)))
                assert len(found) == 10 and len(found & expected) >= 9
        store.close()
    assert refused == REFUSED[kind]
    with pytest.raises(WrongInput, match="has an index .*: leave `keep` out"):
        load_shards(shards, open_store(f"{database('passages')}?index=ivf_flat"), keep=True)
    with pytest.raises(WrongInput, match="an index 'FLATTER': choose one of HNSW, DISKANN"):
        open_store(f"{database('chosen')}?index=FLATTER")


def test_an_index_is_built_and_searched_or_told_where_a_server_gets_no_further(kind, database, monkeypatch) -> None:
    if kind != "milvus":
        pytest.skip("a server alone leaves small segments without an index, and builds on its own")
    from ragvec.stores import milvus_indices

    passages = [Passage(f"p{number}", f"{number}", f"text {number}") for number in range(5000)]
    half = unit_vectors(len(passages), dimension=128).astype(np.float16).astype(np.float32)
    about, blocks = Collection("none", "0", 128), [(passages, half)]
    with closing(open_store(database("built"))) as store:
        for index in ("HNSW", "IVF_FLAT"):
            with closing(open_store(f"{database('built')}?index={index}")) as loading:
                assert loading.load(about, blocks, keep=False) == 5000
            told = store._client().describe_index(store._there(), "embedding")
            assert (told["index_type"], told["indexed_rows"]) == (index, 5000)
            assert store.delete(["7", "70"]) == 2
            with closing(StoreIndex(open_store(f"{database('built')}?index=DISKANN"))) as held:  # what it has is what counts
                similar = half @ half[[7, 8, 9, 70]].T
                similar[[7, 70]] = -1
                answers = [Retriever(held).answer(Request(vector=half[row], k=10)) for row in (7, 8, 9, 70)]
                found = [{hit.passage_id for hit in hits} for hits in answers]
                nearest = [{f"p{best}" for best in np.argsort(-column)[:10]} for column in similar.T]
                assert not {"p7", "p70"} & set().union(*found) and "p8" in found[1] and "p9" in found[2]
                assert sum(len(one & other) for one, other in zip(found, nearest, strict=True)) >= 32  # of 40
        monkeypatch.setattr(milvus_indices, "STALLED_S", 8.0)  # this build of Milvus tries DISKANN again without end
        stalled = pytest.raises(Unavailable, match="built its index DISKANN for 0 of 5,000 passages and gets no further")
        with closing(open_store(f"{database('built')}?index=DISKANN")) as loading, stalled:
            loading.load(about, blocks, keep=False)
        assert milvus_indices.index_of(store._client(), store._there()) == "IVF_FLAT"
        assert len(StoreIndex(store)) == 4998
        assert not [name for name in store._client().list_collections() if name.startswith("built_") and name != store._there()]


def test_no_message_holds_a_password(capsys) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not here")
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


def test_export_and_search_on_the_command_line_and_a_server(kind, both, database, encoder, tmp_path, capsys) -> None:
    passages, vectors = corpus()
    shards = shards_of(tmp_path / "shards", encoder, passages[:20], vectors[:20])
    address = database("told")
    code, out, err = ragvec(capsys, "export", shards, address, "--to", kind.removesuffix("-lite"))
    assert (code, err) == (0, "") and out.strip().endswith("/told: 20 passages loaded")
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
