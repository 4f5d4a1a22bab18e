"""What is asked of a retriever, checked before anything is loaded or searched: one shape for Python, HTTP, MCP and the CLI.

Imports little, so that the command line has its choices and defaults from here before it has loaded anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from ragvec.arguments import array, known, number, strings, switch, text, where_names, where_text, whole
from ragvec.errors import WrongInput, WrongType, WrongUsage
from ragvec.records import FilterValues
from ragvec.retrieve.asked import meaning

if TYPE_CHECKING:
    import numpy as np

Fusion = Literal["weighted", "rrf"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)  # the first is the default
DENSE_WEIGHTS: dict[Fusion, float] = {"weighted": 0.6, "rrf": 0.5}  # the vectors' share where none is given
Mode = Literal["hybrid", "dense", "lexical"]
Group = Literal["doc_id"]
MODES: tuple[Mode, ...] = get_args(Mode)
GROUPS: tuple[Group, ...] = get_args(Group)
DEFAULT_MODE: Mode = "hybrid"  # of a query in words: a vector alone has none, and is searched by similarity
_NEED_WORDS = ("rerank", "snippets")


class Options(TypedDict, total=False):
    """How to retrieve, as keywords: what a `Request` has beside the query, its vector and k. The defaults are the Request's."""

    offset: int
    mode: Mode | None
    syntax: bool
    where: str | None
    where_values: FilterValues | None
    fusion: Fusion
    dense_weight: float | None
    diversity: float
    rerank: str | None
    rerank_depth: int
    group_by: Group | None
    min_score: float | None
    snippets: bool
    instruction: str | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Request:
    """What to find, and how.

    query         what to look for, in words
    vector        the query's vector (d,), made by the index's encoder; None = the retriever encodes the query. A vector without
                  a query is found by similarity alone
    k             how many hits; fewer only if fewer match
    offset        hits to pass over, for pages; ranks go on counting
    mode          dense: similarity of vectors (score = cosine). lexical: the query's words (score = BM25). hybrid: both, fused.
                  None = hybrid for a query, dense for a vector alone
    syntax        the query is in the query language: "in sequence", +word, -word, title:word, begin*, wrod~; see
                  ragvec.index.words.query. False = it is text, whatever signs it holds
    where         a filter on metadata, such as `year >= 2020 and lang = "ko"`; see ragvec.index.where
    where_values  what each $name in that filter stands for: `group in $groups` with {"groups": ["a", "b"]}. Whatever a value
                  holds, it is never read as part of the filter
    fusion        hybrid only; weighted: the cosine and the words' part (BM25 scaled to the query's best, less where that holds
                  few of its words), added up to 1. rrf: reciprocal ranks, score = sum of 1 / (60 + rank)
    dense_weight  the share of the vectors in a fusion, 0 … 1; None = what suits the fusion, see DENSE_WEIGHTS
    diversity     0 … 1: how much hits shall differ from those above them (maximal marginal relevance); the best 100 are
                  chosen from, and further ones follow in their order
    rerank        score the best hits again: "maxsim" = by the encoder's token vectors too, or the name of the reranker that the
                  retriever was opened with; None = as the retriever does by itself. A request loads no model
    rerank_depth  how many hits are scored again; further ones follow in their order, with scores below
    group_by      "doc_id": of each document only its best passage
    min_score     no hit below it; the score is the mode's or, if there is one, the reranker's, whose other hits are left out
    snippets      give each hit the sentence that is nearest to the query
    instruction   what the query is for; None = the encoder's own, "" = none

    One with neither a query nor a vector holds what many queries share. Two requests are never compared.
    Raises RagvecError for what no index can answer.
    """

    query: str | None = None
    vector: "np.ndarray | None" = None
    k: int = 10
    offset: int = 0
    mode: Mode | None = None
    syntax: bool = False
    where: str | None = None
    where_values: FilterValues | None = None
    fusion: Fusion = FUSIONS[0]
    dense_weight: float | None = None
    diversity: float = 0.0
    rerank: str | None = None
    rerank_depth: int = 50
    group_by: Group | None = None
    min_score: float | None = None
    snippets: bool = False
    instruction: str | None = None

    def __new__(cls, *_: Any, **given: Any) -> "Request":
        """Before the fields are filled: raises WrongType for a name that none of them has."""
        known(given, cls.__dataclass_fields__, "option of a request")
        return object.__new__(cls)

    def __post_init__(self) -> None:
        self._check_types()
        if self.query is not None:
            check_query(self.query)
        if self.mode is not None and self.mode not in MODES:
            raise WrongUsage(f"unknown mode {self.mode!r}: choose one of {', '.join(MODES)}")
        if self.fusion not in FUSIONS:
            raise WrongUsage(f"unknown fusion {self.fusion!r}: choose one of {', '.join(FUSIONS)}")
        if self.group_by is not None and self.group_by not in GROUPS:
            raise WrongUsage(f"can't group by {self.group_by!r}: choose {', '.join(GROUPS)}")
        if self.k < 1:
            raise WrongUsage(f"k is {self.k}: ask for at least 1 result")
        if self.offset < 0:
            raise WrongUsage(f"offset is {self.offset}: it counts the hits to pass over, 0 or more")
        if self.rerank_depth < 1:
            raise WrongUsage(f"rerank depth is {self.rerank_depth}: score at least 1 hit again")
        if not 0 <= self.diversity <= 1:
            raise WrongUsage(f"diversity is {self.diversity}: choose from 0 to 1")
        if self.dense_weight is not None and not 0 <= self.dense_weight <= 1:
            raise WrongUsage(f"dense weight is {self.dense_weight}: choose from 0 to 1")
        if self.where_values is not None and self.where is None:
            raise WrongUsage("values are given for a filter, and no filter: give `where` too, such as group in $groups")
        if self.vector is not None:
            self._check_vector(self.vector)

    def _check_types(self) -> None:
        """Raises WrongType for a field of another kind; numpy's numbers become Python's."""
        for name in ("k", "offset", "rerank_depth"):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        number("diversity", self.diversity)
        for name in ("dense_weight", "min_score"):
            if (given := getattr(self, name)) is not None:
                number(name, given)
        for name in ("syntax", "snippets"):
            switch(name, getattr(self, name))
        for name in ("rerank", "instruction"):
            if (given := getattr(self, name)) is not None:
                text(name, given)
        if self.where is not None:
            where_text(self.where)
        if self.where_values is not None:
            where_names(self.where_values)

    def _check_vector(self, vector: "np.ndarray") -> None:
        vector = array("vector", vector, dtype="float32")
        object.__setattr__(self, "vector", vector)
        if vector.ndim != 1:
            raise WrongUsage(f"a query's vector has one dimension, this has {vector.ndim}: give one vector a request")
        if self.query is not None:
            return
        if self.mode not in (None, "dense"):
            raise WrongUsage(f"a vector has no words for {self.mode} search: leave mode out, or send a query")
        if unfit := [name for name in _NEED_WORDS if getattr(self, name)]:
            raise WrongUsage(f"{unfit[0]} needs a query, not a vector")

    @property
    def chosen_mode(self) -> Mode:
        """The mode, by default what suits the query or the vector."""
        if self.mode is not None:
            return self.mode
        return "dense" if self.query is None and self.vector is not None else DEFAULT_MODE

    @property
    def options(self) -> tuple[object, ...]:
        """Everything but its query and vector, by which requests are known that can be searched together."""
        return (self.chosen_mode, *(getattr(self, name) for name in DEFAULTS if name not in ("query", "vector", "mode")))

    @property
    def meaning(self) -> str:
        """What the query says to an encoder or a language model; "" for a vector alone."""
        return meaning(self.query or "", syntax=self.syntax)

    @property
    def share(self) -> float:
        """The vectors' share in a fusion."""
        return DENSE_WEIGHTS[self.fusion] if self.dense_weight is None else self.dense_weight

    @property
    def last(self) -> int:
        """The rank of the last hit asked for."""
        return self.offset + self.k


DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(Request)}


def check_query(query: str) -> None:
    """Raises RagvecError for a query that is no string, empty, or no Unicode."""
    text("query", query, "give one string; for many queries call retrieve_many")
    if not query.strip():
        raise WrongUsage("a query is empty: say what to look for")
    try:
        query.encode()
    except UnicodeEncodeError:
        raise WrongInput("a query is not valid UTF-8: check the terminal's or the file's encoding") from None


def check_queries(queries: Iterable[str]) -> list[str]:
    """The queries as a list. Raises as `check_query` for any of them, and for a lone string."""
    if isinstance(queries, str):
        raise WrongType("`queries` must be a sequence of strings: for one query call retrieve")
    given = strings("queries", queries, "query")
    for query in given:
        check_query(query)
    return given
