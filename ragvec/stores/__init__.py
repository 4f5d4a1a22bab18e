"""Passages in other databases, searched as an index is: PostgreSQL with pgvector, and Milvus.

A store's collection holds what shards hold, the fingerprint of the encoder that made the vectors, and the values that filters
ask for, spelled out so that every store answers a filter as an index does.
"""

from typing import TYPE_CHECKING

from ragvec.lazy import lazy_names

if TYPE_CHECKING:
    from ragvec.stores.address import is_store, open_store
    from ragvec.stores.load import LoadReport, export_shards, load_shards
    from ragvec.stores.searched import StoreIndex
    from ragvec.stores.store import Collection, Row, Store

_LAZY = {
    **dict.fromkeys(("is_store", "open_store"), "ragvec.stores.address"),
    **dict.fromkeys(("LoadReport", "export_shards", "load_shards"), "ragvec.stores.load"),
    "StoreIndex": "ragvec.stores.searched",
    **dict.fromkeys(("Collection", "Row", "Store"), "ragvec.stores.store"),
}
__all__ = ["Collection", "LoadReport", "Row", "Store", "StoreIndex", "export_shards", "is_store", "load_shards", "open_store"]
__getattr__ = lazy_names(__name__, _LAZY)
