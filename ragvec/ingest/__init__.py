"""Bulk encoding: a corpus into Parquet shards, whatever interrupts it."""

from ragvec.ingest.encode import PART_ROWS, EncodeReport, Output, encode_corpus, in_turns
from ragvec.ingest.ranks import Rank

__all__ = ["PART_ROWS", "EncodeReport", "Output", "Rank", "encode_corpus", "in_turns"]
