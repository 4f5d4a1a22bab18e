"""Bulk encoding: a corpus into Parquet shards, whatever interrupts it."""

from ragvec.bulk.encode import PART_ROWS, EncodeReport, check_folder, encode_corpus

__all__ = ["PART_ROWS", "EncodeReport", "check_folder", "encode_corpus"]
