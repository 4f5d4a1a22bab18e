"""Prepare the encoder's Korean: texts with the vectors that they are to get, in the space of the encoder that is there already.

    python prepare_korean.py DATA KOREAN OUT --encoder ENCODER --teacher E5 --wordnet WORDNET [--share 0.2]

KOREAN holds ko-pairs.jsonl, ko-texts.jsonl (korean.py) and words.txt; E5 is the folder that multilingual.py wrote. A text
with an English original gets the vector that ENCODER gives that one; a Korean text alone gets E5's vector, brought into
ENCODER's space by a linear map (map.npz: least squares over texts that both have read); English texts keep the vectors that
they have. OUT receives korean.jsonl and .npy, english.jsonl and .npy, guard-korean.json. What is there already is not made
again, and E5's vectors are kept block by block.
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

_PAIRED = {"catalogues": 100_000, "help": 40_000, "descriptions": 20_000}  # texts whose English original says what they mean
_READ = {
    "help": 12_000,
    "descriptions": 6_000,
    "bills": 1_000,
    "sentences": 30_000,
    "words": 25_000,
}  # texts that the teacher reads
_ENGLISH = 80_000  # texts that keep their vectors
_FITTED = 8_000  # English texts beside all of KorSTS' training sentences, for the map
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
    rows = {name: _read(options.out / f"{name}.jsonl") for name in ("korean", "english", "fit")}
    now = Encoder.load(options.encoder, device="cpu")
    _cache(options.out / "english.npy", [row["text"] for row in rows["english"]], now)
    originals = [row["target"] for row in rows["korean"] if "target" in row]
    _cache(options.out / "originals.npy", originals, now)
    _cache(options.out / "fit-now.npy", [row.get("target", row["text"]) for row in rows["fit"]], now)
    teacher = Encoder.load(options.teacher, device="cpu", dtype="int8")
    _cache(options.out / "fit-e5.npy", [row["text"] for row in rows["fit"]], teacher, queries=True)
    read = [row["text"] for row in rows["korean"] if row["read"]]
    _cache(options.out / "read.npy", read, teacher, queries=True)
    write_targets(options.out, rows["korean"])


def choose(options: argparse.Namespace) -> None:
    """Choose the texts, without those that resemble an evaluation text."""
    chance = random.Random(options.seed)
    accept = texts.Filter(Guard(sources.guarded_texts(options.data)))
    paired = _by_source(_read(options.korean / "ko-pairs.jsonl"))
    parallel = [
        {"text": ko, "target": en, "source": "korsts", "read": True}
        for _, english, korean in sources.parallel_sts(options.data)
        for en, ko in zip(english, korean, strict=True)
        if accept.passes("korsts", en, ko)
    ]
    korean = list({row["text"]: row for row in parallel}.values())
    for source, count in _PAIRED.items():
        found = [row for row in paired.get(source, []) if _LEAST <= len(row["ko"]) <= _LONGEST]
        for row in _sample(found, int(count * options.share), chance):
            if accept.passes(source, row["ko"], row["en"]):
                korean.append({"text": row["ko"], "target": row["en"], "source": source, "read": False})
    for source, found in alone(options).items():
        known = {row["text"] for row in korean}
        found = [text for text in dict.fromkeys(found) if _LEAST <= len(text) <= _LONGEST or source == "words"]
        for text in _sample([one for one in found if one not in known], int(_READ[source] * options.share), chance):
            if accept.passes(source, text):
                korean.append({"text": text, "source": source, "read": True})
    english = english_texts(options, chance, accept)
    _write(options.out / "korean.jsonl", in_blocks(korean, chance))
    _write(options.out / "english.jsonl", english)
    _write(options.out / "fit.jsonl", [*korean[: len(parallel)][:_FITTED], *_sample(english, _FITTED, chance)])
    (options.out / "guard-korean.json").write_text(json.dumps(accept.report(), indent=1), encoding="utf-8")


def alone(options: argparse.Namespace) -> dict[str, list[str]]:
    """Korean texts that have no original, by source."""
    found = _by_source(_read(options.korean / "ko-texts.jsonl"))
    read = {source: [row["text"] for row in rows] for source, rows in found.items() if source in _READ}
    rows = [row for row in sources.pairs(options.data) if row["source"].startswith(("ko", "klue"))]
    read["sentences"] = [text for row in rows for text in (row["query"], row["positive"], *row["negatives"])]
    read["words"] = (options.korean / "words.txt").read_text(encoding="utf-8").split("\n")
    return read


def english_texts(options: argparse.Namespace, chance: random.Random, accept: texts.Filter) -> list[dict]:
    """English texts of the kinds that the encoder was distilled on, in blocks of a kind."""
    candidates = texts._distill_candidates(options.data, options.wordnet, chance)
    found = _sample(candidates, int(_ENGLISH * options.share), chance)
    kept = [{"text": text, "source": source} for source, text in found if text.strip() and accept.passes(source, text)]
    return in_blocks(kept, chance)


def in_blocks(rows: list[dict], chance: random.Random) -> list[dict]:
    """The rows in an order of their source's, each block of them a source of its own: they share batches."""
    found = []
    for source, some in _by_source(rows).items():
        chance.shuffle(some)
        found += [{**row, "source": f"{source} {number // _BLOCK}"} for number, row in enumerate(some)]
    return found


def write_targets(out: Path, korean: list[dict]) -> None:
    """Write korean.npy: what each text is to be like; a text with an original whose own vector is known too gets their mean."""
    fitted, known = (np.load(out / f"fit-{name}.npy").astype(np.float32) for name in ("e5", "now"))
    middle, matrix, base = fit(fitted, known)
    np.savez(out / "map.npz", middle=middle, matrix=matrix, base=base)
    read = iter(_unit((np.load(out / "read.npy").astype(np.float32) - middle) @ matrix + base))
    originals = iter(np.load(out / "originals.npy").astype(np.float32))
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


def _sample(found: Iterable, size: int, chance: random.Random) -> list:
    return texts._sample(found, size, chance)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _read(path: Path) -> list[dict]:
    return list(sources.read_jsonl(path))


def _write(path: Path, rows: list[dict]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    main()
