"""What a cold shell waits for, as ratios in the same run.

    python -m tests.bench.startup

`ragvec --help` against `python -c "import typer"`; `ragvec search` on the sample corpus against a process that imports torch,
a transformers model class and faiss; the same search while `ragvec serve` serves the index. Whole processes, in turns; medians.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ragvec.data import data_path
from tests.serving import RUN, serving

ROUNDS = 7


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command("index", data_path("corpus.jsonl"), cwd=folder)
        compare("ragvec --help", ["-c", RUN, "--help"], 'python -c "import typer"', ["-c", "import typer"], folder)
        imports = "import torch, faiss; from transformers import LlamaModel"
        question = ["-c", RUN, "search", "how do plants make food?"]
        compare("ragvec search", question, f'python -c "{imports}"', ["-c", imports], folder)
        compare(
            "ragvec search --mode lexical",
            [*question, "--mode", "lexical"],
            'python -c "import typer"',
            ["-c", "import typer"],
            folder,
        )
        with serving("-i", "ragvec-index", cwd=Path(folder)) as server:
            compare("ragvec search, with a server", question, 'python -c "import typer"', ["-c", "import typer"], folder)
            assert server.metric("ragvec_search_seconds_count") == ROUNDS + 1, "the server was asked"


def compare(name: str, ours: list[str], other: str, theirs: list[str], folder: str) -> None:
    """Print both medians and the median ratio of runs taken in turns."""
    pairs = [(seconds(ours, folder), seconds(theirs, folder)) for _ in range(ROUNDS + 1)][1:]
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(f"{name}: {a:.2f} s, {ratio:.2f} times {other} ({b:.2f} s)")


def seconds(arguments: list[str], folder: str) -> float:
    """Wall time of one Python process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def command(*arguments: str | Path, cwd: str) -> None:
    """Run a ragvec command; its output is shown if it fails."""
    subprocess.run([sys.executable, "-c", RUN, *map(str, arguments)], cwd=cwd, check=True)


if __name__ == "__main__":
    main()
