"""German compounds in an index's words: found by their parts, and finding what speaks of these."""

from pathlib import Path

import pytest

from ragvec.index.words import Words, WordsRecord, WordWriter
from ragvec.index.words.compounds import compound_parts
from ragvec.records import Passage

TEXTS = [
    "Die Datenbankverbindung ist abgebrochen.",
    "Eine Verbindung zum Drucker wird gesucht.",
    "An der Firmenraststätte gibt es Kaffee.",
    "Der Antrag auf Urlaub liegt dem Betriebsrat vor.",
]


def found(folder: Path, language: str, *queries: str, syntax: bool = False) -> list[list[int]]:
    """Which of TEXTS each query finds, by number."""
    writer = WordWriter(folder / "words", folder / "new", WordsRecord(), language)
    writer.add(range(len(TEXTS)), [Passage(str(number), str(number), text) for number, text in enumerate(TEXTS)])
    words = Words(folder / "words", writer.finish(), language)
    return [sorted(number for number, _ in words.search(query, 10, syntax=syntax)) for query in queries]


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("Datenbankverbindung", ["datenbank", "verbindung"]),
        ("Grundstücksverkehrsgenehmigung", ["grundstuck", "verkehr", "genehmigung"]),
        ("Festplattenverschlüsselung", ["festplatte", "verschlusselung"]),
        ("Datenschutzverletzung,", ["datenschutz", "verletzung"]),
        ("Autobahn", []),  # frequent
        ("Xyzzyqwertzuiop", []),
        ("Quark", []),
        ("데이터베이스 20211110", []),
        ("a" * 100_000, []),
    ],
    ids=lambda value: str(value)[:20],
)
def test_parts(word: str, parts: list[str]) -> None:
    pytest.importorskip("wordfreq")
    assert compound_parts(word) == parts


def test_compounds_are_found_by_their_parts_and_find_them(tmp_path: Path) -> None:
    pytest.importorskip("wordfreq")
    queries = "Verbindung", "Verbindungen", "Raststätte", "Urlaubsantrag", "Datenbankverbindung", "Kaffee"
    for language, expected in (
        ("german", [[1], [1], [], [], [0], [2]]),
        ("german-compounds", [[0, 1], [0, 1], [2], [3], [0, 1], [2]]),
    ):
        (tmp_path / language).mkdir()
        assert found(tmp_path / language, language, *queries) == expected


def test_what_is_not_wanted_is_left_out_by_its_parts_too(tmp_path: Path) -> None:
    pytest.importorskip("wordfreq")
    assert found(tmp_path, "german-compounds", "Verbindung -Drucker", '"der Firmenraststätte"', syntax=True) == [[0], [2]]
