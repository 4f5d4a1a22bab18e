"""Telling words: frequent in their group and rare elsewhere, as the texts write them."""

import pytest

from ragvec.index.words.telling import telling_words


def test_words_that_tell_groups_apart():
    plants = [
        "The leaves of plants make sugar.",
        "A plant needs light for its leaves.",
        "Leaves turn to the light, and so do plants.",
    ]
    rivers = ["The river flows to the sea.", "A flood of the river in 1987", "Rivers and floods of the sea"]
    found = telling_words([plants, rivers], language="english", most=3)
    assert set(found[0]) == {"leaves", "plants", "light"}
    assert set(found[1]) >= {"river", "sea"} and "1987" not in found[1] and "the" not in found[1]


def test_korean_words_without_morphemes_lose_their_particles():
    history = [
        "대통령은 국회를 해산한다",
        "대통령이 임명한다",
        "대통령의 임기는 오년이다",
        "국회는 대통령을 탄핵한다",
        "국회의 의장",
    ]
    food = ["김치를 담근다", "김치는 맵다", "배추김치와 김치의 맛", "배추를 절인다", "배추는 겨울에 난다"]
    found = telling_words([history, food], language="english", most=2)
    assert found == [["대통령", "국회"], ["김치", "배추"]]


def test_korean_words_by_morphemes():
    pytest.importorskip("kiwipiepy")
    found = telling_words(
        [["대통령은 국회를 해산한다", "대통령이 임명한다"], ["김치를 담근다", "김치는 맵다"]], language="korean", most=1
    )
    assert found == [["대통령"], ["김치"]]


def test_scripts_without_spaces_are_told_by_pairs():
    assert telling_words([["大学は東京にある", "大学の図書館"], ["川は海へ", "川の水"]], language="none", most=1)[0] == ["大学"]


def test_nothing_to_tell():
    assert telling_words([["", "the of"], []], language="english", most=3) == [[], []]
