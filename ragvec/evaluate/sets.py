"""Data sets as they lie on disk, checked and read: retrieval, pairs of sentences, labelled texts."""

from dataclasses import dataclass
from pathlib import Path

from ragvec.errors import RagvecError, WrongUsage
from ragvec.evaluate.tables import read_header, read_table, to_number
from ragvec.evaluate.trec import read_qrels, read_topics
from ragvec.metrics import Qrels

SIMILARITY_COLUMNS = ("score", "sentence1", "sentence2")
LABEL_COLUMNS = ("label", "text")


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Where the corpus is (None: an index holds it), and the queries and qrels of one split."""

    name: str
    split: str | None
    corpus: Path | None
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class SimilaritySet:
    """Pairs of sentences with people's scores of their similarity."""

    left: list[str]
    right: list[str]
    scores: list[float]


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Texts and the label of each."""

    texts: list[str]
    labels: list[str]


def task_of(path: Path) -> str:
    """retrieval, similarity, classification or clustering: what a data set's layout says.

    Raises RagvecError for a path that is none of them.
    """
    if path.is_dir():
        labelled = (path / "test.tsv").is_file() and not (path / "qrels").exists()
        return "classification" if labelled else "retrieval"
    if path.is_file():
        if _is_jsonl(path):
            return "clustering"
        header = read_header(path)
        return "classification" if set(LABEL_COLUMNS) <= set(header) else "similarity"
    raise RagvecError(
        f"no data set {path}: pass a BEIR folder (corpus.jsonl, queries.jsonl, qrels/), an STS table (.tsv: score, sentence1, "
        "sentence2), labelled texts (.tsv: label, text) or sets to cluster (.jsonl: sentences, labels)"
    )


def read_retrieval_set(
    dataset: Path | None,
    split: str,
    *,
    topics: Path | None = None,
    qrels: Path | None = None,
    index: Path | None = None,
    needs_queries: bool = True,
) -> RetrievalSet:
    """Read a BEIR folder, or a corpus (file or folder) with TREC topics and qrels; queries are those that the qrels name.

    dataset        None = an index holds the corpus; index: that one, which may lend the set its name
    topics, qrels  files that stand for the folder's own; needs_queries: false if a run file is at hand
    Raises RagvecError naming what is missing.
    """
    if qrels is not None:
        judged, name = read_qrels(qrels), None
    elif dataset is not None:
        judged, name = read_qrels(_find_qrels(dataset, split)), split
    else:
        raise WrongUsage("no qrels: name a BEIR folder, or pass `qrels` FILE")
    corpus = None
    if dataset is not None:
        corpus = dataset if dataset.is_file() or topics is not None else _find(dataset, "corpus.jsonl")
    queries = _read_queries(dataset, topics, judged, name or "given") if needs_queries else {}
    return RetrievalSet(name=_name(dataset, qrels, index), split=name, corpus=corpus, queries=queries, qrels=judged)


def _name(dataset: Path | None, qrels: Path | None, index: Path | None) -> str:
    """What a set is called: its folder, that of BEIR's qrels/test.tsv, or the index; else the file of judgements."""
    if dataset is not None:
        place = dataset.resolve()
        return place.parent.name if place.is_file() and place.name.startswith("corpus.") else place.name
    if qrels is not None and qrels.resolve().parent.name == "qrels":
        return qrels.resolve().parent.parent.name
    if index is not None:
        return index.resolve().name
    assert qrels is not None
    return qrels.stem


def read_similarity_set(path: Path) -> SimilaritySet:
    """Read an STS table: tab-separated, a header, columns score, sentence1, sentence2.

    Raises RagvecError with file and line for a missing column or a score that is no number.
    """
    rows = read_table(path, SIMILARITY_COLUMNS)
    scores = [to_number(row["score"], path, line) for line, row in rows]
    if len(scores) < 2:
        raise RagvecError(f"{path} holds {len(scores)} pairs: a correlation needs at least two")
    return SimilaritySet([row["sentence1"] for _, row in rows], [row["sentence2"] for _, row in rows], scores)


def read_labelled_set(path: Path) -> LabelledSet:
    """Read a table of labelled texts: tab-separated, a header, columns label and text. Raises RagvecError for fewer than two
    different labels."""
    rows = [row for _, row in read_table(path, LABEL_COLUMNS)]
    if len({row["label"] for row in rows}) < 2:
        raise RagvecError(f"{path} holds fewer than two different labels: there is nothing to tell apart")
    return LabelledSet([row["text"] for row in rows], [row["label"] for row in rows])


def read_clustering_sets(path: Path) -> list[LabelledSet]:
    """Sets of labelled texts to cluster: a table (label, text) is one set; MTEB's JSONL has a set a line (sentences, labels).

    Raises RagvecError, with the line, for a set whose lists differ in length or that is empty.
    """
    if not _is_jsonl(path):
        return [read_labelled_set(path)]
    from ragvec.corpus.files import open_input
    from ragvec.corpus.formats import jsonl_rows
    from ragvec.corpus.rows import BadRow

    sets = []
    with open_input(path) as file:
        for place, row in jsonl_rows(file, path):
            if isinstance(row, BadRow):
                raise RagvecError(row.error)
            texts, labels = row.get("sentences"), row.get("labels")
            if not (isinstance(texts, list) and isinstance(labels, list) and len(texts) == len(labels) > 0):
                raise RagvecError(f"{place}: a set to cluster has lists `sentences` and `labels` of one length")
            sets.append(LabelledSet([str(text) for text in texts], [str(label) for label in labels]))
    if not sets:
        raise RagvecError(f"{path} holds no sets to cluster")
    return sets


def find_training_table(path: Path, split: str) -> tuple[Path, Path]:
    """The training and the test table of a classification set: a folder's train.tsv and test.tsv, or NAME.train.tsv beside
    NAME.test.tsv. Raises RagvecError if one is missing."""
    if path.is_dir():
        test, train = path / f"{split}.tsv", path / "train.tsv"
    else:
        test, train = path, path.with_name(path.name.replace(f"{split}.tsv", "train.tsv"))
    for table, what in ((test, "test"), (train, "training")):
        if not table.is_file() or (table is train and train == test):
            raise RagvecError(
                f"no {what} table for {path}: lay train.tsv beside {split}.tsv, or NAME.train.tsv beside NAME.{split}.tsv"
            )
    return train, test


def _read_queries(dataset: Path | None, topics: Path | None, judged: Qrels, split: str) -> dict[str, str]:
    if topics is None and (dataset is None or dataset.is_file()):
        raise WrongUsage("no queries: pass `topics` FILE (TREC topics, JSONL with _id and text, or lines of id, tab, text)")
    path = topics if topics is not None or dataset is None else _find(dataset, "queries.jsonl")
    assert path is not None
    queries = {query_id: text for query_id, text in read_topics(path).items() if query_id in judged}
    if unknown := judged.keys() - queries.keys():
        raise RagvecError(f"{path} lacks {len(unknown)} queries of the {split} qrels, such as {min(unknown)!r}: complete it")
    if empty := [query_id for query_id, text in queries.items() if not text.strip()]:
        raise RagvecError(f"{path}: query {empty[0]!r} is empty: complete it, or take it out of the qrels")
    return queries


def _is_jsonl(path: Path) -> bool:
    return path.name.removesuffix(".gz").removesuffix(".zst").endswith(".jsonl")


def _find(folder: Path, name: str) -> Path:
    """A part of a BEIR folder, compressed or not."""
    for candidate in (folder / name, folder / f"{name}.gz", folder / f"{name}.zst"):
        if candidate.is_file():
            return candidate
    raise RagvecError(f"{folder} is no BEIR data set: it has no {name}")


def _find_qrels(folder: Path, split: str) -> Path:
    if not folder.exists():
        task_of(folder)  # says what may be passed
    path = folder / "qrels" / f"{split}.tsv"
    if path.is_file():
        return path
    splits = sorted(found.stem for found in (folder / "qrels").glob("*.tsv"))
    if not splits:
        raise RagvecError(f"{folder} is no BEIR data set: it has no qrels/*.tsv")
    raise WrongUsage(f"{folder} has no split {split!r}: choose `split` from {', '.join(splits)}")
