"""Measure an encoder on a data set: a BEIR folder (retrieval) or an STS table (similarity).

Retrieval is exact: every query against every passage, by inner product of unit vectors.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ragvec.errors import RagvecError
from ragvec.metrics import score_run, spearman
from ragvec.progress import progress_bar

if TYPE_CHECKING:
    from ragvec.encoder import Encoder

_DEPTH = 100  # passages per query that the deepest metric looks at
_TEXTS = 2048  # encoded between two steps of the progress bar
_QUERIES = 256  # rows of a score matrix in memory at once


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """A BEIR data set: passages with their documents' ids, queries and qrels of one split."""

    doc_ids: list[str]
    passages: list[str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class SimilaritySet:
    """Pairs of sentences with people's scores of their similarity."""

    left: list[str]
    right: list[str]
    scores: list[float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of one encoder on one data set.

    figures   metric → value
    counts    how much was measured: documents and queries, or pairs; and how many texts were truncated
    """

    dataset: str
    split: str | None
    encoder: str
    fingerprint: str
    instruction: str
    figures: dict[str, float]
    counts: dict[str, int]

    def as_record(self) -> dict:
        """One flat object of JSON values, figures and counts beside the rest."""
        names = ("dataset", "split", "encoder", "fingerprint", "instruction")
        return {**{name: getattr(self, name) for name in names}, **self.counts, **self.figures}


def evaluate(
    dataset: str | Path,
    encoder: "Encoder",
    *,
    split: str = "test",
    instruction: str | None = None,
    show_progress: bool = False,
) -> Evaluation:
    """Measure an encoder on a BEIR folder (corpus.jsonl, queries.jsonl, qrels/<split>.tsv) or an STS table (.tsv).

    instruction  what is put before queries; None = the encoder's own for retrieval and none for similarity, where both
                 sides carry it. Documents carry none.
    Raises RagvecError if the data set is not one of the two, or a part of it is missing or damaged.
    """
    path = Path(dataset)
    if path.is_dir():
        return _evaluate_retrieval(path, encoder, split, instruction, show_progress)
    if path.is_file():
        return _evaluate_similarity(path, encoder, instruction or "", show_progress)
    raise RagvecError(f"no data set {path}: pass a BEIR folder (corpus.jsonl, queries.jsonl, qrels/) or an STS table (.tsv)")


def read_retrieval_set(folder: Path, split: str) -> RetrievalSet:
    """Read a BEIR folder; queries are those the split's qrels name. Raises RagvecError naming what is missing."""
    from ragvec.corpus import read_documents, to_passages

    qrels = _read_qrels(_find_qrels(folder, split))
    corpus, named = (_find(folder, name) for name in ("corpus.jsonl", "queries.jsonl"))
    queries = {document.doc_id: document.text for document in read_documents(named) if document.doc_id in qrels}
    if unknown := qrels.keys() - queries.keys():
        raise RagvecError(f"{named} lacks {len(unknown)} queries of the {split} qrels, such as {min(unknown)!r}: complete it")
    passages = list(to_passages(read_documents(corpus)))
    doc_ids, texts = [passage.doc_id for passage in passages], [passage.encoded_text for passage in passages]
    return RetrievalSet(doc_ids, texts, queries, qrels)


def read_similarity_set(path: Path) -> SimilaritySet:
    """Read an STS table: tab-separated, a header, columns score, sentence1, sentence2.

    Raises RagvecError with file and line for a missing column or a score that is no number.
    """
    rows = _read_table(path, ("score", "sentence1", "sentence2"))
    scores = [_number(row["score"], path, line) for line, row in rows]
    if len(scores) < 2:
        raise RagvecError(f"{path} holds {len(scores)} pairs: a correlation needs at least two")
    return SimilaritySet([row["sentence1"] for _, row in rows], [row["sentence2"] for _, row in rows], scores)


def search_exact(
    queries: np.ndarray, passages: np.ndarray, doc_ids: Sequence[str], query_ids: Sequence[str], k: int = _DEPTH
) -> dict[str, dict[str, float]]:
    """The best documents of each query by inner product, as a run: query_id → doc_id → score.

    queries (q, d), passages (n, d) float32; a document scores as its best passage. A document with the query's own id is
    left out, as BEIR does.
    """
    run = {}
    depth = min(k + 1, len(passages))  # one more, because the query's own document may be among them
    for start in range(0, len(queries), _QUERIES):
        scores = queries[start : start + _QUERIES] @ passages.T
        best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        for row, columns in enumerate(best):
            query_id = query_ids[start + row]
            found: dict[str, float] = {}
            for column in columns[np.argsort(-scores[row, columns], kind="stable")]:
                if doc_ids[column] != query_id:
                    found.setdefault(doc_ids[column], float(scores[row, column]))
            run[query_id] = dict(list(found.items())[:k])
    return run


def _evaluate_retrieval(folder: Path, encoder: "Encoder", split: str, instruction: str | None, show: bool) -> Evaluation:
    data = read_retrieval_set(folder, split)
    instruction = encoder.settings.query_instruction if instruction is None else instruction
    passages, cut_passages = _encode(encoder, data.passages, "", "passages", show)
    queries, cut_queries = _encode(encoder, list(data.queries.values()), instruction, "queries", show)
    run = search_exact(queries, passages, data.doc_ids, list(data.queries))
    counts = {"documents": len(set(data.doc_ids)), "queries": len(data.queries), "truncated": cut_passages + cut_queries}
    return _evaluation(folder, split, encoder, instruction, score_run(data.qrels, run), counts)


def _evaluate_similarity(path: Path, encoder: "Encoder", instruction: str, show: bool) -> Evaluation:
    data = read_similarity_set(path)
    left, cut_left = _encode(encoder, data.left, instruction, "pairs, left", show)
    right, cut_right = _encode(encoder, data.right, instruction, "pairs, right", show)
    figures = {"spearman": spearman((left * right).sum(axis=1).tolist(), data.scores)}
    counts = {"pairs": len(data.scores), "truncated": cut_left + cut_right}
    return _evaluation(path, None, encoder, instruction, figures, counts)


def _evaluation(path: Path, split: str | None, encoder, instruction: str, figures: dict, counts: dict) -> Evaluation:
    name = path.resolve().name if path.is_dir() else path.stem
    return Evaluation(name, split, encoder.source, encoder.fingerprint, instruction, figures, counts)


def _encode(encoder: "Encoder", texts: Sequence[str], instruction: str, label: str, show: bool) -> tuple[np.ndarray, int]:
    """Unit vectors (n, d) and how many texts were truncated."""
    vectors, truncated = [], 0
    with progress_bar(label, total=len(texts), unit="texts", show=show) as bar:
        for start in range(0, len(texts), _TEXTS):
            encoded = encoder.encode_counted(texts[start : start + _TEXTS], instruction=instruction)
            vectors.append(encoded.vectors)
            truncated += int(encoded.truncated.sum())
            bar.update(len(encoded.vectors))
    return np.concatenate(vectors), truncated


def _find(folder: Path, name: str) -> Path:
    """A part of a BEIR folder, compressed or not."""
    for candidate in (folder / name, folder / f"{name}.gz", folder / f"{name}.zst"):
        if candidate.is_file():
            return candidate
    raise RagvecError(f"{folder} is no BEIR data set: it has no {name}")


def _find_qrels(folder: Path, split: str) -> Path:
    path = folder / "qrels" / f"{split}.tsv"
    if path.is_file():
        return path
    splits = sorted(found.stem for found in (folder / "qrels").glob("*.tsv"))
    if not splits:
        raise RagvecError(f"{folder} is no BEIR data set: it has no qrels/*.tsv")
    raise RagvecError(f"{folder} has no split {split!r}: choose --split from {', '.join(splits)}")


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for line, row in _read_table(path, ("query-id", "corpus-id", "score")):
        qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(_number(row["score"], path, line))
    if not qrels:
        raise RagvecError(f"{path} holds no judgements")
    return qrels


def _read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a TSV file with a header, each with its line number; quotes are characters like any other."""
    try:
        with open(path, encoding="utf-8", newline="") as lines:
            return list(_rows(lines, path, columns))
    except (OSError, UnicodeDecodeError) as error:
        raise RagvecError(f"{path} can't be read as UTF-8 text: {error}") from error


def _rows(lines, path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    header = next(reader, [])
    if missing := [name for name in columns if name not in header]:
        raise RagvecError(f"{path} has no column {missing[0]!r}: its header is {json.dumps(header, ensure_ascii=False)}")
    for row in reader:
        if len(row) < len(header):
            raise RagvecError(f"{path} line {reader.line_num}: {len(row)} columns where the header has {len(header)}")
        yield reader.line_num, dict(zip(header, row, strict=False))


def _number(value: str, path: Path, line: int) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise RagvecError(f"{path} line {line}: score {value!r} is no number") from error
