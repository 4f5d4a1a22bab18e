"""Shards handed over to LanceDB and Qdrant, read back by their own clients; the lines of docs/stores.md."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ragvec.encoder import Encoder
from ragvec.errors import RagvecError, WrongInput
from ragvec.records import Passage
from ragvec.stores import export_shards
from ragvec.stores.handed import point_id
from tests.conftest import REPOSITORY
from tests.stores import corpus, shards_of
from tests.test_cli_index import ragvec


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder)


def read_lancedb(folder: Path) -> dict[str, tuple]:
    import lancedb

    rows = lancedb.connect(folder).open_table("passages").to_arrow().to_pylist()
    return {row["passage_id"]: (row["doc_id"], row["title"], row["text"], row["vector"]) for row in rows}


def read_qdrant(folder: Path) -> dict[str, tuple]:
    from qdrant_client import QdrantClient

    client = QdrantClient(path=str(folder))
    points, _ = client.scroll("passages", limit=1000, with_vectors=True)
    client.close()
    for point in points:
        assert point.id == point_id(Passage(point.payload["passage_id"], "", ""))
    texts = ("doc_id", "title", "text")
    return {p.payload["passage_id"]: (*(p.payload[name] for name in texts), p.vector) for p in points}


@pytest.mark.parametrize(("to", "needed", "read"), [
    ("lancedb", "lancedb", read_lancedb), ("qdrant", "qdrant_client", read_qdrant),
], ids=["lancedb", "qdrant"])  # fmt: skip
def test_what_is_written_is_what_the_shards_hold_and_is_brought_up_to_date(to, needed, read, encoder, tmp_path, capsys):
    if find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed: pip install 'ragvec[{to}]'")
    passages, vectors = corpus()
    for name, chosen in (("first", range(300)), ("second", range(100, 200))):
        shards = shards_of(tmp_path / name, encoder, [passages[row] for row in chosen], vectors[list(chosen)])
        code, out, err = ragvec(capsys, "export", shards, tmp_path / "db" / "passages", "--to", to)
        assert (code, err) == (0, "") and out.strip().endswith(f"/db/passages: {len(chosen)} passages loaded")
        held = read(tmp_path / "db")
        assert set(held) == {passages[row].passage_id for row in chosen}
        for row in chosen:
            *texts, vector = held[passages[row].passage_id]
            assert texts == [passages[row].doc_id, passages[row].title, passages[row].text]
            assert np.allclose(vector, vectors[row].astype(np.float16), atol=1e-6)
    other = shards_of(tmp_path / "other", Encoder.load(encoder.source, max_length=7), passages[:3], vectors[:3])
    with pytest.raises(WrongInput, match="was built with encoder"):
        export_shards(other, to, f"{tmp_path}/db/passages")
    with pytest.raises(WrongInput, match="leave `keep` out"):
        export_shards(other, to, f"{tmp_path}/db/passages", keep=True)
    assert len(read(tmp_path / "db")) == 100


def test_a_table_of_others_is_left_alone(encoder, tmp_path):
    lancedb = pytest.importorskip("lancedb", reason="pip install 'ragvec[lancedb]'")
    lancedb.connect(tmp_path / "db").create_table("passages", data=[{"a": 1}])
    shards = shards_of(tmp_path / "shards", encoder, *(part[:3] for part in corpus()))
    with pytest.raises(WrongInput, match="is not one that ragvec has written"):
        export_shards(shards, "lancedb", f"{tmp_path}/db/passages")
    assert lancedb.connect(tmp_path / "db").open_table("passages").count_rows() == 1


def test_a_server_that_is_not_there_is_one_line(encoder, tmp_path):
    pytest.importorskip("qdrant_client", reason="pip install 'ragvec[qdrant]'")
    shards = shards_of(tmp_path / "shards", encoder, *(part[:3] for part in corpus()))
    with pytest.raises(RagvecError, match="127.0.0.1:1 can't be written") as error:
        export_shards(shards, "qdrant", "http://127.0.0.1:1/passages")
    assert "\n" not in str(error.value)


def test_lancedb_on_object_storage(encoder, tmp_path, monkeypatch):
    pytest.importorskip("lancedb", reason="pip install 'ragvec[lancedb]'")
    import lancedb

    from tests.buckets import CLEARED, environment, server

    with server("moto", tmp_path) as port:
        for name in CLEARED:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment(port).items():
            monkeypatch.setenv(name, value)
        shards = shards_of(tmp_path / "shards", encoder, *(part[:30] for part in corpus()))
        assert export_shards(shards, "lancedb", "s3://bucket/lance/passages").passages == 30
        assert lancedb.connect("s3://bucket/lance").open_table("passages").count_rows() == 30


@pytest.mark.parametrize(("to", "needed", "folder"), [
    ("lancedb", "lancedb", "data/lance"), ("qdrant", "qdrant_client", "data/qdrant"),
], ids=["lancedb", "qdrant"])  # fmt: skip
def test_the_lines_of_the_page_find_what_a_search_finds(to, needed, folder, tmp_path, monkeypatch, capsys):
    if find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed: pip install 'ragvec[{to}]'")
    page = (REPOSITORY / "docs" / "stores.md").read_text(encoding="utf-8")
    [lines] = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if f"{needed}" in code]
    monkeypatch.chdir(tmp_path)
    assert ragvec(capsys, "encode", REPOSITORY / "data" / "corpus.jsonl", "-o", "shards")[0] == 0
    assert ragvec(capsys, "export", "shards", f"{folder}/passages", "--to", to)[0] == 0
    exec(compile(lines, "stores.md", "exec"), {})
    assert "plant" in capsys.readouterr().out.lower()
