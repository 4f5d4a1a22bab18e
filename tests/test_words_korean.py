"""Korean morphemes in an index's words: forms of a verb meet, particles don't matter, pairs go on finding the rest."""

from pathlib import Path

import pytest

from ragvec.index.words import Words, WordsRecord, WordWriter
from ragvec.index.words.morphemes import morphemes
from ragvec.records import Passage

TEXTS = [
    "점심에 김치찌개를 먹었다.",
    "대통령의 임기는 5년이며 중임할 수 없다.",
    "프랑스 함대는 미노르카 섬을 공략하였다.",
    "Redis caches 서버를 재시작하면 비워진다.",
]


def words(folder: Path, language: str) -> Words:
    folder.mkdir()
    writer = WordWriter(folder / "words", folder / "new", WordsRecord(), language)
    writer.add(range(len(TEXTS)), [Passage(str(number), str(number), text) for number, text in enumerate(TEXTS)])
    return Words(folder / "words", writer.finish(), language)


def found(words: Words, query: str, **options: bool) -> list[int]:
    return [number for number, _ in words.search(query, 10, **options)]


def test_morphemes_are_what_a_text_says() -> None:
    pytest.importorskip("kiwipiepy")
    assert morphemes("프랑스 함대는 섬을 공략하였다") == ["프랑스", "함대", "섬", "공략"]
    assert morphemes("plain text") == morphemes("") == []
    assert morphemes("Redis 3.2를") == [], "what is not Korean is a word already"


def test_other_forms_of_a_verb_are_found_and_pairs_still_are(tmp_path: Path) -> None:
    pytest.importorskip("kiwipiepy")
    plain, korean = words(tmp_path / "plain", "english"), words(tmp_path / "korean", "korean")
    assert found(plain, "먹는 것") == [] and found(korean, "먹는 것") == [0]
    for query in ("미노르", "임기", "redis cache", "cached"):
        assert found(plain, query) == found(korean, query) != [], query
    assert found(korean, "먹는 -김치찌개", syntax=True) == []
    assert plain.weight("먹는") < korean.weight("먹는"), "of the pair no passage, of 먹 one"


def test_text_without_a_space_does_not_take_the_square_of_its_length(tmp_path: Path) -> None:
    kiwipiepy = pytest.importorskip("kiwipiepy")
    longest = 0
    before = kiwipiepy.Kiwi.tokenize

    def watched(self, text, *rest, **options):
        nonlocal longest
        longest = max(longest, len(text))
        return before(self, text, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kiwipiepy.Kiwi, "tokenize", watched)
        assert "대통령" in morphemes("가" * 3000 + " 대통령의 임기")
    assert longest == 1000
