"""What a retriever searches: an index, several as one, servers, or a store; and the door that opens each by its name."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from ragvec.errors import WrongInput
from ragvec.index import Index, IndexSettings
from ragvec.index.ann.exact import SearchResult
from ragvec.index.words import Ranking
from ragvec.records import FilterValues, Passage
from ragvec.remote.server import Server
from ragvec.stores.address import is_store

if TYPE_CHECKING:
    from ragvec.joint import Joint

Place: TypeAlias = str | Path | Server
Allowed: TypeAlias = Any  # the passages that a view's own `matching` and `within` leave, as its searches take them


class SearchedView(Protocol):
    """What is found in one state of what is searched; see `ragvec.index.view.View`, which is the first of these."""

    @property
    def near(self) -> float | None: ...

    def search(self, vectors: np.ndarray, k: int, *, allowed: Allowed | None = None) -> SearchResult:
        """The k nearest passages to each vector, best first."""

    def search_lexical(self, query: str, k: int, *, allowed: Allowed | None = None, syntax: bool = False) -> Ranking:
        """The k best passages by a query's words."""

    def words_weight(self, query: str, *, syntax: bool = False) -> float:
        """What all words of a query are worth in BM25."""

    def similarities(self, vector: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The inner products of a vector with these passages'."""

    def limited(self, query: str) -> Any:
        """What a query in the query language leaves of the passages; None = all."""

    def within(self, limited: Any, allowed: Allowed | None) -> Allowed | None:
        """What is allowed and left."""

    def matching(self, where: str, values: FilterValues | None = None) -> Allowed:
        """The passages that meet a filter."""

    def check_where(self, where: str, values: FilterValues | None = None) -> Any:
        """Raises WrongInput for a filter that is none."""

    def passages(self, ids: Sequence[int]) -> list[Passage]:
        """Passages by their ids."""

    def doc_ids(self, ids: Sequence[int]) -> list[str]:
        """The documents that passages belong to."""

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """The passages' vectors."""

    def index_names(self, ids: Sequence[int]) -> list[str | None]:
        """In which of several indices each passage is."""

    def document(self, doc_id: str) -> list[Passage]:
        """A document's passages, in their order."""

    def fields(self) -> list[str]:
        """The metadata fields that a filter may name."""


class Searched(Protocol):
    """What a Retriever is given: an `Index`, a `ragvec.joint.Joint`, a `ragvec.remote.Together`, a `ragvec.stores.StoreIndex`.

    has_words  whether it is searched by words too
    """

    @property
    def has_words(self) -> bool: ...

    @property
    def settings(self) -> IndexSettings: ...

    def reading(self) -> AbstractContextManager[SearchedView]:
        """One state of it, held still."""

    def describe(self) -> dict[str, Any]:
        """What it is, as JSON values."""

    def close(self) -> None:
        """Let go of what it holds open."""

    def __len__(self) -> int: ...


def server_of(place: Place) -> Server | None:
    """The server that a place names, by its address such as http://host:8000; None for a folder or a store."""
    if isinstance(place, str) and place.partition("://")[0] in ("http", "https") and "://" in place:
        return Server(place)
    return place if isinstance(place, Server) else None


def named_places(places: Place | Sequence[Place]) -> list[Place]:
    """One place, or several, as a list."""
    return [places] if isinstance(places, (str, Path, Server)) else list(places)


def open_searched(places: Place | Sequence[Place]) -> Searched:
    """What lies at a place, or at several, to be searched as one. Raises RagvecError if there is none, or they don't agree."""
    named = named_places(places)
    if len(named) == 1 and is_store(named[0]):
        from ragvec.stores import StoreIndex, open_store

        return StoreIndex(open_store(str(named[0])))
    if store := next((place for place in named if is_store(place)), None):
        raise WrongInput(f"{shown_place(store)} is a store, which is searched by itself: name one of them, or others alone")
    servers, folders = parted(named)
    if not servers:
        return _open_folders(folders)
    from ragvec.remote import Together

    local = _open_folders(folders) if folders else None
    try:
        return Together(servers, local)
    except BaseException:
        if local is not None:
            local.close()
        raise


def parted(places: Sequence[Place]) -> tuple[list[Server], list[str | Path]]:
    """The servers among places, and the folders."""
    servers = [server for place in places if (server := server_of(place)) is not None]
    return servers, [place for place in places if not isinstance(place, Server) and server_of(place) is None]


def _open_folders(folders: Sequence[str | Path]) -> "Index | Joint":
    if len(folders) == 1:
        return Index.open(folders[0])
    from ragvec.joint import Joint

    return Joint.open(folders)


def check_has_words(searched: Searched, mode: str) -> None:
    """Raises WrongInput where words are asked for and there are none."""
    if mode != "dense" and not searched.has_words:
        raise WrongInput(f"a store is searched by vectors alone, not {mode}: ask for `mode` dense, or make an index for words")


def shown_place(place: Place) -> str:
    """A folder, or a store's address without what nobody else should read."""
    if not is_store(place):
        return str(place)
    from ragvec.stores import open_store

    return open_store(str(place)).name
