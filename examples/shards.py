"""Encode a corpus into Parquet shards, read the vectors with pyarrow, and compute with them."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet

from ragvec import Encoder
from ragvec.corpus import read_documents, to_passages
from ragvec.data import data_path
from ragvec.ingest import encode_corpus

with tempfile.TemporaryDirectory() as folder:
    encoder = Encoder.load()
    passages = to_passages(read_documents(data_path("corpus.jsonl")))
    report = encode_corpus(passages, encoder, folder)  # run it again after a power cut: it goes on

    table = parquet.read_table(sorted(Path(folder).glob("*.parquet")))
    ids = table["doc_id"].to_pylist()
    vectors = np.stack(table["embedding"].combine_chunks().to_numpy(zero_copy_only=False)).astype(np.float32)
    print(f"{report.rows} passages, vectors of shape {vectors.shape}")

    likeness = vectors @ vectors.T  # the vectors have length 1, so products are cosines
    np.fill_diagonal(likeness, -1)
    one, other = divmod(int(likeness.argmax()), len(ids))
    print(f"most alike: {ids[one]} and {ids[other]} ({likeness[one, other]:.2f})")
