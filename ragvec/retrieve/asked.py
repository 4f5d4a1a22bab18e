"""What a query in the query language asks beyond its words: what encoders are told of it, and to which passages it keeps.

What must and must not be in a passage holds for vectors too: it is looked up in the words, and narrows the search as a
filter does.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from ragvec.retrieve.searched import SearchedView


class Held(NamedTuple):
    """Queries, by their places, that keep to the same passages: (m,) int64, ascending; None = all."""

    places: list[int]
    allowed: "np.ndarray | None"


def meaning(query: str, *, syntax: bool) -> str:
    """What a query says to an encoder, a reranker or a language model: without signs, and without what must not be there."""
    if not syntax:
        return query
    from ragvec.index.words.query import read_query

    return read_query(query, syntax=True).meaning


def held(view: "SearchedView", queries: Sequence[str], allowed: "np.ndarray | None", *, syntax: bool) -> Iterator[Held]:
    """The queries that are searched together: all of them, but for those that say what must or must not be.

    allowed  that a filter leaves, (m,) int64, ascending; None = all
    """
    limits = [view.limited(query) if syntax else None for query in queries]
    if free := [place for place, limited in enumerate(limits) if limited is None]:
        yield Held(free, allowed)
    for place, limited in enumerate(limits):
        if limited is not None:
            yield Held([place], view.within(limited, allowed))
