"""The query language: what its signs mean to words and to vectors, what is text in it, and that no query is wrong or dear."""

import random
from pathlib import Path

import numpy as np
import pytest

from ragvec.encoder import Encoder
from ragvec.errors import WrongInput
from ragvec.index import Index
from ragvec.index.words import Words, WordsRecord, WordWriter
from ragvec.index.words.query import MOST_IN_SEQUENCE, MOST_SIGNS, read_query
from ragvec.records import Passage
from ragvec.retrieve import Request, Retriever
from tests.test_index import SETTINGS, found, put, unit_vectors
from tests.test_request import Counting

PASSAGES = [
    Passage("0", "0", "the quick brown fox jumps", "Animals of the forest"),
    Passage("1", "1", "a brown bear and a quick fox", "Bears"),
    Passage("2", "2", "foxes are running through the forest", ""),
    Passage("3", "3", "open it with O_CLOEXEC and the --force option", "fox hunting"),
    Passage("4", "4", "서울은 대한민국의 수도이다. 강물이 맑다", "수도 서울"),
    Passage("5", "5", "programming in C++ since version 3.11.2, in 2020", "Languages"),
]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Words:
    folder = tmp_path_factory.mktemp("words")
    writer = WordWriter(folder / "words", folder / "new", WordsRecord(), "english")
    writer.add(range(len(PASSAGES)), PASSAGES)
    return Words(folder / "words", writer.finish(), "english")


CASES = [
    ('"quick brown"', {0}),
    ("“quick brown”", {0}),
    ('"brown quick"', set()),
    ('"quick fox" bear', {1}),
    ('-"quick fox" fox', {0, 2, 3}),
    ("fox -bear", {0, 2, 3}),
    ("fox –bear", {0, 2, 3}),
    ("+fox +running", {2}),
    ("+bear forest", {1}),
    ("+the fox", {0, 2, 3}),
    ("+forest -running quick", {0}),
    ("title:fox", {3}),
    ("TITLE:Foxes brown", {3}),
    ("fox -title:fox", {0, 1, 2}),
    ('title:"of the forest"', {0}),
    ("title:ani*", {0}),
    ("title:beras~", {1}),
    ("title:수도", {4}),
    ("jum*", {0}),
    ("brow* -bea*", {0}),
    ("runnings*", {2}),
    ("O_CLO*", {3}),
    ("+pro* +lang*", {5}),
    ("quikc~", {0, 1}),
    ("forst~", {0, 2}),
    ("+jmups~ fox", {0}),
    ("fox -beer~", {0, 2, 3}),
    ("programmign~", {5}),  # in an ending, which is cut off
    ("title:languaegs~", {5}),
    ("quikc", set()),
    ("fx~", set()),  # too short for others to be near
    ('"강물"', {4}),
    ('"물"', {4}),
    ("+서울 fox", {4}),
    ("서울*", {4}),
    ("fox -서울", {0, 1, 2, 3}),
    # what is text
    ("C++", {5}),
    ("c++ -python", {5}),
    ("--force", {3}),
    ("fox -v", {0, 1, 2, 3}),
    ("fox -2020", {0, 1, 2, 3, 5}),
    ("3.11.2", {5}),
    ('"unclosed brown', {0, 1}),
    ('5" brown 3" bear', {0, 1, 5}),
    ("fox - bear", {0, 1, 2, 3}),
    ("**bear**", {1}),
    ("-bear", {1}),  # nothing is asked for
    ('-"brown bear" -quick', {0, 1}),
    ("title: fox", {0, 1, 2, 3}),
    ('+ - title: * ~ "" +-* -"" title:"" title:*', set()),
    ('fox"', {0, 1, 2, 3}),
]


@pytest.mark.parametrize(("query", "names"), CASES)
def test_signs_mean(words: Words, query: str, names: set[int]) -> None:
    assert {number for number, _ in words.search(query, 10, syntax=True)} == names


@pytest.mark.parametrize("query", [query for query, _ in CASES])
def test_what_must_and_must_not_be_is_what_the_words_find(words: Words, query: str) -> None:
    """Of the passages that hold a word of the query, those that its limits leave are the hits."""
    limited = words.limited(query)
    hits = {number for number, _ in words.search(query, 10, syntax=True)}
    if limited is None:
        assert not read_query(query, syntax=True).limits
        return
    assert limited.ids.tolist() == sorted(limited.ids) and limited.ids.dtype == np.int64
    left = set(limited.ids.tolist()) if limited.allowed else set(range(len(PASSAGES))) - set(limited.ids.tolist())
    assert len(limited.ids) <= len(PASSAGES) / 2
    must = any(one.sign == "+" for one in read_query(query, syntax=True).limits)
    assert hits == left if must else hits <= left


def test_without_the_language_signs_are_text(words: Words) -> None:
    for query in ('"brown quick"', "fox -bear", "+fox +running", "title:fox", "jum*"):
        plain = "".join(character if character.isalnum() else " " for character in query)
        assert words.search(query, 10) == words.search(plain, 10)
    assert read_query("fox -bear").meaning == "fox -bear"


@pytest.mark.parametrize(
    ("query", "meaning"),
    [
        ('"quick fox" bear', "quick fox bear"),
        ('fox -bear -"brown dog" +lake', "fox lake"),
        ("title:fox jump* wrod~", "fox jump wrod"),
        ("how do foxes - and bears - sleep?", "how do foxes - and bears - sleep?"),
        ("ls -l --all", "ls -l --all"),
        ("-bear", "-bear"),
    ],
)
def test_what_an_encoder_is_told(query: str, meaning: str) -> None:
    assert read_query(query, syntax=True).meaning == meaning == Request(query=query, syntax=True).meaning
    assert Request(query=query).meaning == query


def test_words_in_titles_count_more(tmp_path: Path) -> None:
    writer = WordWriter(tmp_path / "words", tmp_path / "new", WordsRecord(), "english")
    writer.add([1, 2, 3], [Passage("1", "1", "x gears"), Passage("2", "2", "x", "gears"), Passage("3", "3", "nothing", "else")])
    words = Words(tmp_path / "words", writer.finish(), "english")
    assert [number for number, _ in words.search("gears", 3)] == [2, 1]


def test_an_exact_word_comes_before_those_near_to_it(tmp_path: Path) -> None:
    writer = WordWriter(tmp_path / "words", tmp_path / "new", WordsRecord(), "english")
    texts = ["a calm sea", "a palm tree", "a clam", "calms"]
    writer.add(range(4), [Passage(str(number), str(number), text) for number, text in enumerate(texts)])
    words = Words(tmp_path / "words", writer.finish(), "english")
    assert [number for number, _ in words.search("calm~", 4, syntax=True)] == [3, 0, 1, 2]
    assert [number for number, _ in words.search("clam~", 4, syntax=True)] == [2, 0, 3], "palm is two letters from it"


HOSTILE = [
    '"' * 20_000,
    "+" * 20_000,
    "+a " * 20_000,
    '"a ' * 20_000,
    "title:" * 10_000,
    'title:"' * 10_000,
    "*~" * 10_000,
    "a* " * 20_000,
    " ".join(f"-w{number}" for number in range(20_000)),
    " ".join(f"w{number}* v{number}~" for number in range(10_000)),
    '"' + "brown fox " * 5_000 + '"',
    "x" * 50_000 + "~",
    "x" * 50_000 + "*",
    "+" + "x" * 50_000,
    "\0\ud7ff\u202e+\u0301*" * 1_000,
]


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_queries_are_answered_as_text_or_bounded(words: Words, query: str) -> None:
    read = read_query(query + " fox", syntax=True)
    assert len({one for one in read.asked if one.sign or one.prefix or one.near}) <= MOST_SIGNS
    assert all(len(one.words) <= MOST_IN_SEQUENCE for one in read.asked if one.exact)
    hits = {number for number, _ in words.search(query + " fox", 10, syntax=True)}
    assert hits == {3: {1}, 5: set(), 13: set()}.get(HOSTILE.index(query), {0, 1, 2, 3})


def test_more_signs_than_a_person_types_are_text(words: Words) -> None:
    signs = " ".join(f"-word{number}" for number in range(MOST_SIGNS))
    assert {number for number, _ in words.search(f"fox {signs} -bear", 10, syntax=True)} == {0, 1, 2, 3}
    signs = " ".join(f"-word{number}" for number in range(MOST_SIGNS - 1))
    assert {number for number, _ in words.search(f"fox {signs} -bear", 10, syntax=True)} == {0, 2, 3}
    repeated = "-bear " * 1_000
    assert {number for number, _ in words.search(f"fox {repeated}", 10, syntax=True)} == {0, 2, 3}


def test_random_queries_are_never_wrong(words: Words) -> None:
    draw = random.Random(5)
    pieces = [
        '"',
        "+",
        "-",
        "title:",
        "*",
        "~",
        " ",
        "fox",
        "bear",
        "서울",
        "C++",
        "물",
        "3.11",
        "\u0301",
        "“",
        "(",
        "the",
        "\n",
    ]
    for _ in range(1_500):
        query = "".join(draw.choices(pieces, k=draw.randint(1, 12)))
        hits = words.search(query, 10, syntax=True)
        assert hits == sorted(hits, key=lambda hit: (-hit[1], hit[0]))
        assert words.search(query, 3, syntax=True) == hits[:3], query
        if (limited := words.limited(query)) is not None:
            there = np.isin([number for number, _ in hits], limited.ids)
            assert there.all() if limited.allowed else not there.any(), query


def test_many_passages_of_one_score_are_cheap_and_pages_follow(tmp_path: Path) -> None:
    writer = WordWriter(tmp_path / "words", tmp_path / "new", WordsRecord(), "english")
    writer.add(range(5_000), [Passage(str(number), str(number), f"w{number % 7}") for number in range(5_000)])
    words = Words(tmp_path / "words", writer.finish(), "english")
    looked: list[int] = []
    find = words.hits
    words.hits = lambda asked, look: (looked.append(look), find(asked, look))[1]  # type: ignore[method-assign]
    whole = words.search("w*", 5_000, syntax=True)
    assert sorted(number for number, _ in whole) == list(range(5_000))
    looked.clear()
    for k in (1, 10, 100, 1_500):
        assert words.search("w*", k, syntax=True) == whole[:k]
        assert (
            words.search("w*", k, syntax=True, allowed=np.arange(0, 5_000, 2)) == [hit for hit in whole if not hit[0] % 2][:k]
        )
    assert max(looked) < 5_000


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder)


@pytest.fixture(scope="module")
def index(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Index:
    with Index.create(tmp_path_factory.mktemp("asked") / "index", encoder=encoder) as index:
        index.add_passages(PASSAGES[:3])
        index.add_passages(PASSAGES[3:])
        index.add_passages([Passage("gone", "gone", "a fox that is gone")])
        index.delete(["gone"])
    return index


@pytest.mark.parametrize("mode", ["dense", "hybrid", "lexical"])
@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("fox -bear", {"0", "2", "3", "4", "5"}),
        ('"quick fox" bear', {"1"}),
        ("+fox -brown", {"2", "3"}),
        ("title:fox animals", {"3"}),
        ("+nowhere fox", set()),
    ],
)
def test_limits_hold_for_vectors_too_and_as_many_hits_come_as_match(
    index: Index, encoder: Encoder, mode: str, query: str, left: set[str]
) -> None:
    hits = {hit.doc_id for hit in Retriever(index, encoder).retrieve(query, 10, mode=mode, syntax=True)}
    assert hits == left - ({"4", "5"} if mode == "lexical" else set())
    for k in (1, 2):
        some = Retriever(index, encoder).retrieve(query, k, mode=mode, syntax=True)
        assert len(some) == min(k, len(hits)) and {hit.doc_id for hit in some} <= left


def test_limits_and_filters_hold_together(index: Index, encoder: Encoder) -> None:
    retriever = Retriever(index, encoder)
    for query, left in [("fox -bear", {"0"}), ("+fox", {"0", "1"}), ("fox", {"0", "1"})]:
        hits = retriever.retrieve(query, 10, syntax=True, where='doc_id in ("0", "1")')
        assert {hit.doc_id for hit in hits} == left


def test_many_queries_keep_to_their_own_limits(index: Index, encoder: Encoder) -> None:
    counting = Counting(encoder)
    queries = ["fox -bear", "bear", '"brown bear"', "forest"]
    together = Retriever(index, counting).retrieve_many(queries, 4, syntax=True)
    assert counting.asked == ["fox", "bear", "brown bear", "forest"]
    alone = [Retriever(index, encoder).retrieve(query, 4, syntax=True) for query in queries]
    assert [[hit.doc_id for hit in hits] for hits in together] == [[hit.doc_id for hit in hits] for hits in alone]
    assert [hit.doc_id for hit in together[2]] == ["1"]


def test_rerankers_and_snippets_are_told_the_meaning(index: Index, encoder: Encoder) -> None:
    asked = []

    def rerank(query: str, texts: list[str]) -> np.ndarray:
        asked.append(query)
        return np.arange(len(texts), dtype=np.float32)

    retriever = Retriever(index, encoder, reranker=rerank)
    assert retriever.retrieve('"brown fox" -bear', 3, syntax=True, snippets=True)[0].doc_id == "0"
    assert asked == ["brown fox"]


def test_a_word_that_moves_between_title_and_text_is_found_where_it_is(tmp_path: Path) -> None:
    with Index.create_with(tmp_path / "index", SETTINGS) as index:
        put(index, [Passage("1", "1", "B C", "A"), Passage("2", "2", "D", "E", {"n": 1})], unit_vectors(2))

        def titled(query: str) -> list[int]:
            with index.reading() as view:
                return [number for number, _ in view.search_lexical(query, 5, syntax=True)]

        assert (titled("title:a"), titled("title:b"), titled("title:e")) == ([1], [], [2])
        moved = [Passage("1", "1", "C", "A B"), Passage("2", "2", "D", "E", {"n": 2})]
        put(index, moved, unit_vectors(2))
        assert (titled("title:a"), titled("title:b"), titled("title:c"), titled("+c")) == ([1], [1], [], [1])
        with index.reading() as view:
            assert view.passages([1, 2]) == moved
            assert view.words.record.deleted <= 1, "metadata alone are no words"
        assert [name for name, _ in found(index, unit_vectors(2)[:1], 1)[0]] == ["1"]
        index.compact()
        assert titled("title:b") == [1]


def test_compact_changes_the_language_that_words_are_stemmed_by(tmp_path: Path) -> None:
    with Index.create_with(tmp_path / "index", SETTINGS) as index:
        put(index, [Passage("1", "1", "Die Häuser stehen")], unit_vectors(1))

        def hits(query: str) -> int:
            with index.reading() as view:
                return len(view.search_lexical(query, 5))

        assert hits("Hauses") == 0
        index.compact(language="german")
        assert hits("Hauses") == 1 and index.describe()["language"] == "german" == index.settings.language
        index.compact()
        assert hits("Hauses") == 1 and index.describe()["language"] == "german"
        with pytest.raises(WrongInput, match="no stemmer for the language 'klingon': choose one of arabic, "):
            index.compact(language="klingon")
