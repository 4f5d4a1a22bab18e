"""Which part of a text to show for a query, and which words in it to mark."""

import re

from ragvec.index.lexical import query_words

SEARCHED = 50_000  # characters of a text in which the stretch to show is looked for


def snippet(text: str, query: str, length: int) -> str:
    """The stretch of `length` characters of a text in which most of the query's words occur, at word borders."""
    text = text[:SEARCHED]
    if len(text) <= length:
        return text
    found = [(match.start(), match.group().casefold()) for match in query_pattern(query).finditer(text)]
    lead = length // 6
    starts = {max(0, min(place - lead, len(text) - length)) for place, _ in found} | {0}
    start = max(sorted(starts), key=lambda start: len({word for place, word in found if start <= place < start + length}))
    end = start + length
    if start and (space := text.find(" ", start, start + lead)) >= 0:
        start = space + 1
    if end < len(text) and (space := text.rfind(" ", end - lead, end)) >= 0:
        end = space
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def marks(text: str, query: str) -> list[tuple[int, int]]:
    """Where the query's words are in a text, as (start, end) in characters."""
    return [match.span() for match in query_pattern(query).finditer(text)]


def query_pattern(query: str) -> re.Pattern:
    """A pattern of the query's words in a text: word beginnings where words have spaces, pairs of characters in CJK."""
    parts = []
    for word in sorted(query_words(query), key=len, reverse=True):
        if word.isascii():
            stem = re.sub(r"(?<=\w{3})(?:ing|ed|es|s|ly)$", "", word)
            parts.append(rf"\b{re.escape(stem)}\w*")
        else:
            parts.append(re.escape(word))
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)
