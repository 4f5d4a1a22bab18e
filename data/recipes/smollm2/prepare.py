"""Prepare what the SmolLM2 adapter is trained from: texts, the teacher's vectors, pairs; under 50 MB in all.

    python prepare.py DATA OUT --teacher FOLDER --wordnet FOLDER

The arguments are those of the bundled encoder's prepare.py, whose choice of texts and guard this takes; here are fewer texts,
in English alone. OUT receives lm.jsonl, distill.jsonl and .npy, everyday.jsonl and .npy, pairs.jsonl, pairs-apart.jsonl.
What is already there is not made again.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from ragvec import Encoder
from ragvec.files import replacing

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bundled"))
import texts
from teacher import cache_vectors

RUNNING = 6_000_000  # bytes of running text
TEXTS = {"distill": 15_000, "everyday": 50_000}  # everyday ones are sentences, a fifth as long
DIMENSIONS = 192  # kept of the teacher's vectors, which are then half as large
LONGEST = 500  # characters of a pair's text: the recipe reads 128 tokens
KOREAN = ("ko", "klue", "xnli")  # how sources of Korean pairs begin


def main() -> None:
    """Run the steps in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, required=True)
    parser.add_argument("--device")
    options = parser.parse_args()
    whole = options.out / "all"
    whole.mkdir(parents=True, exist_ok=True)
    if not (whole / "guard.json").exists():
        texts.write_texts(options.data, options.wordnet, whole, seed=1)
    choose(whole, options.out)
    if not (options.out / "distill.npy").exists():
        teach(options.out, Encoder.load(options.teacher, device=options.device))


def choose(whole: Path, out: Path) -> None:
    """Fewer rows of each file, without the Korean ones."""
    write(out / "lm.jsonl", until(RUNNING, (row for row in read(whole / "lm.jsonl") if row["source"] != "korean")))
    for name, count in TEXTS.items():  # everyday sentences lie in blocks that share batches: the first ones stay whole
        rows = [row for row in read(whole / f"{name}.jsonl") if "target" not in row]
        write(out / f"{name}.jsonl", rows[:count])
    for name in ("pairs", "pairs-apart"):
        rows = [row for row in read(whole / f"{name}.jsonl") if not row["source"].startswith(KOREAN)]
        write(out / f"{name}.jsonl", map(shortened, rows))


def teach(out: Path, teacher: Encoder) -> None:
    """The teacher's vectors of both files, turned so that the first dimensions hold the most, and cut off there."""
    names = tuple(TEXTS)
    rows = {name: [row["text"] for row in read(out / f"{name}.jsonl")] for name in names}
    for name in names:
        cache_vectors(rows[name], teacher, out / "all" / f"{name}.npy")
    found = np.concatenate([np.load(out / "all" / f"{name}.npy") for name in names]).astype(np.float32)
    kept = principal(found)
    print(f"{DIMENSIONS} of {found.shape[1]} dimensions hold {(kept**2).sum() / (found**2).sum():.1%} of the vectors")
    for name, part in zip(reversed(names), reversed(np.split(kept, [len(rows[names[0]])])), strict=True):
        with replacing(out / f"{name}.npy") as file:  # distill.npy last: it says that both are there
            np.save(file, part.astype(np.float16))


def principal(vectors: np.ndarray) -> np.ndarray:
    """(n, d) vectors in the DIMENSIONS directions that keep their inner products best, (n, DIMENSIONS)."""
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    return vectors @ directions[:, ::-1][:, :DIMENSIONS]


def shortened(row: dict) -> dict:
    """A pair whose texts are cut off after LONGEST characters."""
    return {**row, "query": row["query"][:LONGEST], "positive": row["positive"][:LONGEST],
            "negatives": [text[:LONGEST] for text in row["negatives"][:1]]}  # fmt: skip


def until(size: int, rows):
    """Rows until so many bytes of text have come."""
    for row in rows:
        yield row
        size -= len(row["text"].encode())
        if size <= 0:
            return


def read(path: Path):
    """The rows of a JSONL file."""
    with open(path, encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def write(path: Path, rows) -> None:
    """Write rows, unless the file is there."""
    if not path.exists():
        with replacing(path, "w") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    main()
