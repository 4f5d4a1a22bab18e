"""Which store an address names."""

from ragvec.errors import RagvecError, WrongInput
from ragvec.stores.store import Store


def open_store(address: str) -> Store:
    """The store at postgresql://…/database/table; nothing is asked of it yet.

    Raises WrongInput for an address that is none, RagvecError where the library that speaks to it is missing.
    """
    scheme = address.partition("://")[0]
    if scheme not in ("postgresql", "postgres"):
        raise WrongInput("unknown kind of store: write its address like postgresql://user@host:5432/database/table")
    try:
        from ragvec.stores.postgres import PostgresStore
    except ImportError as error:
        raise RagvecError("this store needs psycopg: pip install 'ragvec[pgvector]'") from error
    return PostgresStore(address)
