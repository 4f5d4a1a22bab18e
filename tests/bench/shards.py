"""How fast a part is written and read, in GB of vectors a second on one core, against Parquet at its defaults.

    python -m tests.bench.shards [DIMENSION]

8,192 passages of 100 words, as one part of bulk encoding; the file system is where temporary files go. Writing includes the
flush to disk and the checksum.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ragvec.records import Passage
from ragvec.shards import DTYPES, PartVectors, Provenance, store, write_part
from ragvec.shards.parts import batch_stored, read_batches

ROWS, ROUNDS = 8192, 5


def main() -> None:
    dimension = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    pa.set_cpu_count(1)
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((ROWS, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = [f"word{number}" for number in range(3000)]
    passages = [Passage(str(i), str(i), " ".join(draw.choice(words, 100)), metadata={"n": i}) for i in range(ROWS)]
    print(f"{ROWS:,} passages, {dimension} dimensions; GB of vectors a second")
    with tempfile.TemporaryDirectory() as folder:
        for dtype in DTYPES:
            stored = store(vectors, dtype)
            encoded = PartVectors(stored, np.ones(ROWS, np.int32), np.zeros(ROWS, bool))
            provenance = Provenance(
                source="bench", fingerprint="0" * 32, dimension=dimension, instruction="", dtype=dtype, normalized=True
            )
            write = partial(write_part, Path(folder), "a.parquet", passages, encoded, provenance=provenance)
            whole = speed(stored.codes.nbytes, write)
            read = speed(
                stored.codes.nbytes,
                lambda: [batch_stored(b) for b in read_batches(Path(folder) / "a.parquet", ROWS, ["embedding"])],
            )
            print(f"{dtype:10s} a whole part {whole:5.2f} to write; its vectors {read:5.2f} to read")
        column = pa.FixedSizeListArray.from_arrays(vectors.astype(np.float16).reshape(-1), dimension)
        for name, options in {
            "float16 column, as written here": {"use_dictionary": False, "write_statistics": False, "compression": "none"},
            "float16 column, Parquet's defaults": {},
        }.items():
            table = pa.table({"embedding": column})
            path = Path(folder) / "b.parquet"
            written = speed(vectors.nbytes / 2, lambda: pq.write_table(table, path, **options))  # noqa: B023
            read = speed(vectors.nbytes / 2, lambda: pq.read_table(path, use_threads=False))  # noqa: B023
            print(f"{name:36s} {written:5.2f} to write, {read:5.2f} to read")


def speed(size: float, action: Callable[[], object]) -> float:
    """GB a second, the median of some rounds."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return size / statistics.median(times) / 1e9


if __name__ == "__main__":
    main()
