"""Documents cut into passages of a token budget, at the borders of sentences, never inside a character that people see.

Borders are tried in this order: sentences (Latin, Chinese, Japanese, Korean, Arabic, Devanagari punctuation; blank lines);
then, only where a sentence alone is over the budget, lines, clauses, words, and at last grapheme clusters (UAX #29).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import regex

from ragvec.corpus.parts import metadata_at, stretches
from ragvec.errors import WrongUsage
from ragvec.records import Document, Passage

CountTokens = Callable[[Sequence[str]], Sequence[int]]

_COUNTED_TOGETHER = 2048
# A sentence ends at its mark, closing quotes or brackets, and white space; after full-width marks white space may be missing.
_SENTENCE_END = regex.compile(
    r"(?<=[.!?…؟۔।॥])[\"'”’»)\]}]*\s+|(?<=[。！？｡])[」』）”’】》]*(?![。！？｡…」』）”’】》])\s*|\n[^\S\n]*\n\s*|\n(?=\s*[-*#|•])"
)
_ABBREVIATION = regex.compile(
    r"\b(?:\p{L}|Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|vs|cf|al|Fig|Figs|No|Vol|pp|Eq|Sec|Inc|Ltd|Co|e\.g|i\.e|ca|approx|bzw|z\.B)\.$"
)
_LOWER = regex.compile(r"\p{Ll}")
# What a sentence over the budget is cut after: lines, clauses, words, graphemes; and how many such pieces are counted in one
# go, as a share of the budget.
_FINER = (
    (regex.compile(r"\n\s*"), 0.0),
    (regex.compile(r"[;:,、，；：،؛]+\s*"), 0.0),
    (regex.compile(r"\s+"), 0.25),
    (regex.compile(r"\X"), 0.5),
)
_CONTINUES = regex.compile(r"[\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}]")  # belongs to the character before it


class _Unit(NamedTuple):
    """A stretch of a text that is not cut further: its end (it begins where the one before ends), its tokens."""

    start: int
    end: int
    tokens: int
    opens_sentence: bool


class Cutter:
    """Cuts documents into passages of at most `passage_tokens` tokens, title included, each overlapping the one before."""

    def __init__(self, count_tokens: CountTokens, passage_tokens: int, overlap: int = 0, *, across_pages: bool = False) -> None:
        """Prepare to cut.

        count_tokens    the number of tokens of each of several strings, without special tokens
        passage_tokens  most tokens of a passage; a document's title counts, as it is encoded with each of its passages
        overlap         most tokens that a passage repeats from the end of the one before, in whole sentences where it can
        across_pages    a passage may go on with the next page of a document that has pages
        Raises RagvecError for an overlap of half a passage or more.
        """
        if passage_tokens < 1:
            raise WrongUsage(f"passages of {passage_tokens} tokens hold nothing: choose 1 or more")
        if not 0 <= overlap <= passage_tokens // 2:
            raise WrongUsage(
                f"an overlap of {overlap} tokens in passages of {passage_tokens}: choose 0 to {passage_tokens // 2}"
            )
        self.passage_tokens = passage_tokens
        self.overlap = overlap
        self._across_pages = across_pages
        self._count = count_tokens

    def cut(self, document: Document) -> list[Passage]:
        """The document's passages in order, with ids `DOC_ID#0`, `DOC_ID#1` …; together they hold all of its text."""
        text = document.text
        budget = self.passage_tokens
        if document.title:  # a title that fills the passage would leave no room for text
            budget = max(budget - self._count([document.title + " "])[0], -(-budget // 2))
        spans: list[tuple[int, int]] = []
        for start, end in stretches(document, across_pages=self._across_pages):
            units = self._units(text[start:end], budget)
            spans += [(start + first, start + last) for first, last in self._pack(units, budget)]
        return [
            Passage(
                passage_id=f"{document.doc_id}#{number}",
                doc_id=document.doc_id,
                text=text[start:end].strip(),
                title=document.title,
                metadata=metadata_at(document, start),
            )
            for number, (start, end) in enumerate(spans or [(0, 0)])
        ]

    def _units(self, text: str, budget: int) -> list[_Unit]:
        units: list[_Unit] = []
        borders = sentence_borders(text)
        start = 0
        while ends := list(islice(borders, _COUNTED_TOGETHER)):
            starts = [start, *ends[:-1]]
            for first, end, tokens in zip(starts, ends, self._counts(text, starts, ends), strict=True):
                if tokens <= budget:
                    units.append(_Unit(first, end, tokens, True))
                else:
                    units.extend(self._finer(text, (first, end), budget, 0))
            start = ends[-1]
        return units

    def _finer(self, text: str, stretch: tuple[int, int], budget: int, level: int) -> Iterator[_Unit]:
        """Cut a stretch that is over the budget at the next finer borders. A single grapheme cluster stays whole."""
        start, end = stretch
        if level == len(_FINER):
            yield _Unit(start, end, budget, True)
            return
        _, share = _FINER[level]
        together = max(1, int(budget * share))
        borders = _borders(text, start, end, level)
        opens = True
        while ends := list(islice(borders, together)):
            for unit in self._fitting(text, [start, *ends], budget, level):
                yield unit._replace(opens_sentence=opens)
                opens = False
            start = ends[-1]

    def _fitting(self, text: str, edges: list[int], budget: int, level: int) -> Iterator[_Unit]:
        """Neighbouring pieces as one unit if they fit, else halved until they do."""
        [tokens] = self._counts(text, edges[:1], edges[-1:])
        if tokens <= budget:
            yield _Unit(edges[0], edges[-1], tokens, False)
        elif len(edges) == 2:
            yield from self._finer(text, (edges[0], edges[1]), budget, level + 1)
        else:
            middle = len(edges) // 2
            yield from self._fitting(text, edges[: middle + 1], budget, level)
            yield from self._fitting(text, edges[middle:], budget, level)

    def _pack(self, units: list[_Unit], budget: int) -> list[tuple[int, int]]:
        """As many units a passage as fit; (start, end) of each passage in characters."""
        spans: list[tuple[int, int]] = []
        first = 0
        while first < len(units):
            end, tokens = first, 0
            while end < len(units) and (end == first or tokens + units[end].tokens <= budget):
                tokens += units[end].tokens
                end += 1
            spans.append((units[first].start, units[end - 1].end))
            first = end if end == len(units) else self._overlapping(units, first, end, budget)
        return spans

    def _overlapping(self, units: list[_Unit], first: int, end: int, budget: int) -> int:
        """Where the next passage begins: back over what fits the overlap, at a sentence's start if there is one.

        The unit after the overlap must fit too, or the next passage would bring nothing new.
        """
        room = min(self.overlap, budget - units[end].tokens)
        begin, tokens = end, 0
        while begin - 1 > first and tokens + units[begin - 1].tokens <= room:
            begin -= 1
            tokens += units[begin].tokens
        if begin == end or not units[end].opens_sentence:
            return begin
        return next((number for number in range(begin, end) if units[number].opens_sentence), end)

    def _counts(self, text: str, starts: Sequence[int], ends: Sequence[int]) -> Sequence[int]:
        """Tokens of pieces with the white space that follows them: their sum is an upper bound for the joined pieces."""
        return self._count([text[start:end] for start, end in zip(starts, ends, strict=True)])


def cut_documents(documents: Iterable[Document], cutter: Cutter) -> Iterator[Passage]:
    """The passages of documents as they stream by."""
    for document in documents:
        yield from cutter.cut(document)


def sentence_borders(text: str) -> Iterator[int]:
    """Where sentences end, in characters, the white space that follows included; the last is the text's end."""
    start = 0
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        if end >= len(text) or end == start or _CONTINUES.match(text, end):
            continue
        full_stop = "\n" not in match.group() and text[match.start() - 1] in ".…"
        if full_stop and (
            _LOWER.match(text, end) or _ABBREVIATION.search(text[max(start, match.start() - 12) : match.start()])
        ):
            continue  # "approx. 5", "e.g. this"
        yield end
        start = end
    if text:
        yield len(text)


def _borders(text: str, start: int, end: int, level: int) -> Iterator[int]:
    """Where the pieces of a stretch end at a level of fineness; the last is the stretch's end."""
    for match in _FINER[level][0].finditer(text, start, end):
        if start < match.end() < end and not _CONTINUES.match(text, match.end()):
            yield match.end()
    yield end
