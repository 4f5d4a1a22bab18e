"""What ragvec asks of a store, and what a collection in one says of itself."""

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from ragvec import __version__
from ragvec.checked import Mismatch, check_fields, check_range
from ragvec.errors import Damaged, WrongInput
from ragvec.index.ann.exact import SearchResult
from ragvec.index.conditions import Filter
from ragvec.index.encoder import check_fingerprint, lasting_source
from ragvec.index.store import IndexSettings
from ragvec.index.validity import MOST_DIMENSIONS
from ragvec.records import Passage
from ragvec.shards import Manifest

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection records of its vectors, so that nothing is compared with those of another encoder.

    fields   the metadata fields that filters may name
    near     from which similarity on a passage is near a query, see ragvec.index.nearness; None = not known
    """

    encoder_source: str
    fingerprint: str
    dimension: int
    document_instruction: str = ""
    normalized: bool = True
    fields: tuple[str, ...] = ()
    near: float | None = None
    format: int = FORMAT
    ragvec: str = __version__

    @classmethod
    def of(cls, manifest: Manifest) -> "Collection":
        """That of shards."""
        return cls(
            lasting_source(manifest.provenance.source),
            manifest.fingerprint,
            manifest.dimension,
            document_instruction=manifest.instruction,
            normalized=manifest.normalized,
        )

    @classmethod
    def read(cls, text: str, name: str) -> "Collection":
        """What a store has kept of it, which anyone may have written. Raises Damaged, WrongInput for a newer format."""
        try:
            collection = cls(**check_fields(json.loads(text), cls))
            check_range("dimension", collection.dimension, 1, MOST_DIMENSIONS)
        except (Mismatch, ValueError, TypeError, RecursionError) as error:
            raise Damaged(f"what {name} says of its vectors can't be read ({error}): load it again") from error
        if collection.format > FORMAT:
            raise WrongInput(f"{name} has format {collection.format}, this ragvec reads {FORMAT}: upgrade ragvec")
        return collection

    def written(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self))

    @property
    def settings(self) -> IndexSettings:
        """Those of an index that holds these vectors."""
        return IndexSettings(
            self.encoder_source,
            self.fingerprint,
            self.dimension,
            document_instruction=self.document_instruction,
            normalized=self.normalized,
        )

    def grown(self, other: "Collection", name: str) -> "Collection":
        """This with what another brings. Raises WrongInput unless vectors of both may be compared by one query's."""
        source = f"what is loaded, made by {other.encoder_source}"
        check_fingerprint(self.settings, other.fingerprint, dimension=other.dimension, source=source)
        for what in ("document_instruction", "normalized"):
            mine, theirs = getattr(self, what), getattr(other, what)
            if mine != theirs:
                raise WrongInput(
                    f"{name} has {what.replace('_', ' ')} {mine!r}, what is loaded {theirs!r}: choose another collection"
                )
        return replace(self, fields=tuple(sorted({*self.fields, *other.fields})))


class Row(NamedTuple):
    """A passage as a store holds it, and its vector (dimension,) float32; zeros for an empty text, which has none."""

    passage: Passage
    vector: np.ndarray


class Store(Protocol):
    """A collection in a database. Every `reading` is one state of it, as far as the database can hold one still.

    name       what it is called in messages: without user, password and options
    dimension  of its vectors, once it is there
    """

    name: str

    def collection(self) -> Collection | None:
        """What it says of itself; None = there is none yet. Raises WrongInput for what ragvec has not written."""

    def load(self, collection: Collection, blocks: Iterable[tuple[list[Passage], np.ndarray]], *, keep: bool) -> int:
        """Make the collection one of these documents, or bring it up to date; returns how many passages there were to load.

        keep: documents of other ids stay, those that are gone are removed otherwise. A load that fails leaves what was there.
        """

    def upsert(self, passages: Sequence[Passage], vectors: np.ndarray) -> int:
        """Bring documents in, all passages of each, in place of those of their ids; returns the passages."""

    def delete(self, doc_ids: Sequence[str]) -> int:
        """Remove documents; returns how many passages went."""

    def describe_anew(self, collection: Collection) -> None:
        """Keep this as what the collection says of itself."""

    def reading(self) -> "AbstractContextManager[StoreReader]":
        """What reads it."""

    def close(self) -> None:
        """Close its connections."""


class StoreReader(Protocol):
    """Reads a collection; ids are its own numbers, ascending as passages came."""

    def search(self, vector: np.ndarray, k: int, where: Filter | None) -> SearchResult:
        """About k of the nearest passages to a vector (dimension,), at least k if so many meet the filter; (1, n)."""

    def fetch(self, ids: Sequence[int]) -> dict[int, Row]:
        """Rows by id."""

    def document(self, doc_id: str) -> list[Passage]:
        """A document's passages in their order."""

    def ids(self) -> np.ndarray:
        """The ids of all passages that have a vector, ascending; (n,) int64."""

    def count(self) -> dict[str, Any]:
        """How many `documents` and `passages` there are, and the `bytes` they take, None = not known."""
