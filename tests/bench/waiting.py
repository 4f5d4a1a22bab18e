"""How OpenMP's threads wait for each other: asleep, as the command line has them, or spinning, as is their default.

    python -m tests.bench.waiting [--encoder ENCODER] [--rounds 3]

A query and 100 passages are encoded on all cores, in processes of their own, in turns; alone, and beside another process that
keeps one core busy. Prints the times spinning takes, as multiples of those asleep: medians of the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ragvec.cli.main import WAITING
from ragvec.data import data_path
from ragvec.encoder import Encoder
from tests.bench.encode import make_texts

QUERIES = 40
PASSAGES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, default=data_path("encoder"), help="default: the bundled one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(taken(options.encoder)))
        return
    for busy in (0, 1):
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            rounds = [(measured(options, WAITING), measured(options, {})) for _ in range(options.rounds)]
        finally:
            for other in others:
                other.kill()
        asleep, spinning = ([statistics.median(each) for each in zip(*side, strict=True)] for side in zip(*rounds, strict=True))
        print(f"beside {busy} busy processes, {os.cpu_count()} cores: a query {asleep[0] * 1000:.1f} ms,", end=" ")
        print(f"spinning {spinning[0] / asleep[0]:.2f} times;", end=" ")
        print(f"{PASSAGES} passages {asleep[1]:.2f} s, spinning {spinning[1] / asleep[1]:.2f} times", flush=True)


def measured(options: argparse.Namespace, settings: dict[str, str]) -> tuple[float, float]:
    """Seconds of a query and of the passages, in a process with these settings."""
    kept = {name: value for name, value in os.environ.items() if name not in WAITING}
    command = [sys.executable, "-m", "tests.bench.waiting", "--here", "--encoder", str(options.encoder)]
    done = subprocess.run(command, env=kept | settings, check=True, capture_output=True, text=True)
    query, passages = json.loads(done.stdout)
    return query, passages


def taken(source: Path) -> tuple[float, float]:
    """Seconds of a query, the median, and of the passages."""
    encoder, texts = Encoder.load(source), make_texts(PASSAGES)
    encoder.encode_documents(texts[:50])
    begin = time.perf_counter()
    encoder.encode_documents(texts)
    passages = time.perf_counter() - begin
    queries = []
    for text in texts[:QUERIES]:
        begin = time.perf_counter()
        encoder.encode_queries([" ".join(text.split()[:8])])
        queries.append(time.perf_counter() - begin)
    return statistics.median(queries), passages


if __name__ == "__main__":
    main()
