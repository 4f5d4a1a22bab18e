"""Reading several indices as one: a passage's number is its own in its index, and that index's place times STEP."""

import threading
from collections.abc import Sequence

import numpy as np

from ragvec.index import View, store
from ragvec.index.ann.exact import SearchResult, keep_best
from ragvec.index.conditions import Filter
from ragvec.index.kept import KeptFilters
from ragvec.index.nearness import measure_near
from ragvec.index.where import parse_where
from ragvec.index.words import STEP, Limited, Ranking, Words
from ragvec.records import FilterValues, Passage


class Commit:
    """What is kept of one commit of each index, for all that read it."""

    def __init__(self, generations: tuple[int, ...], words: Words, names: Sequence[str]) -> None:
        self.generations = generations
        self.words = words
        self.names = names
        self.filters = KeptFilters()
        self._near: list[float | None] = []
        self._measuring = threading.Lock()

    def near(self, views: Sequence[View]) -> float | None:
        """From which similarity on a passage is near a query, measured as in one index that holds all of these passages."""
        with self._measuring:
            if not self._near:
                segments = [segment for view in views for segment in view.segments]
                live = [mask for view in views for mask in view.live]
                self._near.append(measure_near(segments, live))
            return self._near[0]


class JointView:
    """Several indices as one commit of each left them; has what a `View` has for a Retriever, made by `Joint.reading()`."""

    def __init__(self, views: Sequence[View], commit: Commit) -> None:
        self.views = views
        self.words = commit.words
        self._commit = commit

    @property
    def near(self) -> float | None:
        """From which similarity on a passage is near a query; None = not known."""
        return self._commit.near(self.views)

    def search(self, vectors: np.ndarray, k: int, *, allowed: np.ndarray | None = None) -> SearchResult:
        """The k passages whose vectors have the highest inner product with each query vector; as `View.search`."""
        shares = self._allowed(allowed)
        parts = [
            _numbered(view.search(vectors, k, allowed=mine), place)
            for place, (view, mine) in enumerate(zip(self.views, shares, strict=True))
        ]
        return keep_best(SearchResult(*map(np.hstack, zip(*parts, strict=True))), k)

    def search_lexical(self, query: str, k: int, *, allowed: np.ndarray | None = None, syntax: bool = False) -> Ranking:
        """The k best (passage id, BM25 score) for a query's words; as `View.search_lexical`, weighed by all indices' words."""
        return self.words.search(query, k, allowed=allowed, syntax=syntax)

    def words_weight(self, query: str, *, syntax: bool = False) -> float:
        """The BM25 of a passage of average length that holds each of the query's words once."""
        return self.words.weight(query, syntax=syntax)

    def limited(self, query: str) -> Limited | None:
        """What a query in the query language leaves of the passages; None = all."""
        return self.words.limited(query)

    def within(self, limited: Limited, allowed: np.ndarray | None) -> np.ndarray:
        """The passage ids that a query's words leave of those allowed, (m,) int64, ascending."""
        shares = zip(self.views, self._shared_out(limited.ids), self._allowed(allowed), strict=True)
        parts = [view.within(Limited(left, limited.allowed), mine) for view, left, mine in shares]
        return np.concatenate([part + place * STEP for place, part in enumerate(parts)])

    def similarities(self, vector: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The inner products of a query's vector with the stored vectors of these passages; (n,) float32."""
        products = np.zeros(len(ids), dtype=np.float32)
        for view, rows, mine in self._by_view(ids):
            products[rows] = view.similarities(vector, mine)
        return products

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """The stored vectors of these passages, (n, dimension) float32, in their order."""
        numbers = np.array(ids, dtype=np.int64)
        vectors = np.zeros((len(ids), self.views[0].dimension), dtype=np.float32)
        for view, rows, mine in self._by_view(numbers):
            vectors[rows] = view.vectors(mine.tolist())
        return vectors

    def matching(self, where: str, values: FilterValues | None = None, *, also: Sequence[str] = ()) -> np.ndarray:
        """The ids of the passages that meet a filter; (m,) int64, ascending; raises as `View.matching`."""
        return self._commit.filters.matching(
            where, values, lambda: self._matched(self.check_where(where, values, also=also)), also=also
        )

    def check_where(self, where: str, values: FilterValues | None = None, *, also: Sequence[str] = ()) -> Filter:
        """The filter, parsed; a field counts if one of the indices has it, or it is named by `also`."""
        return parse_where(where, [*self.fields(), *also], values)

    def fields(self) -> list[str]:
        """The names of the metadata fields that a filter may use."""
        return sorted({name for view in self.views for name in view.fields()})

    def passages(self, ids: Sequence[int]) -> list[Passage]:
        """The passages of these ids, in their order."""
        found: dict[int, Passage] = {}
        for view, rows, mine in self._by_view(np.array(ids, dtype=np.int64)):
            found |= zip(rows.tolist(), view.passages(mine.tolist()), strict=True)
        return [found[row] for row in range(len(ids))]

    def holds(self, ids: Sequence[int]) -> bool:
        """Whether all of these are ids of passages."""
        parts = self._by_view(np.array(ids, dtype=np.int64))
        return sum(len(mine) for *_, mine in parts) == len(ids) and all(view.holds(mine.tolist()) for view, _, mine in parts)

    def doc_ids(self, ids: Sequence[int]) -> list[str]:
        """The documents that these passages belong to, in their order."""
        found: dict[int, str] = {}
        for view, rows, mine in self._by_view(np.array(ids, dtype=np.int64)):
            found |= zip(rows.tolist(), view.doc_ids(mine.tolist()), strict=True)
        return [found[row] for row in range(len(ids))]

    @property
    def generations(self) -> tuple[int, ...]:
        """How many commits there have been, of each index."""
        return self._commit.generations

    def index_names(self, ids: Sequence[int]) -> list[str | None]:
        """In which index each of these passages is."""
        return [self._commit.names[number // STEP] for number in ids]

    def document(self, doc_id: str) -> list[Passage]:
        """A document's passages in their order, from the first index that has it; none if there is no such document."""
        return next((found for view in self.views if (found := view.document(doc_id))), [])

    def __len__(self) -> int:
        """The number of passages, empty ones too."""
        return sum(map(len, self.views))

    def _matched(self, parsed: Filter) -> np.ndarray:
        found = [store.matching_ids(view.connection, parsed) + place * STEP for place, view in enumerate(self.views)]
        return np.concatenate(found)

    def _allowed(self, ids: np.ndarray | None) -> Sequence[np.ndarray | None]:
        return [None] * len(self.views) if ids is None else self._shared_out(ids)

    def _by_view(self, ids: np.ndarray) -> list[tuple[View, np.ndarray, np.ndarray]]:
        """Each index's view, the rows of these ids that are its passages, and their numbers in it."""
        places = ids // STEP
        rows = [np.flatnonzero(places == place) for place in range(len(self.views))]
        return [(view, mine, ids[mine] % STEP) for view, mine in zip(self.views, rows, strict=True) if len(mine)]

    def _shared_out(self, ids: np.ndarray) -> list[np.ndarray]:
        """The ids, ascending, of each index, as its own numbers."""
        borders = np.searchsorted(ids, np.arange(1, len(self.views)) * STEP)
        return [part - place * STEP for place, part in enumerate(np.split(ids, borders))]


def _numbered(found: SearchResult, place: int) -> SearchResult:
    """What an index found, under the numbers that its passages have among several."""
    return SearchResult(
        np.where(found.ids < 0, np.float32(-np.inf), found.scores), np.where(found.ids < 0, -1, found.ids + place * STEP)
    )
