"""The records that pass between layers: a document in, passages in between, hits out."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import orjson

from ragvec.arguments import text as check_text
from ragvec.arguments import wrong_type
from ragvec.errors import WrongInput, WrongUsage
from ragvec.notebook import table_html

if TYPE_CHECKING:
    import numpy as np

_KINDS = (
    ("text", str, "string"),
    ("title", str, "string, or leave it out"),
    ("metadata", dict, "dict, or leave it out"),
)  # of fields, and what to give
FilterValue: TypeAlias = str | int | float | bool
FilterValues: TypeAlias = Mapping[str, FilterValue | Collection[FilterValue]]  # what each $name in a filter stands for


# What shows nothing: white space, control and format characters (but for the signs that Arabic puts under numbers), letters
# that fill a place, variation selectors and tags.
_UNSEEN = "".join(
    map(
        chr,
        chain(
            *(range(first, last + 1) for first, last in (
                (0x00, 0x20), (0x7F, 0xA0), (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x1680, 0x1680),
                (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2000, 0x200F), (0x2028, 0x202F), (0x205F, 0x206F), (0x2800, 0x2800),
                (0x3000, 0x3000), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF9, 0xFFFB),
                (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE007F), (0xE0100, 0xE01EF),
            ))
        ),
    )
)  # fmt: skip


def shows_nothing(text: str) -> bool:
    """Whether a text is empty, or holds nothing but white space and characters that nobody sees."""
    return not text.strip(_UNSEEN)


class Part(NamedTuple):
    """Where a part of a document's text begins, and what is true from there on: its page, the headings above it.

    apart   passages end before it, unless they may cross pages
    """

    start: int
    metadata: dict[str, Any]
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """One source item of a corpus, as its reader found it.

    metadata holds every further field of the source; its values are JSON values, or NaN, which is stored as null.
    vector   (d,) numbers that were made of it elsewhere; None = the index's encoder makes one
    parts    of the text, in order, where their metadata goes to the passages that begin in them
    A title or metadata of None is none. Raises RagvecError for an empty id, and for what is no string or no dict.
    """

    doc_id: str
    text: str
    title: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    vector: "np.ndarray | None" = field(default=None, compare=False, repr=False)
    parts: tuple[Part, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.doc_id == "":
            raise WrongUsage("`doc_id` is empty: give each document an id of its own")
        _check_kinds(self, "doc_id")


def _check_kinds(record: "Document | Passage", *ids: str) -> None:
    """Make "" of a title and {} of metadata that are None. Raises WrongType for what is no string, or no dict."""
    for name in ids:
        check_text(name, getattr(record, name))
    if record.title is None:
        object.__setattr__(record, "title", "")
    if record.metadata is None:
        object.__setattr__(record, "metadata", {})
    for name, kind, remedy in _KINDS:
        if not isinstance(value := getattr(record, name), kind):
            raise wrong_type(name, value, f"give document {record.doc_id!r:.60} a {remedy}")


class Titled(str):
    """A document's title and text as one string, joined by a space as BEIR and MTEB do.

    An encoder whose instruction has a place for the title (ragvec.encoder.instruction) reads the two apart.
    """

    __slots__ = ("parts",)
    parts: tuple[str, str]

    def __new__(cls, title: str, text: str) -> "Titled":
        """The string of both; parts: title and text, each without white space around it."""
        joined = super().__new__(cls, f"{title} {text}".strip())
        joined.parts = title.strip(), text.strip()
        return joined

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return self.parts

    @property
    def text_start(self) -> int:
        """Where the text begins in the string of both."""
        return len(self) - len(self.parts[1])

    def first(self, characters: int) -> "Titled":
        """Its first so many characters: what is left out is the text's end first, then the title's."""
        title, text = self.parts
        return Titled(title[:characters], text[: max(characters - self.text_start, 0)])


@dataclass(frozen=True, slots=True)
class Passage:
    """What is encoded and found: a document, or a piece of one. A title or metadata of None is none."""

    passage_id: str
    doc_id: str
    text: str
    title: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_kinds(self, "passage_id", "doc_id")

    @property
    def encoded_text(self) -> str:
        """What the encoder reads: the text, with the title where there is one."""
        return Titled(self.title, self.text) if self.title else self.text

    @property
    def is_empty(self) -> bool:
        """Whether neither title nor text shows anything: what an encoder makes of it says nothing."""
        return shows_nothing(self.text) and shows_nothing(self.title)

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
    index         the name of the index it is in, where several are searched together
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
    index: str | None = None

    def record(self) -> dict[str, Any]:
        """The hit as JSON values, without what is not known of it."""
        values = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value for name, value in values if value is not None}


class Hits(list[Hit]):
    """Hits in order. A list, but for a notebook, which shows it as a table."""

    def _repr_html_(self) -> str:
        rows = ((hit.rank, f"{'~' if hit.weak else ''}{hit.score:.4f}", hit.doc_id, hit.title, hit.snippet or hit.text,
                 hit.metadata) for hit in self)  # fmt: skip
        return table_html(("#", "score", "id", "title", "text", "metadata"), rows)
