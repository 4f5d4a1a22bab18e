"""Which store an address names."""

from typing import TYPE_CHECKING

from ragvec.errors import RagvecError, WrongInput

if TYPE_CHECKING:
    from ragvec.stores.store import Store

SCHEMES = {"postgresql": "pgvector", "postgres": "pgvector", "milvus": "milvus", "milvus+https": "milvus"}
LIKE = {
    "pgvector": "postgresql://user@host:5432/database/table",
    "milvus": "milvus://host:19530/collection",
}
HANDED = {"lancedb": "folder/table", "qdrant": "http://host:6333/collection"}  # to be written, and used by their own clients


def is_store(place: object) -> bool:
    """Whether this is the address of a store rather than a folder or a server."""
    return isinstance(place, str) and "://" in place and place.partition("://")[0] in SCHEMES


def open_store(address: str, kind: str | None = None) -> "Store":
    """The store at an address like those of LIKE; nothing is asked of it yet. kind: which it must be, pgvector or milvus.

    Raises WrongInput for an address that is none, RagvecError where the library that speaks to it is missing.
    """
    found = SCHEMES.get(address.partition("://")[0])
    if found is None or kind not in (None, found):
        wanted = " or ".join(LIKE.values()) if kind is None else LIKE[kind]
        raise WrongInput(f"this is no address of {kind or 'a store'}: write it like {wanted}")
    try:
        if found == "milvus":
            from ragvec.stores.milvus import MilvusStore

            return MilvusStore(address)
        from ragvec.stores.postgres import PostgresStore

        return PostgresStore(address)
    except ImportError as error:
        raise RagvecError(f"this store needs {error.name}: pip install 'ragvec[{found}]'") from error
