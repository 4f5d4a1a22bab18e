"""Prepare everything that the bundled encoder is trained from: texts, tokenizer, teacher vectors, the untrained base model.

    python prepare.py DATA OUT --teacher FOLDER --wordnet FOLDER

DATA holds retrieval/, sts/, pairs/ and text/ as the README beside this file describes; the teacher's folder is
all-MiniLM-L6-v2 in sentence-transformers' layout, WordNet's holds data.noun and the like. OUT receives lm.jsonl, distill.jsonl
and .npy, everyday.jsonl and .npy, pairs.jsonl, pairs-apart.jsonl, guard.json and base/.
What is already there is not made again, so an interrupted run goes on where it stopped.
"""

import argparse
import json
from pathlib import Path

import texts
import untrained
from teacher import cache_vectors

from ragvec import Encoder


def main() -> None:
    """Run the steps in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, required=True)
    parser.add_argument("--device")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not (options.out / "guard.json").exists():
        texts.write_texts(options.data, options.wordnet, options.out, seed=options.seed)
    teacher = Encoder.load(options.teacher, device=options.device)
    for name in ("distill", "everyday"):
        if not (options.out / f"{name}.npy").exists():
            cache_vectors(_read_by_teacher(options.out / f"{name}.jsonl"), teacher, options.out / f"{name}.npy")
    if not (options.out / "base" / "config.json").exists():
        distilled, running = (untrained.read_texts(options.out / name) for name in ("distill.jsonl", "lm.jsonl"))
        tokenizer = untrained.train_tokenizer([*distilled, *running])
        table = untrained.build_table(tokenizer, distilled, teacher)
        untrained.save_base(options.out / "base", tokenizer, table, seed=options.seed)


def _read_by_teacher(path: Path) -> list[str]:
    """What the teacher reads of each distillation text: its translation where there is one."""
    with open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row.get("target", row["text"]) for row in rows]


if __name__ == "__main__":
    main()
