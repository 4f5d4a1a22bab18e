"""A smaller data set out of a large one, in the same layout, always the same: what a slow machine can measure."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import orjson

from ragvec.files import write_text

Item = TypeVar("Item")
OF_LABEL = 10  # training texts kept of each label: a draw of the classification takes 8


def sample_of(source: Path, target: Path, size: int | None) -> Path:
    """Write `size` pairs, texts or sentences, or half as many documents, to a place of their own; None = all, where they lie.

    source   an STS table, NAME.test.tsv beside NAME.train.tsv (label, text), a BEIR folder, a folder with train.* and test.*
    target   where the sample is to lie, for it alone
    returns  where the data set to measure lies
    """
    if size is None:
        return source
    (target.parent if source.is_file() else target).mkdir(parents=True, exist_ok=True)
    if source.is_file():
        write_text(target, _table(source, size))
        train = source.with_name(source.name.replace(".test.", ".train."))
        if _header(source).startswith("label\t"):
            write_text(target.with_name(train.name), _of_each_label(train))
    elif (source / "qrels").is_dir():
        _beir(source, target, size // 2)
    else:
        for path in sorted(source.glob("t*.conll*")):
            sentences = path.read_text(encoding="utf-8").strip().split("\n\n")
            write_text(target / path.name, "\n\n".join(evenly(sentences, size)) + "\n\n")
    return target


def evenly(items: Sequence[Item], size: int) -> list[Item]:
    """So many of the items, evenly spaced, or all."""
    return [items[place * len(items) // size] for place in range(size)] if size < len(items) else list(items)


def read_rows(path: Path) -> list[list[str]]:
    """The rows of a tab-separated table below its header."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def _header(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline()


def _table(path: Path, size: int) -> str:
    rows = ["\t".join(row) for row in evenly(read_rows(path), size)]
    return _header(path) + "\n".join(rows) + "\n"


def _of_each_label(path: Path) -> str:
    kept: dict[str, list[str]] = {}
    for label, *rest in read_rows(path):
        if len(kept.setdefault(label, [])) < OF_LABEL:
            kept[label].append("\t".join((label, *rest)))
    return _header(path) + "\n".join(line for lines in kept.values() for line in lines) + "\n"


def _beir(source: Path, target: Path, size: int) -> None:
    """So many documents: a best one of each of size / 2 queries, then others; the judgements and queries that they leave."""
    judged = [row for row in read_rows(source / "qrels" / "test.tsv") if int(row[2]) > 0]
    best: dict[str, str] = {}
    for query, document, _ in sorted(judged, key=lambda row: -int(row[2])):
        best.setdefault(query, document)
    documents = (source / "corpus.jsonl").read_bytes().splitlines()
    ids = [str(orjson.loads(line)["_id"]) for line in documents]
    kept = {best[query] for query in evenly(sorted(best), size // 2)}
    kept |= set(evenly([one for one in ids if one not in kept], max(size - len(kept), 0)))
    (target / "qrels").mkdir(exist_ok=True)
    left = [row for row in judged if row[1] in kept]
    asked = {row[0] for row in left}
    queries = [line for line in (source / "queries.jsonl").read_text(encoding="utf-8").splitlines()
               if json.loads(line)["_id"] in asked]  # fmt: skip
    write_text(target / "corpus.jsonl", "".join(
        line.decode() + "\n" for name, line in zip(ids, documents, strict=True) if name in kept))  # fmt: skip
    write_text(target / "queries.jsonl", "".join(f"{line}\n" for line in queries))
    write_text(target / "qrels" / "test.tsv", _header(source / "qrels" / "test.tsv") + "".join(
        "\t".join(row) + "\n" for row in left))  # fmt: skip
