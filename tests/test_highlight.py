"""Words of a query marked in a text, and the stretch that holds most of them; the text bounds the work, not the query."""

import random

import pytest

from ragvec.retrieve import highlight
from ragvec.retrieve.highlight import QueryWords, marks, snippet
from ragvec.retrieve.snippets import best_sentences, sentences


def marked(text: str, query: str) -> list[str]:
    return [text[start:end] for start, end in marks(text, query)]


@pytest.mark.parametrize(
    ("text", "query", "words"),
    [
        ("Foxes fox, FOXED; the firefox.", "foxes", ["Foxes", "fox", "FOXED"]),
        ("running runs Run", "running runs", ["running", "runs", "Run"]),
        ("The cat and the dog", "the cat", ["cat"]),
        ("to be or not", "to be", ["to", "be"]),
        ("Größe, GRÖSSEN und Maße", "größe", ["Größe", "GRÖSSEN"]),
        ("Пингвины и пингвин", "пингвин", ["Пингвины", "пингвин"]),
        ("हिन्दी भाषा", "हिन्दी", ["हिन्दी"]),
        ("대통령이 임명한 사람의 임기", "대통령의 임기", ["대통령", "임기"]),
        ("대통령의 임기", "대통령이 임명", ["대통령"]),
        ("대통령의임기", "대통령의 임기", ["대통령의", "임기"]),
        ("겨울은 춥고 서울은 덥다", "서울은", ["서울은"]),
        ("여행이 은행을 돕는다", "은행이", ["은행"]),
        ("한국은행의 총재", "한국 은행", ["한국", "은행"]),
        ("나의 겨울은 길다", "울은", ["울은"]),
        ("서울서울은 서해", "서울", ["서울", "서울"]),
        ("물가와 물", "물", ["물", "물"]),
        ("더울 때 마신다", "추울 때", ["때"]),
        ("東京都の東", "東京都", ["東京都"]),
        ("ＦＯＸ fox를 본다", "fox", ["ＦＯＸ", "fox"]),
        ("a.b*c (x|y)", "a.b*c x|y", ["b", "c", "x", "y"]),
        ("no words", "", []),
        ("", "fox", []),
    ],
)
def test_marks(text, query, words):
    assert marked(text, query) == words


class Counting(set):
    """A set that counts how often it is looked into."""

    looks = 0

    def __contains__(self, value) -> bool:
        self.looks += 1
        return super().__contains__(value)


@pytest.mark.parametrize("script", ["latin", "korean", "one word"])
def test_the_work_is_bounded_by_the_text_however_long_the_query_is(script):
    draw = random.Random(0)

    def word() -> str:
        letters = "abcdefghij" if script != "korean" else "가나다라마바사아자차"
        return "".join(draw.choices(letters, k=draw.randint(1, 90)))

    query = " ".join(word() for _ in range(2000))
    text = (query if script != "one word" else query.replace(" ", ""))[: highlight.SEARCHED]
    words = QueryWords(query)
    words.stems, words.pairs = Counting(words.stems), Counting(words.pairs)
    found = list(words.find(text))
    assert found and words.stems.looks + words.pairs.looks <= 2 * len(text)


def test_each_found_word_enters_the_window_once_and_leaves_once(monkeypatch):
    steps = []

    class Held(highlight.Counter):
        def __setitem__(self, name, count):
            steps.append(name)
            super().__setitem__(name, count)

    monkeypatch.setattr(highlight, "Counter", Held)
    text = "fox dog cat " * 4000
    assert snippet(text, "fox dog cat", 200).startswith("fox dog")
    assert len(steps) <= 2 * 12_000


def test_the_stretch_is_the_one_with_most_different_words_by_brute_force():
    draw = random.Random(1)
    for _ in range(50):
        text = " ".join(draw.choices(["fox", "dog", "cat", "서울이", "filler", "words"], weights=[1, 1, 1, 1, 20, 20], k=400))
        query, length = "fox dog cat 서울", draw.randint(20, 200)
        found = [(start, word) for start, _, word in QueryWords(query).find(text)]
        starts = sorted({max(0, min(place - length // 6, len(text) - length)) for place, _ in found} | {0})
        best = max(starts, key=lambda start: len({word for place, word in found if start <= place < start + length}))
        shown = snippet(text, query, length).strip("…")
        assert shown in text[best : best + length] and len(shown) >= length - 2 * (length // 6) - 1


def test_sentences_look_at_no_more_than_they_give(monkeypatch):
    assert sentences("Dr. No met e.g. Mr. Bond. He left.") == ["Dr. No met e.g. Mr. Bond.", "He left."]
    looked = []

    class Spy:
        def search(self, text):
            looked.append(len(text))

    monkeypatch.setattr("ragvec.corpus.chunk._ABBREVIATION", Spy())
    assert len(sentences("A. " * 200_000)) == 200
    assert max(looked) <= 12 and len(looked) <= 200 * 400


def test_the_sentence_with_most_of_the_querys_words_without_an_encoder():
    text = "Cats sleep. A fox met the dogs. The dog barked."
    assert best_sentences("dogs and foxes", [text, ""], None, None) == ["A fox met the dogs.", ""]
