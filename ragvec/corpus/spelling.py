"""Names of files in one spelling. A Mac often writes 가 as its letters (NFD), keyboards and other systems as one sign (NFC)."""

import unicodedata
from collections.abc import Sequence


def composed(name: str) -> str:
    """A name as it is typed: NFC."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def decomposed(name: str) -> str:
    """A name as a Mac may have it: NFD."""
    return name if name.isascii() else unicodedata.normalize("NFD", name)


def composed_names(names: Sequence[str]) -> list[str]:
    """The names of a folder's files, composed; one stays as it is where the folder holds another file of the composed name."""
    there = set(names)
    return [name if composed(name) in there else composed(name) for name in names]
