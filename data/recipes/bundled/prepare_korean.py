"""Prepare the encoder's Korean: texts with the vectors that they are to get, in the space of the encoder that is there already.

    python prepare_korean.py DATA KOREAN OUT --encoder ENCODER --teacher E5 --wordnet WORDNET [--share 0.2]

KOREAN holds ko-pairs.jsonl, ko-texts.jsonl and words.txt (korean.py); E5 is the folder that multilingual.py wrote. A text with
an English original gets the vector that ENCODER gives that one; a Korean text alone gets E5's vector, brought into ENCODER's
space by a linear map (map.npz: least squares over texts that both have read); English texts keep the vectors that they have.
OUT receives korean.jsonl and .npy, english.jsonl and .npy, vocabulary.jsonl and guard-korean.json. What is there already is
not made again, and E5's vectors are kept block by block.
"""

import argparse
import json
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import sources
import texts
from guard import Guard
from teacher import cache_vectors

from ragvec import Encoder

# Texts whose English original says what they mean, and how many of them the teacher reads too: the map is fitted on these.
_PAIRED = {"catalogues": (100_000, 5_000), "help": (40_000, 6_000), "descriptions": (20_000, 4_000)}
_READ = {"help": 6_000, "descriptions": 4_000, "bills": 1_000, "sentences": 30_000, "words": 25_000}  # what only it reads
_ENGLISH = 80_000  # texts that keep their vectors
_PARALLEL = 12_000  # KorSTS' training sentences beside STS-B's: all of them
_FITTED = 8_000  # of the English texts: the map is fitted on these too
_LEAST, _LONGEST = 4, 400  # characters
_BLOCK = 500  # rows of a source that share batches
_RIDGE = 3e-6  # of the trace of the teacher's covariance


def main() -> None:
    """Run the steps in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("korean", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--wordnet", type=Path, required=True)
    parser.add_argument("--share", type=float, default=1.0, help="of every number of texts: a small run first")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not (options.out / "guard-korean.json").exists():
        choose(options)
    korean, english = (list(sources.read_jsonl(options.out / f"{name}.jsonl")) for name in ("korean", "english"))
    now = Encoder.load(options.encoder, device="cpu")
    _cache(options.out / "english.npy", [row["text"] for row in english], now)
    _cache(options.out / "originals.npy", [row["target"] for row in korean if "target" in row], now)
    teacher = Encoder.load(options.teacher, device="cpu", dtype="int8")
    _cache(options.out / "fitted.npy", [row["text"] for row in english if row["read"]], teacher, queries=True)
    _cache(options.out / "read.npy", [row["text"] for row in korean if row["read"]], teacher, queries=True)
    write_targets(options.out, korean, english)


def choose(options: argparse.Namespace) -> None:
    """Choose the texts, without those that resemble an evaluation text."""
    chance = random.Random(options.seed)
    accept = texts.Filter(Guard(sources.guarded_texts(options.data)))
    paired = _by_source(sources.read_jsonl(options.korean / "ko-pairs.jsonl"))
    parallel = [
        {"text": ko, "target": en, "source": "korsts", "read": True}
        for _, english, korean in sources.parallel_sts(options.data)
        for en, ko in zip(english, korean, strict=True)
        if accept.passes("korsts", en, ko)
    ]
    korean = texts.sample({row["text"]: row for row in parallel}.values(), int(_PARALLEL * options.share), chance)
    for source, (count, both) in _PAIRED.items():
        found = [row for row in paired.get(source, []) if _LEAST <= len(row["ko"]) <= _LONGEST]
        chosen = texts.sample(found, int(count * options.share), chance)
        chosen = [row for row in chosen if accept.passes(source, row["ko"], row["en"])]
        read = set(chance.sample(range(len(chosen)), min(len(chosen), int(both * options.share))))
        for number, row in enumerate(chosen):
            korean.append({"text": row["ko"], "target": row["en"], "source": source, "read": number in read})
    lonely = alone(options)
    everything = [row["ko"] for rows in paired.values() for row in rows] + [text for found in lonely.values() for text in found]
    sources.write_jsonl(options.out / "vocabulary.jsonl", [{"text": text} for text in dict.fromkeys(everything)])
    for source, found in lonely.items():
        known = {row["text"] for row in korean}
        found = [text for text in dict.fromkeys(found) if _LEAST <= len(text) <= _LONGEST or source == "words"]
        for text in texts.sample([one for one in found if one not in known], int(_READ[source] * options.share), chance):
            if accept.passes(source, text):
                korean.append({"text": text, "source": source, "read": True})
    english = english_texts(options, chance, accept)
    sources.write_jsonl(options.out / "korean.jsonl", in_blocks(korean, chance))
    sources.write_jsonl(options.out / "english.jsonl", english)
    (options.out / "guard-korean.json").write_text(json.dumps(accept.report(), indent=1), encoding="utf-8")


def alone(options: argparse.Namespace) -> dict[str, list[str]]:
    """Korean texts that have no original, by source."""
    found = _by_source(sources.read_jsonl(options.korean / "ko-texts.jsonl"))
    read = {source: [row["text"] for row in rows] for source, rows in found.items() if source in _READ}
    rows = [row for row in sources.pairs(options.data) if row["source"].startswith(("ko", "klue"))]
    read["sentences"] = [text for row in rows for text in (row["query"], row["positive"], *row["negatives"])]
    read["sentences"] += sources.korean_nli(options.data)
    read["words"] = (options.korean / "words.txt").read_text(encoding="utf-8").split("\n")
    return read


def english_texts(options: argparse.Namespace, chance: random.Random, accept: texts.Filter) -> list[dict]:
    """English texts of the kinds that the encoder was distilled on, in blocks of a kind."""
    found = texts.sample(texts.candidates(options.data, options.wordnet, chance), int(_ENGLISH * options.share), chance)
    kept = [{"text": text, "source": source} for source, text in found if text.strip() and accept.passes(source, text)]
    read = set(chance.sample(range(len(kept)), min(len(kept), int(_FITTED * options.share))))
    return in_blocks([{**row, "read": number in read} for number, row in enumerate(kept)], chance)


def in_blocks(rows: list[dict], chance: random.Random) -> list[dict]:
    """The rows in an order of their source's, each block of them a source of its own: they share batches."""
    found = []
    for source, some in _by_source(rows).items():
        chance.shuffle(some)
        found += [{**row, "source": f"{source} {number // _BLOCK}"} for number, row in enumerate(some)]
    return found


def write_targets(out: Path, korean: list[dict], english: list[dict]) -> None:
    """Write korean.npy: what each text is to be like; a text with an original whose own vector is known too gets their mean."""
    read, originals, fitted, known = (
        np.load(out / f"{name}.npy").astype(np.float32) for name in ("read", "originals", "fitted", "english")
    )
    both = [row["read"] for row in korean if "target" in row], ["target" in row for row in korean if row["read"]]
    middle, matrix, base = fit(
        np.concatenate([read[both[1]], fitted]), np.concatenate([originals[both[0]], known[[row["read"] for row in english]]])
    )
    np.savez(out / "map.npz", middle=middle, matrix=matrix, base=base)
    read, originals = iter(mapped(read, middle, matrix, base)), iter(originals)
    targets = []
    for row in korean:
        parts = [*([next(originals)] if "target" in row else []), *([next(read)] if row["read"] else [])]
        targets.append(np.mean(parts, axis=0))
    np.save(out / "korean.npy", _unit(np.array(targets)).astype(np.float16))


def fit(teacher: np.ndarray, encoder: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The linear map from a teacher's vectors to an encoder's, (v − middle) @ matrix + base: all (n, d) float32."""
    middle, base = teacher.mean(0), encoder.mean(0)
    covariance = (teacher - middle).T @ (teacher - middle)
    ridge = _RIDGE * np.trace(covariance) * np.eye(len(covariance), dtype=np.float32)
    return middle, np.linalg.solve(covariance + ridge, (teacher - middle).T @ (encoder - base)), base


def _cache(path: Path, found: list[str], encoder: Encoder, *, queries: bool = False) -> None:
    if not path.exists():
        cache_vectors(found, encoder, path, queries=queries)


def _by_source(rows: Iterable[dict]) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(row["source"], []).append(row)
    return found


def mapped(vectors: np.ndarray, middle: np.ndarray, matrix: np.ndarray, base: np.ndarray) -> np.ndarray:
    """A teacher's vectors (n, d) in the encoder's space, by a map that `fit` gave; of length one."""
    return _unit((vectors - middle) @ matrix + base)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


if __name__ == "__main__":
    main()
