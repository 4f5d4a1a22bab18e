"""Which part of a text to show for a query, and which words in it to mark."""

import re
from collections import Counter
from collections.abc import Iterator

from ragvec.index.words.analysis import folded, is_run, pairs, query_words, terms

SEARCHED = 50_000  # characters of a text in which the stretch to show is looked for
LONGEST_STEM = 64  # characters of a word that are compared
_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|ly)$")
# a pair of a syllable and a Korean particle says nothing alone: in 서울은 and 겨울은 it is 울은
_WITH_PARTICLE = re.compile("[가-힣]{2,}[은는이가을를의에도만과와로]")


class QueryWords:
    """The words of a query, to be found in texts: word beginnings where words have spaces, pairs of characters elsewhere.

    A text is gone through once, with at most one look into a set for each of its characters, however long the query is.
    """

    def __init__(self, query: str) -> None:
        words = query_words(query)
        self.pairs = {word for word in words if is_run(word) and len(word) <= 2}  # longer runs consist of them
        self._endings = _endings([word for word in words if is_run(word)])
        self.stems = {_stem(word) for word in words if not is_run(word)}
        self._lengths = sorted({len(stem) for stem in self.stems})
        self._sizes = sorted({len(pair) for pair in self.pairs})

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where words of the query are: (start, end) in characters, in order and apart, and what was looked for there."""
        for term in terms(text):
            if is_run(term.group()):
                yield from self._in_run(term.group(), term.start())
            elif stem := self._beginning(folded(term.group())):
                yield *term.span(), stem

    def _beginning(self, word: str) -> str:
        """The longest stem that a word begins with, "" if none."""
        longest = ""
        for length in self._lengths:
            if length > len(word):
                break
            if word[:length] in self.stems:
                longest = word[:length]
        return longest

    def _in_run(self, run: str, place: int) -> Iterator[tuple[int, int, str]]:
        """The stretches of a run that the query's pairs and single characters cover; overlapping ones are one.

        None begins with the last syllable of a word and its particle: what goes before is another word.
        """
        start = end = -1
        for at in range(len(run)):
            size = next((len(pair) for size in reversed(self._sizes) if (pair := run[at : at + size]) in self.pairs), 0)
            if not size or (at >= end and run[at : at + size] in self._endings):
                continue
            if at >= end:
                if end > start:
                    yield place + start, place + end, run[start:end]
                start = at
            end = max(end, at + size)
        if end > start:
            yield place + start, place + end, run[start:end]


def snippet(text: str, query: str, length: int) -> str:
    """The stretch of `length` characters of a text in which most of the query's words occur, at word borders."""
    text = text[:SEARCHED]
    if len(text) <= length:
        return text
    words = [(start, word) for start, _, word in QueryWords(query).find(text)]
    lead = length // 6
    start = _fullest(words, [0, *(max(0, min(place - lead, len(text) - length)) for place, _ in words)], length)
    end = start + length
    if start and (space := text.find(" ", start, start + lead)) >= 0:
        start = space + 1
    if end < len(text) and (space := text.rfind(" ", end - lead, end)) >= 0:
        end = space
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def marks(text: str, query: str) -> list[tuple[int, int]]:
    """Where the query's words are in a text, as (start, end) in characters."""
    return [(start, end) for start, end, _ in QueryWords(query).find(text)]


def _fullest(found: list[tuple[int, str]], starts: list[int], length: int) -> int:
    """The first of the ascending starts whose next `length` characters hold most different words; each word enters once and
    leaves once."""
    held: Counter[str] = Counter()
    first = last = most = best = 0
    for start in starts:
        while last < len(found) and found[last][0] < start + length:
            held[found[last][1]] += 1
            last += 1
        while first < last and found[first][0] < start:
            held[found[first][1]] -= 1
            if not held[found[first][1]]:
                del held[found[first][1]]
            first += 1
        if len(held) > most:
            most, best = len(held), start
    return best


def _endings(runs: list[str]) -> set[str]:
    """The pairs that are nothing but how words with a particle end."""
    long = [run for run in runs if len(run) > 2]
    with_particle = {run for run in long if _WITH_PARTICLE.fullmatch(run)}
    others = {pair for run in long for pair in pairs(run[:-1] if run in with_particle else run)}
    return {run[-2:] for run in with_particle} - others


def _stem(word: str) -> str:
    return (_ENDING.sub("", word) if word.isascii() else word)[:LONGEST_STEM]
