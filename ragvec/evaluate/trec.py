"""TREC's files: topics, qrels and runs, read line by line and written whole or not at all."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ragvec.corpus.files import decode, open_input, read_whole, text_lines
from ragvec.corpus.queries import numbered_queries
from ragvec.errors import RagvecError
from ragvec.evaluate.tables import read_header, read_table, to_number
from ragvec.files import replacing

_TOPIC = re.compile(r"<top(?:ic)?(\s[^>]*)?>(.*?)</top(?:ic)?>", re.S | re.I)
_NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)", re.I)
_ATTRIBUTE = re.compile(r"number\s*=\s*[\"']?([^\s\"'>]+)", re.I)
_TITLES = [re.compile(rf"<{tag}>\s*(?:Topic:)?\s*([^<]*[^<\s])", re.I) for tag in ("title", "query", "question")]
_BEIR_COLUMNS = ("query-id", "corpus-id", "score")


def read_topics(path: Path) -> dict[str, str]:
    """Queries by id: a TREC topics file (number and title), a JSON array, JSONL, or lines of id, tab, text, perhaps
    with a header; see `numbered_queries`.

    Raises RagvecError for a topic without number or title, an id that comes twice, or a file without queries.
    """
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    if name.endswith(".json"):
        from ragvec.corpus import read_documents

        return {document.doc_id: document.text for document in read_documents(path)}
    if name.endswith(".jsonl"):
        with open_input(path) as file:
            return _queries(_listed(text_lines(file, path), path), path)
    text = _read_text(path)
    return _queries(_topics(text, path) if "<top" in text.lower() else _listed(text.splitlines(keepends=True), path), path)


def _listed(lines: Iterable[str], path: Path) -> Iterator[tuple[str, str, str]]:
    for number, query_id, text in numbered_queries(lines, str(path), with_ids=True):
        yield f"line {number}", query_id, text


def _queries(rows: Iterator[tuple[str, str, str]], path: Path) -> dict[str, str]:
    queries: dict[str, str] = {}
    places: dict[str, str] = {}
    for place, query_id, query in rows:
        if (first := places.setdefault(query_id, place)) != place:
            raise RagvecError(f"{path}, {place}: {first} has the query id {query_id!r}, too: {query_id!r} comes twice")
        queries[query_id] = query
    if not queries:
        raise RagvecError(f"{path} holds no queries: pass TREC topics, JSONL with _id and text, or lines of id, tab, text")
    return queries


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Judgements, query_id → doc_id → grade: BEIR's TSV (query-id, corpus-id, score) or TREC's four columns.

    Raises RagvecError, with the line, for what is neither.
    """
    header = read_header(path)
    rows = _beir_rows(path) if len(header) > 1 and not _is_trec_row(header) else _trec_rows(path)
    qrels: dict[str, dict[str, int]] = {}
    for query_id, doc_id, grade in rows:
        qrels.setdefault(query_id, {})[doc_id] = grade
    if not qrels:
        raise RagvecError(f"{path} holds no judgements")
    return qrels


def read_run(path: Path) -> dict[str, dict[str, float]]:
    """A TREC run (query_id Q0 doc_id rank score tag), query_id → doc_id → score.

    Raises RagvecError, with the line, for a row of another shape, a score that is no number, or a document that comes twice.
    """
    run: dict[str, dict[str, float]] = {}
    for line, fields in _split_lines(path):
        if len(fields) != 6:
            raise RagvecError(f"{path} line {line}: {len(fields)} columns, a run has 6 (query_id Q0 doc_id rank score tag)")
        query_id, _, doc_id, _, score, _ = fields
        found = run.setdefault(query_id, {})
        if doc_id in found:
            raise RagvecError(f"{path} line {line}: document {doc_id!r} comes twice for query {query_id!r}")
        found[doc_id] = to_number(score, path, line)
    if not run:
        raise RagvecError(f"{path} holds no results")
    return run


def write_run(path: Path, run: Mapping[str, Mapping[str, float]], tag: str) -> None:
    """Write a run as TREC's tools read it, best first, scores with every digit.

    Raises RagvecError for an id with white space in it, which the format can't hold, or a path that can't be written.
    """
    name = "-".join(tag.split()) or "ragvec"
    try:
        with replacing(path, "w") as file:
            for query_id, found in run.items():
                for rank, (doc_id, score) in enumerate(sorted(found.items(), key=lambda item: -item[1]), 1):
                    file.write(f"{_whole(query_id)} Q0 {_whole(doc_id)} {rank} {score!r} {name}\n")
    except OSError as error:
        raise RagvecError(f"{path} cannot be written: {error.strerror}") from error


def _topics(text: str, path: Path) -> Iterator[tuple[str, str, str]]:
    for place, (attributes, body) in enumerate(_TOPIC.findall(text), 1):
        number = _NUMBER.search(body) or _ATTRIBUTE.search(attributes)
        title = next((found for pattern in _TITLES if (found := pattern.search(body))), None)
        if number is None or title is None:
            shown = " ".join(body.split())[:60]
            raise RagvecError(f"{path}: a topic has no {'title' if number else 'number'}: {shown!r}")
        yield f"topic {place}", number.group(1), " ".join(title.group(1).split())


def _beir_rows(path: Path) -> Iterator[tuple[str, str, int]]:
    for line, row in read_table(path, _BEIR_COLUMNS):
        yield row["query-id"], row["corpus-id"], int(to_number(row["score"], path, line))


def _trec_rows(path: Path) -> Iterator[tuple[str, str, int]]:
    for line, fields in _split_lines(path):
        if len(fields) != 4:
            raise RagvecError(f"{path} line {line}: {len(fields)} columns, TREC's qrels have 4 (query_id 0 doc_id grade)")
        yield fields[0], fields[2], int(to_number(fields[3], path, line))


def _is_trec_row(fields: list[str]) -> bool:
    return len(fields) == 4 and fields[3].strip().lstrip("-").isdigit()


def _split_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    with open_input(path) as file:
        for line, row in enumerate(text_lines(file, path), 1):
            if row.strip():
                yield line, row.split()


def _read_text(path: Path) -> str:
    with open_input(path) as file:
        return decode(read_whole(file, path), str(path))


def _whole(name: str) -> str:
    if not name or any(character.isspace() for character in name):
        raise RagvecError(f"the id {name!r} holds white space, which a TREC run can't: rename it")
    return name
