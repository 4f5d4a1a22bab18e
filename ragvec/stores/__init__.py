"""Passages in other databases, searched as an index is: PostgreSQL with pgvector.

A store's collection holds what shards hold, the fingerprint of the encoder that made the vectors, and the values that filters
ask for, spelled out so that every store answers a filter as an index does.
"""

from ragvec.stores.address import open_store
from ragvec.stores.load import LoadReport, load_shards
from ragvec.stores.searched import StoreIndex
from ragvec.stores.store import Collection, Row, Store

__all__ = ["Collection", "LoadReport", "Row", "Store", "StoreIndex", "load_shards", "open_store"]
