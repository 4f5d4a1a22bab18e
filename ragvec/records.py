"""The records that pass between layers: a document in, passages in between, hits out."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from ragvec.errors import WrongInput

FilterValue: TypeAlias = str | int | float | bool
FilterValues: TypeAlias = Mapping[str, FilterValue | Collection[FilterValue]]  # what each $name in a filter stands for


@dataclass(frozen=True, slots=True)
class Document:
    """One source item of a corpus, as its reader found it.

    metadata holds every further field of the source; its values are JSON values.
    """

    doc_id: str
    text: str
    title: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """What is encoded and found: a document, or a piece of one."""

    passage_id: str
    doc_id: str
    text: str
    title: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def encoded_text(self) -> str:
        """The string the encoder sees: title and text joined by a space, as BEIR and MTEB do."""
        return f"{self.title} {self.text}".strip() if self.title else self.text

    @property
    def content_hash(self) -> str:
        """32 hex digits that change whenever the encoded string does."""
        return hashlib.blake2b(self.encoded_text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    @property
    def metadata_json(self) -> str:
        """The metadata as it is stored: JSON whose keys keep the source's order. Raises RagvecError for values JSON lacks."""
        if not self.metadata:
            return "{}"
        try:
            return orjson.dumps(self.metadata).decode()
        except TypeError as error:
            raise WrongInput(f"metadata of document {self.doc_id!r} is not JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a retrieval: a passage, its score, higher is better, and what the score was made of, where that is known.

    snippet       the sentence nearest to the query, where one was asked for
    weak          a poor match: neither near the query for this index's encoder, nor with half of the query's words, of what
                  was looked at
    similarity    the cosine of its vector and the query's (the inner product, if the encoder's vectors have any length)
    bm25          of its words, where they are among the best
    dense_rank    its rank by vectors alone, lexical_rank by words alone, where it is among the first 100
    """

    rank: int
    score: float
    doc_id: str
    passage_id: str
    title: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    snippet: str | None = None
    weak: bool = False
    similarity: float | None = None
    bm25: float | None = None
    dense_rank: int | None = None
    lexical_rank: int | None = None

    def record(self) -> dict[str, Any]:
        """The hit as JSON values, without what is not known of it."""
        values = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value for name, value in values if value is not None}
