"""Vectors of the teacher, cached once for all later stages."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ragvec import Encoder
from ragvec.progress import progress_bar

_BLOCK = 2_000  # texts between two writes, so that an interrupted run goes on where it was


def cache_vectors(texts: Sequence[str], teacher: Encoder, path: Path, *, queries: bool = False) -> None:
    """Encode texts to `path` (.npy, float16, a row per text); resumes from the blocks an earlier run finished.

    queries: with the instruction that the teacher reads before queries, in place of the one before documents
    """
    encode = teacher.encode_queries if queries else teacher.encode_documents
    blocks = path.with_suffix(".blocks")
    blocks.mkdir(exist_ok=True)
    bar = progress_bar("teacher", total=len(texts), unit="texts", show=True)
    files = []
    for start in range(0, len(texts), _BLOCK):
        files.append(blocks / f"{start:09d}.npy")
        if not files[-1].exists():
            unfinished = files[-1].with_suffix(".tmp.npy")
            np.save(unfinished, encode(texts[start : start + _BLOCK]).astype(np.float16))
            unfinished.rename(files[-1])
        bar.update(min(_BLOCK, len(texts) - start))
    bar.close()
    np.save(path, np.concatenate([np.load(file) for file in files]))
