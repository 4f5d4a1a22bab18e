"""More Korean to read: sentences, variants of them, passages and questions to them, with the vectors they are to get.

    python more_korean.py DATA OUT --teacher E5 [--more MORE] [--varied 8000]

OUT is the folder that prepare_korean.py and pairs_korean.py filled. It, or MORE, receives more.jsonl, and in more.npy the
vectors of E5, brought into the encoder's space by map.npz. A sentence and its variants share batches.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import sources
import texts
from everyday import Variants
from guard import Guard
from prepare_korean import mapped
from teacher import cache_vectors

from ragvec import Encoder

_SENTENCES, _PASSAGES = 24_000, 6_000
_VARIANTS = 5  # of a varied sentence
_BLOCK = 80  # sentences whose variants share batches


def main() -> None:
    """Choose, let the teacher read, map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--more", type=Path)
    parser.add_argument("--varied", type=int, default=8_000, help="sentences that get variants")
    parser.add_argument("--seed", type=int, default=8)
    options = parser.parse_args()
    more = options.more or options.out
    more.mkdir(parents=True, exist_ok=True)
    chosen = more / "more.jsonl"
    if not chosen.exists():
        sources.write_jsonl(chosen, choose(options, random.Random(options.seed)))
    found = [row["text"] for row in sources.read_jsonl(chosen)]
    cache_vectors(found, Encoder.load(options.teacher, device="cpu"), more / "more-read.npy", queries=True)
    vectors = np.load(more / "more-read.npy").astype(np.float32)
    np.save(more / "more.npy", mapped(vectors, **np.load(options.out / "map.npz")).astype(np.float16))


def choose(options: argparse.Namespace, chance: random.Random) -> list[dict]:
    """The rows, by source, none of which resembles an evaluation text."""
    accept = texts.Filter(Guard(sources.guarded_texts(options.data)))
    known = {row["text"] for row in sources.read_jsonl(options.out / "korean.jsonl")}
    parallel = [text for _, _, korean in sources.parallel_sts(options.data) for text in korean]
    everyday = list(dict.fromkeys([*parallel, *sources.korean_nli(options.data)]))
    new = [text for text in everyday if text not in known]
    rows = [{"text": text, "source": "sentences"} for text in texts.sample(new, _SENTENCES, chance)]
    variants = Variants(everyday, chance)
    for number, text in enumerate(texts.sample(everyday, options.varied, chance)):
        source = f"variants {number // _BLOCK}"
        rows += [{"text": text, "source": source}, *({"text": made, "source": source} for made in variants.of(text, _VARIANTS))]
    pairs = sources.read_jsonl(options.out / "pairs.jsonl")
    pairs = [row for row in pairs if row["source"].startswith("ko-") and row["negatives"]]
    for row in texts.sample({row["positive"]: row for row in pairs}.values(), _PASSAGES, chance):
        rows += [{"text": row["positive"], "source": "passages"}, {"text": row["query"], "source": "questions"}]
    rows = list({row["text"]: row for row in rows}.values())
    return [row for row in rows if row["text"].strip() and accept.passes(row["source"], row["text"])]


if __name__ == "__main__":
    main()
