"""An index, or what was found in it, at a glance: values to filter by, how many documents have them, and things to ask."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ragvec.index import Index
from ragvec.index.conditions import UNFIT
from ragvec.index.words import DEFAULT_LANGUAGE
from ragvec.index.words.telling import telling_words
from ragvec.records import FilterValue, Hit, Passage
from ragvec.retrieve.lookup import distinct_values, stored_count

FIELDS, VALUES = 6, 8  # shown at most
LONGEST_VALUE = 60  # characters
SAMPLE = 400  # passages that tell which fields there are and what to ask
COUNTED = 50_000  # passages of an index whose values are counted: more would take seconds
EXAMPLES = 4
_TITLE = (2, 9), (8, 60)  # words and characters of a title that can stand as a question
_READ_FOR_WORDS = 60  # passages whose words are weighed where titles don't do
_OF_FILES = frozenset(("page", "size", "mtime", "heading"))  # two documents have them in common by chance alone


class Facet(NamedTuple):
    """A field, and its most frequent values with the number of documents that have them; None = not counted."""

    field: str
    values: list[tuple[FilterValue, int | None]]

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {"field": self.field, "values": [{"value": value, "documents": count} for value, count in self.values]}


def facets_of(found: Iterable[Hit] | Iterable[Passage]) -> list[Facet]:
    """The fields of what was found by which it falls into groups: some value is in several documents."""
    counts: dict[str, Counter[tuple[bool, FilterValue]]] = defaultdict(Counter)
    for metadata in {one.doc_id: one.metadata for one in found}.values():
        for field, value in metadata.items():
            if field not in _OF_FILES and not UNFIT.search(field):
                values = value if isinstance(value, list) else [value]
                counts[field].update({(isinstance(one, bool), one) for one in values if _is_shown(one)})
    facets = [_facet(field, counted) for field, counted in counts.items() if max(counted.values(), default=0) > 1]
    return facets[:FIELDS]


def overview(index: Index) -> dict[str, Any]:
    """How many documents and passages an index holds, `fields` with frequent values, and `examples` of what to ask.

    The examples are titles, or where these don't do words that tell documents from others; no two calls differ.
    """
    with index.reading() as view:
        ids, passages = view.ids(), len(view)
        sample = view.passages(np.unique(ids[np.linspace(0, len(ids) - 1, SAMPLE).astype(int)]).tolist()) if len(ids) else []
    facets = facets_of(sample)
    if len(sample) < passages:
        facets = [Facet(field, _counted(index, field, values, passages)) for field, values in facets]
    return {
        "documents": stored_count(index),
        "passages": passages,
        "fields": [facet.record() for facet in facets],
        "examples": _examples(sample, index.settings.language or DEFAULT_LANGUAGE),
    }


def _counted(
    index: Index, field: str, values: list[tuple[FilterValue, int | None]], passages: int
) -> list[tuple[FilterValue, int | None]]:
    if passages > COUNTED:
        return [(value, None) for value, _ in values]
    return [(one.value, one.documents) for one in distinct_values(index, field, limit=VALUES) if _is_shown(one.value)]


def _facet(field: str, counted: Counter[tuple[bool, FilterValue]]) -> Facet:
    ordered = sorted(counted.items(), key=lambda pair: (-pair[1], str(pair[0][1])))
    return Facet(field, [(value, count) for (_, value), count in ordered[:VALUES]])


def _is_shown(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= LONGEST_VALUE
    return isinstance(value, (bool, int))


def _examples(sample: Sequence[Passage], language: str) -> list[str]:
    titles = list(dict.fromkeys(title for passage in sample if _is_question(title := " ".join(passage.title.split()))))
    if len(titles) >= EXAMPLES:
        return [titles[place] for place in _spread(len(titles), EXAMPLES)]
    read = [sample[place] for place in _spread(len(sample), _READ_FOR_WORDS) if not sample[place].is_empty]
    words = telling_words([[passage.encoded_text] for passage in read], language=language, most=3)
    asked = list(dict.fromkeys(" ".join(said) for said in words if len(said) > 1))
    return titles + [asked[place] for place in _spread(len(asked), EXAMPLES - len(titles))]


def _is_question(title: str) -> bool:
    (fewest, most), (shortest, longest) = _TITLE
    return fewest <= len(title.split()) <= most and shortest <= len(title) <= longest and not set(title) & set("_/\\<>{}|")


def _spread(length: int, most: int) -> list[int]:
    """So many places of a sequence, at most, far from each other."""
    return np.unique(np.linspace(0, length - 1, most).astype(int)).tolist() if length else []
