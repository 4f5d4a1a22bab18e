"""Several indices searched as one: the hits are those of one index over all of their documents, to the last digit."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ragvec.errors import NotFound, WrongInput
from ragvec.index import Index, IndexSettings
from ragvec.index.words import STEP
from ragvec.joint import Joint
from ragvec.joint.joint import check_agreement, distinct_names
from ragvec.records import Hit, Passage
from ragvec.retrieve import Request, Retriever
from ragvec.retrieve.lookup import metadata_fields, read_document
from tests.test_index import put
from tests.test_retrieve_pages import DIMENSION, WAYS, asked, passages, vectors

SETTINGS = IndexSettings("none", "0", DIMENSION, language="english")
BORDERS = (0, 249, 450, 600)  # between documents
FURTHER = [
    {"where": "even = true and (part = 1 or price > 3)"},
    {"where": "part in $parts", "where_values": {"parts": [2, 0]}, "mode": "lexical"},
    {"where": "passage_id = '449' or passage_id = '599' or passage_id = '0'"},
    {"syntax": True},
    {"syntax": True, "mode": "dense", "where": "even = false"},
    {"syntax": True, "mode": "lexical"},
]
SIGNED = ["+word3 word5 -word7", '"word1 word2" word4', "-word9 word1", "word1* word3~"]


def corpus() -> tuple[list[Passage], np.ndarray]:
    """Passages of which each has its part's number, and those of the last part a field of their own."""
    dice = np.random.default_rng(0)
    drawn = passages(dice, BORDERS[-1])
    parts = [int(np.searchsorted(BORDERS, number, side="right")) - 1 for number in range(len(drawn))]
    further = [{"part": part} | ({"price": number % 7} if part == 2 else {}) for number, part in enumerate(parts)]
    titled = [
        replace(one, title=one.text.split()[0] if number % 4 == 0 else "", metadata={**one.metadata, **more})
        for number, (one, more) in enumerate(zip(drawn, further, strict=True))
    ]
    return titled, vectors(dice, len(titled))


def made(folder: Path, passages: list[Passage], vectors: np.ndarray, *, commits: int = 1) -> Path:
    """An index folder of these, brought in by so many commits."""
    with Index.create_with(folder, SETTINGS) as index:
        for documents in np.array_split(np.arange(len(passages)).reshape(-1, 3), commits):
            rows = documents.ravel()
            put(index, [passages[row] for row in rows], vectors[rows])
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory):
    """A retriever over the whole corpus, and one over its parts."""
    folder = tmp_path_factory.mktemp("joint")
    drawn, near = corpus()

    def lengths(query: str, texts: list[str]) -> np.ndarray:
        return np.array([len(text) for text in texts], dtype=np.float32)

    parts = [
        made(folder / f"part-{number}", drawn[start:end], near[start:end], commits=1 + (number == 2))
        for number, (start, end) in enumerate(zip(BORDERS, BORDERS[1:], strict=False))
    ]
    with Index.open(made(folder / "whole", drawn, near)) as whole, Joint.open(parts) as joint:
        yield Retriever(whole, reranker=lengths, rerank="length"), Retriever(joint, reranker=lengths, rerank="length")


def unnamed(hits: list[Hit]) -> list[Hit]:
    return [replace(hit, index=None) for hit in hits]


@pytest.mark.parametrize("way", [*WAYS, *FURTHER], ids=lambda way: " ".join(f"{name}={way[name]}" for name in way) or "hybrid")
def test_hits_are_those_of_one_index_over_all_documents(both: tuple[Retriever, Retriever], way: dict) -> None:
    whole, joint = (one if "rerank" in way else Retriever(one.index) for one in both)
    found = 0
    for seed in range(4):
        query, vector = asked(seed)
        request = Request(
            query=SIGNED[seed] if way.get("syntax") else query,
            vector=None if way.get("mode") == "lexical" else vector,
            k=150,
            offset=seed,
            **way,
        )
        expected, hits = whole.answer(request), joint.answer(request)
        assert unnamed(hits) == expected, "each with its rank, scores and whether it is weak"
        assert all(hit.index == f"part-{hit.metadata['part']}" for hit in hits)
        found += len(hits)
    assert found > 4


def test_words_weigh_what_they_weigh_in_all_indices(both: tuple[Retriever, Retriever]) -> None:
    whole, joint = both
    with whole.index.reading() as one, joint.index.reading() as view, joint.index.indices[0].reading() as first:
        for query in ("word3", "word1 word2 word2", "word5*", "nothing"):
            assert view.words_weight(query) == one.words_weight(query)
        assert first.words_weight("word3") != one.words_weight("word3")
        assert view.near == one.near is not None
        assert view.fields() == one.fields() == ["even", "part", "price"]
        assert len(view) == len(one) == 600


def test_deleted_documents_are_found_no_more_and_the_others_as_before(tmp_path: Path) -> None:
    drawn, near = corpus()
    folders = [made(tmp_path / f"{start}", drawn[start : start + 60], near[start : start + 60]) for start in (0, 60)]
    with Index.open(made(tmp_path / "whole", drawn[:120], near[:120])) as whole, Joint.open(folders) as joint:
        for index in (whole, *joint.indices):
            index.delete(["7", "30"])
        for way in ({"mode": "lexical"}, {"where": "even = true"}, {"syntax": True}):
            request = Request(query="word1 word2 -word9", vector=asked(1)[1], k=100, **way)
            expected, hits = (Retriever(index).answer(request) for index in (whole, joint))
            assert [(hit.passage_id, hit.score) for hit in hits] == [(hit.passage_id, hit.score) for hit in expected]
            assert len(hits) > 10 and not {"7", "30"} & {hit.doc_id for hit in hits}


def test_a_shared_id_is_found_in_each_index_and_hits_say_which(tmp_path: Path) -> None:
    drawn, near = corpus()
    made(tmp_path / "a", drawn[:30], near[:30])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with Joint.open([tmp_path / "a", tmp_path / "b"]) as joint:
        retriever = Retriever(joint)
        for mode in ("dense", "lexical", "hybrid"):
            vector = None if mode == "lexical" else near[9]
            hits = retriever.answer(Request(query=drawn[9].text, vector=vector, k=2, mode=mode, where="passage_id = '9'"))
            assert [(hit.passage_id, hit.index) for hit in hits] == [("9", "a"), ("9", "b")] and hits[0].score == hits[1].score
        grouped = retriever.answer(Request(query=drawn[9].text, vector=near[9], k=60, group_by="doc_id"))
        assert len({hit.doc_id for hit in grouped}) == len(grouped) == 10, "of each id the best passage of all"
        assert read_document(joint, "3") == drawn[9:12] and metadata_fields(joint) == ["even", "part"]


def test_a_commit_to_one_of_them_is_seen(tmp_path: Path) -> None:
    drawn, near = corpus()
    folders = [made(tmp_path / name, drawn[start : start + 3], near[start : start + 3]) for name, start in (("a", 0), ("b", 3))]
    request = Request(query="brandnew", mode="lexical")
    with Joint.open(folders) as joint, Index.open(folders[1]) as writer:
        retriever = Retriever(joint)
        assert retriever.answer(request) == []
        put(writer, [Passage("new", "new", "brandnew words")], near[9:10])
        [hit] = retriever.answer(request)
        assert (hit.doc_id, hit.index, len(joint)) == ("new", "b", 7)
        writer.compact()
        assert retriever.answer(request) == [hit]
        with joint.reading() as view:
            assert view.search(near[9:10], 1).ids.tolist() == [[STEP + 4]]
        assert joint.describe()["passages"] == 7
        assert joint.describe()["indices"] == [
            {"name": "a", "documents": 1, "passages": 3},
            {"name": "b", "documents": 2, "passages": 4},
        ]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"fingerprint": "1"}, "encoder none and none differ (0, 1)"),
        ({"query_instruction": "Ask:"}, "query instruction differ ('Find:', 'Ask:')"),
        ({"document_instruction": "Doc:"}, "document instruction differ ('', 'Doc:')"),
        ({"normalized": False}, "normalized differ (True, False)"),
    ],
)
def test_indices_that_dont_agree_are_refused_in_one_line(other: dict, said: str) -> None:
    with pytest.raises(WrongInput) as error:
        check_agreement([replace(SETTINGS, query_instruction="Find:"), SETTINGS, replace(SETTINGS, **other)], ["a", "b", "c"])
    assert str(error.value) == (
        f"a and c can't be searched together, their {said}: build one again as the other was, or search them one by one"
    )


def test_words_of_two_languages_are_refused_until_one_is_brought_to_the_other(tmp_path: Path) -> None:
    for name, language in (("a", "english"), ("b", "german")):
        with Index.create_with(tmp_path / name, replace(SETTINGS, language=language)) as index:
            put(index, [Passage(name, name, "running houses")], np.ones((1, DIMENSION), dtype=np.float32))
    with Joint.open([tmp_path / "a", tmp_path / "b"]) as joint:
        with pytest.raises(WrongInput, match=r"as english in a, as german in b: .*`ragvec compact --language …`"):
            Retriever(joint).retrieve("house", mode="lexical")
        with Index.open(tmp_path / "b") as index:
            index.compact(language="english")
        assert [hit.doc_id for hit in Retriever(joint).retrieve("house run", mode="lexical")] == ["a", "b"]


def test_what_is_named_wrongly_is_refused(tmp_path: Path) -> None:
    Index.create_with(tmp_path / "a", SETTINGS).close()
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(WrongInput, match="link is named twice"):
        Joint.open([tmp_path / "link", tmp_path / "a"])
    with pytest.raises(NotFound, match="no index in .*b"):
        Joint.open([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(TypeError, match="pass \\[folder\\]"):
        Joint.open(str(tmp_path / "a"))
    with pytest.raises(WrongInput, match="no index is named"):
        Joint.open([])


def test_names_tell_folders_apart() -> None:
    assert distinct_names([Path("/x/a"), Path("/y/b")]) == ["a", "b"]
    assert distinct_names([Path("/x/index"), Path("/y/index")]) == ["x/index", "y/index"]


def test_a_field_that_is_only_elsewhere_is_none_of_the_indexs_own(tmp_path):
    """What a filter matched for others who have the field is not what it matches here, where nobody has it."""
    dice = np.random.default_rng(0)
    with Index.create_with(tmp_path / "one", SETTINGS) as index:
        put(index, passages(dice, 10), vectors(dice, 10))
        with index.reading() as view:
            assert view.matching("elsewhere = 1", also=("elsewhere",)).size == 0
            with pytest.raises(WrongInput, match="elsewhere"):
                view.matching("elsewhere = 1")
