"""Bulk encoding: a corpus into Parquet shards, whatever interrupts it."""

from ragvec.bulk.encode import PART_ROWS, EncodeReport, encode_corpus
from ragvec.bulk.folder import check_folder
from ragvec.bulk.ranks import Rank

__all__ = ["PART_ROWS", "EncodeReport", "Rank", "check_folder", "encode_corpus"]
