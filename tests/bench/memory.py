"""That memory does not grow with the corpus: the peak of whole runs of bulk encoding over ever more short documents.

    python -m tests.bench.memory [10000 100000 1000000]

Each run is a process of its own with a tiny random decoder, reading JSONL as `ragvec encode` does. Ids cost 8 bytes each.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

CHILD = """
import sys
from pathlib import Path
from ragvec import Encoder
from ragvec.ingest import encode_corpus
from ragvec.corpus.passages import CorpusOptions, cut_for, open_documents
from ragvec.ingest.plan import peak_memory
encoder = Encoder.load(sys.argv[1], device="cpu")
passages = cut_for(open_documents(sys.argv[2], CorpusOptions()), CorpusOptions(), encoder)
report = encode_corpus(passages, encoder, sys.argv[3])
print(report.rows, report.seconds, peak_memory())
"""


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:]] or [10_000, 100_000, 1_000_000]
    with tempfile.TemporaryDirectory() as folder:
        first = None
        for rows, seconds, peak in peaks(Path(folder), sizes):
            first = first or peak
            share = f"{peak / first:.2f} of the first"
            print(f"{rows:>10,} documents: {peak / 1e6:6.0f} MB at most, {share}; {rows / seconds:,.0f} a second", flush=True)


def peaks(folder: Path, sizes: Iterable[int]) -> Iterator[tuple[int, float, int]]:
    """For each size of corpus, its documents, the seconds of the run, and the most bytes the process had in memory."""
    from tests.tiny import save_tiny_decoder

    save_tiny_decoder(folder / "model")
    for size in sizes:
        with open(folder / "corpus.jsonl", "w") as file:
            rows = ({"_id": f"d{i}", "text": f"short document {i * 7919 % 10007}"} for i in range(size))
            file.writelines(json.dumps(row) + "\n" for row in rows)
        words = [sys.executable, "-c", CHILD, str(folder / "model"), str(folder / "corpus.jsonl"), str(folder / str(size))]
        out = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        yield int(out[0]), float(out[1]), int(out[2])


if __name__ == "__main__":
    main()
