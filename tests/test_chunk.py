"""Cutting documents into passages: budgets kept, nothing lost, sentences and characters whole, in many scripts."""

# ruff: noqa: E501 - wide characters count twice
import random

import pytest
import regex

from ragvec.corpus.chunk import Cutter, cut_documents, sentence_borders
from ragvec.errors import RagvecError
from ragvec.records import Document, Passage
from tests.tiny import make_tokenizer

TEXTS = {
    "English": "Dr. Smith paid approx. 5 dollars, e.g. for tea. Then he left! Was it late? “Yes.” He ran… and ran (again). The end.",
    "Korean": "서울은 대한민국의 수도이다. 한강이 도시를 가로지른다! 인구는 얼마나 될까? 약 천만 명이다. 부산은 두 번째로 큰 도시다.",
    "Japanese": "東京は日本の首都です。人口は約千四百万人です！「本当ですか？」と彼は言った。はい、本当です。富士山が見えます。",
    "Chinese": "北京是中国的首都。它有三千年的历史！你去过吗？“去过。”他说。故宫在市中心；长城在北边。",
    "Arabic": "القاهرة عاصمة مصر. هل زرتها؟ نعم، زرتها مرتين! النيل يمر بها؛ وهو أطول نهر.",
    "Hindi": "दिल्ली भारत की राजधानी है। क्या आप वहाँ गए हैं? हाँ, मैं गया हूँ। यमुना नदी पास में बहती है॥",
    "emoji": "Families 👨‍👩‍👧‍👦 like flags 🇰🇷🇯🇵. Waves 👋🏽 and é (combining)! Zalgo ẗ̷̡ too? 한글 자모 각도.",
}


@pytest.fixture(scope="module")
def count():
    tokenizer = make_tokenizer()._tokenizer
    return lambda texts: [len(item.ids) for item in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def words(texts):
    return [len(text.split()) for text in texts]


def cut(text: str, count, tokens: int, overlap: int = 0, title: str = "") -> list[Passage]:
    return Cutter(count, tokens, overlap).cut(Document("d", text, title, {"n": 1}))


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("tokens", [1, 7, 40, 100])
def test_every_passage_fits_and_together_they_are_the_text(language, tokens, count):
    text = TEXTS[language] * 5
    passages = cut(text, count, tokens)
    assert squeezed("".join(passage.text for passage in passages)) == squeezed(text)
    whole_clusters = set(regex.findall(r"\X", text))
    for passage, size in zip(passages, count([passage.text for passage in passages]), strict=True):
        assert size <= tokens or len(regex.findall(r"\X", passage.text)) == 1
        assert set(regex.findall(r"\X", passage.text)) <= whole_clusters, "a character that people see was split"


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("English", [
            "Dr. Smith paid approx. 5 dollars, e.g. for tea.", "Then he left!", "Was it late?", "“Yes.”",
            "He ran… and ran (again).", "The end.",
        ]),
        ("Korean", [
            "서울은 대한민국의 수도이다.", "한강이 도시를 가로지른다!", "인구는 얼마나 될까?", "약 천만 명이다.", "부산은 두 번째로 큰 도시다.",
        ]),
        ("Japanese", [
            "東京は日本の首都です。", "人口は約千四百万人です！", "「本当ですか？」", "と彼は言った。", "はい、本当です。", "富士山が見えます。",
        ]),
        ("Chinese", ["北京是中国的首都。", "它有三千年的历史！", "你去过吗？", "“去过。”", "他说。", "故宫在市中心；长城在北边。"]),
        ("Arabic", ["القاهرة عاصمة مصر.", "هل زرتها؟", "نعم، زرتها مرتين!", "النيل يمر بها؛ وهو أطول نهر."]),
        ("Hindi", ["दिल्ली भारत की राजधानी है।", "क्या आप वहाँ गए हैं?", "हाँ, मैं गया हूँ।", "यमुना नदी पास में बहती है॥"]),
    ],
)  # fmt: skip
def test_where_sentences_end(language, sentences):
    text = TEXTS[language]
    ends = list(sentence_borders(text))
    assert [text[start:end].strip() for start, end in zip([0, *ends], ends, strict=False)] == sentences


def test_sentences_stay_whole_where_they_fit():
    text = "One two three. Four five. Six seven eight nine. Ten."
    assert [p.text for p in cut(text, words, 5)] == ["One two three. Four five.", "Six seven eight nine. Ten."]
    assert [p.text for p in cut(text, words, 4)] == ["One two three.", "Four five.", "Six seven eight nine.", "Ten."]
    assert [p.text for p in cut(text, words, 50)] == [text]


def test_a_sentence_over_the_budget_is_cut_at_clauses_then_words():
    text = "aa bb cc, dd ee; ff gg hh ii jj kk. Short one."
    assert [p.text for p in cut(text, words, 4)] == ["aa bb cc,", "dd ee; ff gg", "hh ii jj kk.", "Short one."]


def test_an_overlap_repeats_whole_sentences():
    text = "One two. Three four. Five six. Seven eight."
    assert [p.text for p in cut(text, words, 4, 2)] == [
        "One two. Three four.",
        "Three four. Five six.",
        "Five six. Seven eight.",
    ]
    assert [p.text for p in cut("aa bb cc dd ee ff gg hh", words, 4, 1)] == ["aa bb cc dd", "dd ee ff gg", "gg hh"]


@pytest.mark.parametrize("seed", range(5))
def test_overlapping_passages_of_random_text_hold_all_of_it_in_order(seed, count):
    draw = random.Random(seed)
    text = " ".join(draw.choice(list(TEXTS.values())) for _ in range(20))
    tokens = draw.randrange(20, 120)
    passages = cut(text, count, tokens, overlap=draw.randrange(tokens // 2))
    at = reached = 0
    bare = squeezed(text)
    for passage in passages:
        piece = squeezed(passage.text)
        at = bare.index(piece, at)
        assert at <= reached < at + len(piece), "a gap, or nothing new"
        reached = at + len(piece)
        assert count([passage.text])[0] <= tokens
    assert reached == len(bare)


def test_ids_titles_and_metadata_go_with_every_passage():
    passages = cut("One two. Three four.", words, 4, title="A title")
    assert passages == [
        Passage("d#0", "d", "One two.", "A title", {"n": 1}),
        Passage("d#1", "d", "Three four.", "A title", {"n": 1}),
    ]
    assert cut("", words, 4) == [Passage("d#0", "d", "", "", {"n": 1})]
    assert cut(" \n ", words, 4) == [Passage("d#0", "d", "", "", {"n": 1})]


def test_a_title_longer_than_a_passage_leaves_half_of_it_to_the_text():
    assert [p.text for p in cut("a b c d", words, 4, title="t " * 100)] == ["a b", "c d"]


def test_documents_stream_through():
    documents = (Document(str(i), "a b c") for i in range(3))
    assert [p.passage_id for p in cut_documents(documents, Cutter(words, 2))] == ["0#0", "0#1", "1#0", "1#1", "2#0", "2#1"]


@pytest.mark.parametrize(
    "text", ["x" * 50_000, "좋" * 20_000, "a\u0301" * 20_000, "word " * 20_000, "。" * 20_000, "\n" * 99_000]
)
def test_long_text_without_borders_is_cut_in_time(text, count):
    passages = cut(text, count, 256)
    assert squeezed("".join(p.text for p in passages)) == squeezed(text)


@pytest.mark.parametrize(
    ("tokens", "overlap", "message"), [(0, 0, "choose 1 or more"), (10, 6, "choose 0 to 5"), (10, -1, "choose 0")]
)
def test_lengths_that_make_no_sense(tokens, overlap, message):
    with pytest.raises(RagvecError, match=message):
        Cutter(words, tokens, overlap)
