"""Bulk encoding: a corpus into Parquet shards, whatever interrupts it."""

from ragvec.ingest.encode import PART_ROWS, EncodeReport, encode_corpus
from ragvec.ingest.folder import check_folder
from ragvec.ingest.ranks import Rank

__all__ = ["PART_ROWS", "EncodeReport", "Rank", "check_folder", "encode_corpus"]
