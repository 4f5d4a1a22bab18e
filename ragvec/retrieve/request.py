"""What is asked of a retriever, checked before anything is loaded or searched."""

from collections.abc import Sequence
from dataclasses import dataclass

from ragvec.errors import WrongInput
from ragvec.retrieve.fusion import DENSE_WEIGHTS, FUSIONS

MODES = ("dense", "lexical", "hybrid")
GROUPS = ("doc_id",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """How to retrieve; the fields are explained at `Retriever.retrieve`. Raises RagvecError for what no index can answer."""

    k: int = 10
    mode: str = "hybrid"
    where: str | None = None
    offset: int = 0
    min_score: float | None = None
    group_by: str | None = None
    diversity: float = 0.0
    fusion: str = FUSIONS[0]
    dense_weight: float | None = None
    rerank_depth: int = 50
    snippets: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise WrongInput(f"unknown mode {self.mode!r}: choose one of {', '.join(MODES)}")
        if self.fusion not in FUSIONS:
            raise WrongInput(f"unknown fusion {self.fusion!r}: choose one of {', '.join(FUSIONS)}")
        if self.group_by is not None and self.group_by not in GROUPS:
            raise WrongInput(f"can't group by {self.group_by!r}: choose {', '.join(GROUPS)}")
        if self.k < 1:
            raise WrongInput(f"k is {self.k}: ask for at least 1 result")
        if self.offset < 0:
            raise WrongInput(f"offset is {self.offset}: it counts the hits to pass over, 0 or more")
        if self.rerank_depth < 1:
            raise WrongInput(f"rerank depth is {self.rerank_depth}: score at least 1 hit again")
        for name in ("diversity", "dense_weight"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) <= 1:
                raise WrongInput(f"{name.replace('_', ' ')} is {getattr(self, name)}: choose from 0 to 1")

    @property
    def share(self) -> float:
        """The vectors' share in a fusion."""
        return DENSE_WEIGHTS[self.fusion] if self.dense_weight is None else self.dense_weight

    @property
    def last(self) -> int:
        """The rank of the last hit asked for."""
        return self.offset + self.k


def check_queries(queries: Sequence[str]) -> None:
    """Raises RagvecError for a query that is empty or no Unicode, TypeError for a lone string."""
    if isinstance(queries, str):
        raise TypeError("queries must be a sequence of strings: for one query call retrieve")
    if any(not query.strip() for query in queries):
        raise WrongInput("a query is empty: say what to look for")
    if any("\ud800" <= character <= "\udfff" for query in queries for character in query):
        raise WrongInput("a query is not valid UTF-8: check the terminal's or the file's encoding")
