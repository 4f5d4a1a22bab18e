"""The map: near vectors lie near each other, topics bear their words, and the file is believed only after a look."""

import json
import os

import numpy as np
import pytest
from fastapi.testclient import TestClient

from ragvec.artefacts import MAP_NAME
from ragvec.cli.main import main
from ragvec.errors import Damaged, NotFound, RagvecError, Unavailable, WrongInput
from ragvec.index import Index
from ragvec.map import make as making
from ragvec.map import make_map, read_map
from ragvec.records import Document

pytest.importorskip("openTSNE", reason="pip install 'ragvec[map]'")

KINDS = {"plants": "leaves light sugar", "rivers": "water flood sea", "대통령": "국회 임기"}
EACH = 20


def documents() -> tuple[list[Document], np.ndarray]:
    """Three kinds of documents, and vectors of which those of a kind are near each other."""
    draw = np.random.default_rng(0)
    made, vectors = [], []
    for axis, (kind, words) in enumerate(KINDS.items()):
        for number in range(EACH):
            particle = "은이의"[number % 3] if kind == "대통령" else ""
            made.append(Document(f"{kind}-{number}", f"{kind}{particle} {words} {number}", f"{kind} {number}"))
            vectors.append(np.eye(8)[axis] + 0.1 * draw.standard_normal(8))
    return made, np.array(vectors)


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setattr("ragvec.map.topics.MOST", 3)
    with Index.create(tmp_path / "index", dimension=8) as index:
        made, vectors = documents()
        index.add(made, vectors=vectors)
        yield index


def test_near_vectors_lie_near_each_other_and_topics_bear_their_words(index):
    made = make_map(index)
    kinds = np.repeat(np.arange(3), EACH)
    places = made.points.astype(float)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(len(places)) * 1e9
    assert (kinds[distances.argmin(axis=1)] == kinds).all()
    assert len(made) == made.total == 60 and sorted(np.bincount(made.topics)) == [20, 20, 20]
    words = {topic.words[0] for topic in made.names}
    assert words <= set(" ".join([*KINDS, *KINDS.values()]).split())
    for topic, number in zip(made.names, range(3), strict=True):
        members = places[made.topics == number]
        assert (members.min(axis=0) <= (topic.x, topic.y)).all() and ((topic.x, topic.y) <= members.max(axis=0)).all()
    assert made.points.min() > 0 and made.points.max() < 65_535


def test_a_map_is_read_as_it_was_made_and_made_again_the_same(index):
    made, read = make_map(index), read_map(index)
    again = make_map(index)
    for one in (read, again):
        for name in ("passages", "hashes", "points", "topics"):
            assert (getattr(one, name) == getattr(made, name)).all()
        assert (one.names, one.generation, one.fingerprint, one.last) == (
            made.names,
            made.generation,
            made.fingerprint,
            made.last,
        )


def test_a_map_says_what_has_changed_since(index):
    made = make_map(index)
    with index.reading() as view:
        standing = made.against(index, view)
        assert not standing.is_stale and standing.live.all()
    index.delete(["rivers-3"])
    index.add([Document("plants-0", "another text"), Document("new", "new text")], vectors=np.eye(8)[:2])
    with index.reading() as view:
        standing = made.against(index, view)
    assert standing.is_stale and standing.new == 2 and (~standing.live).sum() == 2 and not standing.other_encoder
    index.compact()
    with index.reading() as view:
        assert (made.against(index, view).live == standing.live).all()


def test_an_index_of_the_same_ids_with_other_texts_is_not_taken_for_the_mapped_one(index, tmp_path):
    make_map(index)
    with Index.create(tmp_path / "other", dimension=8) as other:
        _, vectors = documents()
        other.add([Document(f"{n}", f"something else {n}") for n in range(60)], vectors=vectors)
        os.rename(index.path / MAP_NAME, other.path / MAP_NAME)
        with other.reading() as view:
            assert not read_map(other).against(other, view).live.any()


def test_of_many_passages_the_same_ones_are_drawn(index, monkeypatch):
    monkeypatch.setattr(making, "MOST_POINTS", 40)
    made = make_map(index)
    assert len(made) == 40 and made.total == 60
    index.add([Document("new", "new text")], vectors=np.eye(8)[:1])
    assert len(np.intersect1d(make_map(index).passages, made.passages)) >= 39


def test_passages_beyond_those_laid_out_lie_among_their_nearest(index, monkeypatch):
    from ragvec.map import layout

    monkeypatch.setattr(layout, "MOST_LAID_OUT", 30)
    places = make_map(index).points.astype(float)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(60) * 1e9
    kinds = np.repeat(np.arange(3), EACH)
    assert (kinds[distances.argmin(axis=1)] == kinds).mean() > 0.9


def test_passages_that_are_all_alike_have_a_map_too(tmp_path):
    with Index.create(tmp_path / "alike", dimension=4) as index:
        index.add([Document(f"{n}", "the same") for n in range(12)], vectors=np.ones((12, 4)))
        made = make_map(index)
    assert len(made) == 12 and made.names


def test_too_few_passages_and_a_missing_library_are_said(tmp_path, monkeypatch):
    with Index.create(tmp_path / "few", dimension=4) as index:
        index.add([Document(f"{n}", "text") for n in range(9)], vectors=np.ones((9, 4)))
        with pytest.raises(WrongInput, match="has 9 passages: a map needs 10"):
            make_map(index)
        monkeypatch.setattr("ragvec.map.layout.find_spec", lambda name: None)
        with pytest.raises(Unavailable, match=r"needs openTSNE: pip install 'ragvec\[map\]'"):
            make_map(index)
        with pytest.raises(NotFound, match="make one with `ragvec map"):
            read_map(index)


def damages():
    def change(**values):
        return lambda arrays: {**arrays, **{name: change(arrays[name]) for name, change in values.items()}}

    def about(**values):
        def described(old):
            return np.frombuffer(json.dumps({**json.loads(old.tobytes()), **values}).encode(), np.uint8)

        return change(about=described)

    return {
        "no topic": about(topics=[]),
        "many topics": about(topics=[{"words": [], "x": 0, "y": 0}] * 65),
        "a long word": about(topics=[{"words": ["x" * 101], "x": 0, "y": 0}] * 3),
        "a place outside": about(topics=[{"words": [], "x": 65_536, "y": 0}] * 3),
        "words that are none": about(topics=[{"words": [1], "x": 0, "y": 0}] * 3),
        "another format": about(format=2),
        "no fingerprint": about(fingerprint=None),
        "no description": change(about=lambda old: old[:9]),
        "a topic without a name": change(topics=lambda old: np.full_like(old, 63)),
        "fewer topics": change(topics=lambda old: old[:-1]),
        "passages out of order": change(passages=lambda old: old[::-1].copy()),
        "an id too high": change(passages=lambda old: old + 2**40),
        "another type": change(points=lambda old: old.astype(np.float32)),
        "another shape": change(points=lambda old: old.ravel()),
        "no points": lambda arrays: {name: old if name == "about" else old[:0] for name, old in arrays.items()},
        "one array less": lambda arrays: {name: old for name, old in arrays.items() if name != "hashes"},
    }


@pytest.mark.parametrize("damage", damages().values(), ids=damages().keys())
def test_a_file_that_is_no_map_is_refused(made, damage):
    from safetensors.numpy import load, save

    index, data = made
    (index.path / MAP_NAME).write_bytes(save(damage(load(data))))
    with pytest.raises(Damaged, match="make it again with `ragvec map") as caught:
        read_map(index)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An index whose map others may damage, and the map's bytes."""
    with Index.create(tmp_path_factory.mktemp("made") / "index", dimension=8) as index:
        texts, vectors = documents()
        index.add(texts, vectors=vectors)
        make_map(index)
        yield index, (index.path / MAP_NAME).read_bytes()


def test_no_link_is_followed_and_nothing_endless_is_read(made, tmp_path):
    index, data = made
    path = index.path / MAP_NAME
    for content in (b"", b"\xff" * 100, data[:-1], data + bytes(5 << 20)):
        path.write_bytes(content)
        with pytest.raises(Damaged):
            read_map(index)
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(data)
    path.symlink_to(tmp_path / "elsewhere")
    for act in (read_map, make_map):
        with pytest.raises(Damaged, match="is a link"):
            act(index)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Damaged):
        read_map(index)
    path.unlink()
    assert (tmp_path / "elsewhere").read_bytes() == data


def test_the_command_names_topics(index, capsys):
    index.close()
    with pytest.raises(SystemExit) as end:
        main(["map", str(index.path)])
    said = capsys.readouterr()
    assert end.value.code == 0, said.err
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["20", "20", "20"]
    assert lines[3].startswith(f"{index.path}/map.safetensors: 60 of 60 passages, in ")
    with pytest.raises(SystemExit) as end:
        main(["map", str(index.path.parent / "none")])
    assert end.value.code == 1 and "no index in" in capsys.readouterr().err


@pytest.fixture(scope="module")
def served(tiny_decoder, tmp_path_factory):
    from ragvec.encoder import Encoder
    from ragvec.serve import Service

    path = tmp_path_factory.mktemp("served") / "index"
    encoder = Encoder.load(tiny_decoder)
    with Index.create(path, encoder=encoder) as index:
        index.add([Document(f"{n}", f"Passage {n}. " * 40, f"Title {n}") for n in range(24)])
    with Service(encoder, path) as service:
        yield service, path


def test_the_map_over_http(served):
    from ragvec.serve import create_app

    service, path = served
    client = TestClient(create_app(service), base_url="http://localhost")
    assert client.get("/info").json()["map"] is False
    missing = client.get("/map")
    assert missing.status_code == 404 and str(path.parent) not in missing.text
    with Index.open(path) as index:
        made = make_map(index)
    assert client.get("/info").json()["map"] is True
    about = client.get("/map").json()
    assert (about["points"], about["passages"], about["stale"]) == (24, 24, False)
    assert [tuple(topic["words"]) for topic in about["topics"]] == [topic.words for topic in made.names]
    version = {"version": about["version"]}
    data = client.get("/map/points", params=version).content
    assert np.frombuffer(data, "<u2", 48).reshape(2, 24).T.tolist() == made.points.tolist()
    assert np.frombuffer(data, np.uint8, offset=96).tolist() == made.topics.tolist()
    one = client.get("/map/points/3", params=version).json()
    assert (one["doc_id"], one["title"], len(one["text"])) == ("3", "Title 3", 241)
    asked = {**version, "passage_ids": ["3", "nothing", one["passage_id"]]}
    assert client.post("/map/places", json=asked).json() == {"points": [3, None, 3]}
    for number in ("24", "-1"):
        assert client.get(f"/map/points/{number}", params=version).status_code == 404
    for answer in (client.get("/map/points?version=1"), client.post("/map/places", json={**asked, "version": "1"})):
        assert answer.status_code == 409
    with Index.open(path, encoder=service.encoder) as index:
        index.delete(["3"])
    about = client.get("/map").json()
    assert (about["stale"], about["gone"], about["new"]) == (True, 1, 0)
    version = {"version": about["version"]}
    assert client.get("/map/points", params=version).content[96 + 3] == 255
    assert client.get("/map/points/3", params=version).status_code == 404
    (path / MAP_NAME).write_bytes(b"no map")
    broken = client.get("/map")
    assert broken.status_code == 503 and str(path.parent) not in broken.text
    locked = TestClient(create_app(service, api_key="sesame"), base_url="http://localhost")
    for place in ("/map", "/map/points?version=1", "/map/points/1?version=1", "/overview"):
        assert locked.get(place).status_code == 401
    for place in ("/map/places", "/similar"):
        assert locked.post(place, json={}).status_code == 401


def test_a_removed_index_takes_its_map_along(made):
    from ragvec.index.layout import remove_index

    index, data = made
    (index.path / MAP_NAME).write_bytes(data)
    index.close()
    remove_index(index.path)
    assert not index.path.exists()
    assert issubclass(Damaged, RagvecError)
