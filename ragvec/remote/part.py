"""A part of what is searched together: what it is asked, and the answers of one that lies on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from ragvec.index import IndexSettings, View
from ragvec.index.ann.exact import SearchResult
from ragvec.index.nearness import rows_of, vectors_at
from ragvec.index.words import DEFAULT_LANGUAGE, Ranking
from ragvec.index.words.weighed import counts_of, search_weighed
from ragvec.index.words.weights import Counts
from ragvec.joint import JointView
from ragvec.records import FilterValues, Passage

STEP = 2**50  # from a part's ids to those of the next


@dataclass(frozen=True, slots=True)
class About:
    """What a part says of itself.

    state    changes with every commit
    vectors  passages that have one
    fields   metadata fields that filters may name
    language what words are stemmed by; "" = there are none yet
    """

    state: str
    encoder_source: str
    fingerprint: str
    dimension: int
    query_instruction: str
    document_instruction: str
    normalized: bool
    language: str
    documents: int
    passages: int
    vectors: int
    bytes: int
    deleted_rows: int
    fields: tuple[str, ...]

    @property
    def settings(self) -> IndexSettings:
        """Those of an index that holds these vectors."""
        return IndexSettings(
            self.encoder_source,
            self.fingerprint,
            self.dimension,
            query_instruction=self.query_instruction,
            document_instruction=self.document_instruction,
            normalized=self.normalized,
            language=self.language or None,
        )


class Allowed(NamedTuple):
    """Which passages may be found, said so that each part finds them itself.

    where, values  a filter; fields: those that any of the parts has
    within         a query in the query language: only what it says must be there, and nothing that must not
    """

    where: str | None = None
    values: FilterValues | None = None
    fields: tuple[str, ...] = ()
    within: str | None = None


class Found(NamedTuple):
    """A passage, and the name of the index it is in, where the part has several."""

    passage: Passage
    index: str | None


class Part(Protocol):
    """What is asked of a part. Ids are its own, from 0 to below STEP."""

    @property
    def name(self) -> str: ...

    def counts(self, query: str, *, syntax: bool) -> Counts:
        """What it knows of a query's words."""

    def lexical(self, query: str, k: int, counts: Counts, *, syntax: bool, allowed: Allowed | None) -> Ranking:
        """Its k best passages by a query's words, as all parts weigh them."""

    def near(self, vectors: np.ndarray, k: int, *, allowed: Allowed | None) -> SearchResult:
        """Its k nearest passages to each vector."""

    def similarities(self, vector: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The inner products of a vector with these passages'."""

    def passages(self, ids: Sequence[int]) -> list[Found]:
        """Passages by their ids."""

    def doc_ids(self, ids: Sequence[int]) -> list[str]:
        """The documents that passages belong to."""

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """The passages' vectors."""

    def sample(self, places: np.ndarray) -> np.ndarray:
        """The vectors of those that have one, by their places among them."""

    def document(self, doc_id: str) -> list[Passage]:
        """A document's passages."""


class LocalPart:
    """An index folder, or several as one, in one state."""

    def __init__(self, view: View | JointView, name: str = "") -> None:
        self._view = view
        self.name = name

    @property
    def state(self) -> str:
        """Changes with every commit."""
        return str(self._view.generations)

    def fields(self) -> list[str]:
        """The names of the metadata fields that a filter may use."""
        return self._view.fields()

    def about(self, described: dict[str, object], settings: IndexSettings, state: str) -> About:
        """What it says of itself; described: by the index, settings: the index's."""
        counts = {name: int(str(described[name])) for name in ("documents", "passages", "bytes", "deleted_rows")}
        return About(
            state=state,
            encoder_source=settings.encoder_source,
            fingerprint=settings.fingerprint,
            dimension=settings.dimension,
            query_instruction=settings.query_instruction,
            document_instruction=settings.document_instruction,
            normalized=settings.normalized,
            language=self._view.words.language or DEFAULT_LANGUAGE if len(self._view.words) else "",
            vectors=self.vector_count(),
            fields=tuple(self.fields()),
            **counts,
        )

    def vector_count(self) -> int:
        """How many passages have a vector."""
        return sum(map(len, rows_of(*self._segments())))

    def counts(self, query: str, *, syntax: bool) -> Counts:
        """What it knows of a query's words."""
        return counts_of(self._view.words, query, syntax=syntax)

    def lexical(self, query: str, k: int, counts: Counts, *, syntax: bool, allowed: Allowed | None) -> Ranking:
        """Its k best passages by a query's words, as all parts weigh them."""
        return search_weighed(self._view.words, query, k, counts, allowed=self._ids(allowed), syntax=syntax)

    def near(self, vectors: np.ndarray, k: int, *, allowed: Allowed | None) -> SearchResult:
        """Its k nearest passages to each vector."""
        return self._view.search(vectors, k, allowed=self._ids(allowed))

    def similarities(self, vector: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The inner products of a vector with these passages'."""
        return self._view.similarities(vector, ids)

    def passages(self, ids: Sequence[int]) -> list[Found]:
        """Passages by their ids."""
        return list(map(Found, self._view.passages(ids), self._view.index_names(ids)))

    def doc_ids(self, ids: Sequence[int]) -> list[str]:
        """The documents that passages belong to."""
        return self._view.doc_ids(ids)

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """The passages' vectors."""
        return self._view.vectors(ids)

    def sample(self, places: np.ndarray) -> np.ndarray:
        """The vectors of those that have one, by their places among them."""
        segments, live = self._segments()
        return vectors_at(segments, rows_of(segments, live), places)

    def document(self, doc_id: str) -> list[Passage]:
        """A document's passages."""
        return self._view.document(doc_id)

    def _segments(self) -> tuple[list, list]:
        views = self._view.views if isinstance(self._view, JointView) else [self._view]
        return [segment for view in views for segment in view.segments], [mask for view in views for mask in view.live]

    def _ids(self, allowed: Allowed | None) -> np.ndarray | None:
        if allowed is None:
            return None
        where, values, fields, within = allowed
        ids = None if where is None else self._view.matching(where, values, also=fields)
        limited = None if within is None else self._view.limited(within)
        return ids if limited is None else self._view.within(limited, ids)
