"""Read the data folder of the recipe: corpora, STS tables, pairs, running text; write rows. Nothing here filters or samples."""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

CORPORA = ("scifact", "nfcorpus", "cranfield", "scitldr")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])|(?<= \.)\s+")  # Cranfield writes lower case and " . "
_EXAMPLES = re.compile(r';\s*"')  # where a gloss of WordNet goes over to its examples
_QUOTED = re.compile(r'"([^"]+)"')
_WIKITEXT = [(" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."), (" 's", "'s"), (" n't", "n't"), ("( ", "("), (" )", ")")]


def read_jsonl(path: Path) -> Iterator[dict]:
    """The objects of a JSONL file, gzipped or not."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Write objects to a JSONL file."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a TSV file with a header; quotes are characters like any other."""
    with open(path, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def documents(data: Path, corpus: str) -> dict[str, tuple[str, str]]:
    """doc_id → (title, text) of a retrieval corpus."""
    rows = read_jsonl(data / "retrieval" / corpus / "corpus.jsonl")
    return {row["_id"]: (row.get("title", "").strip(), row["text"].strip()) for row in rows}


def queries(data: Path, corpus: str, *splits: str) -> list[str]:
    """The queries of the named splits of a retrieval set."""
    folder = data / "retrieval" / corpus
    wanted = {row["query-id"] for split in splits for row in read_table(folder / "qrels" / f"{split}.tsv")}
    return [row["text"] for row in read_jsonl(folder / "queries.jsonl") if row["_id"] in wanted]


def guarded_texts(data: Path) -> Iterator[str]:
    """Every query and STS sentence that a figure is measured on, or that a setting was chosen on."""
    for corpus, splits in {
        "scifact": ["test"],
        "nfcorpus": ["test", "dev"],
        "cranfield": ["test"],
        "scitldr": ["test", "dev"],
        "xquad-en": ["test"],
        "xquad-zh": ["test"],
    }.items():
        yield from queries(data, corpus, *splits)
    for name in ("stsb-en.dev", "stsb-en.test", "sick.dev", "sick.test", "korsts.dev", "korsts.test", "klue-sts.dev"):
        for row in read_table(data / "sts" / f"{name}.tsv"):
            yield from (row["sentence1"], row["sentence2"])


def parallel_sts(data: Path) -> Iterator[tuple[float, tuple[str, str], tuple[str, str]]]:
    """STS-B train beside KorSTS train, its translation row by row: score, English pair, Korean pair."""
    english = read_table(data / "sts" / "stsb-en.train.tsv")
    korean = read_table(data / "sts" / "korsts.train.tsv")
    for left, right in zip(english, korean, strict=True):
        assert abs(float(left["score"]) - float(right["score"])) < 0.01, "STS-B and KorSTS are no longer parallel"
        yield float(left["score"]), (left["sentence1"], left["sentence2"]), (right["sentence1"], right["sentence2"])


def sts_sentences(data: Path, name: str) -> Iterator[str]:
    """The sentences of an STS table's training split."""
    for row in read_table(data / "sts" / f"{name}.train.tsv"):
        yield from (row["sentence1"], row["sentence2"])


def korean_nli(data: Path) -> Iterator[str]:
    """The sentences of the Korean inference sets: XNLI's translations (KorNLI) and KLUE-NLI's dev set."""
    for path in sorted((data / "nli").glob("*.tsv")):
        for row in read_table(path):
            yield from (row["premise"], row["hypothesis"])


def reuters(data: Path) -> Iterator[tuple[str, str]]:
    """(title, text) of the Reuters-21578 articles that have both."""
    for row in read_jsonl(data / "text" / "reuters21578" / "reuters.jsonl.gz"):
        if row.get("title") and row.get("text"):
            yield row["title"].strip(), row["text"].strip()


def wikitext(data: Path) -> Iterator[str]:
    """Paragraphs of wikitext-2's training file, headings left out, its token marks undone."""
    with open(data / "text" / "wikitext-2" / "wiki.train.tokens", encoding="utf-8") as lines:
        for line in lines:
            if len(line) > 80 and not line.lstrip().startswith("="):
                yield _undo_marks(line.strip())


def books(data: Path) -> Iterator[str]:
    """Paragraphs of the public-domain books."""
    with open(data / "text" / "books.jsonl.zst", "rb") as file:
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(file)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            for paragraph in json.loads(line)["text"].split("\n\n"):
                if len(paragraph) > 80 and not paragraph.startswith("#"):
                    yield " ".join(paragraph.replace("_", "").split())


def pairs(data: Path) -> Iterator[dict]:
    """The training pairs as query, positive, negatives, source; references into corpora resolved to "title text"."""
    corpora = {name: documents(data, name) for name in CORPORA}
    for name in ("en_train", "ko_train"):
        for row in read_jsonl(data / "pairs" / f"{name}.jsonl.gz"):
            if "corpus" in row:
                texts = corpora[row["corpus"].rpartition("/")[2]]
                row["positive"] = " ".join(texts[row["pos_id"]]).strip()
                row["negatives"] = [" ".join(texts[doc_id]).strip() for doc_id in row["neg_ids"]]
            yield {name: row[name] for name in ("query", "positive", "negatives", "source")}


def wordnet(folder: Path) -> Iterator[str]:
    """WordNet's definitions, each after the words it defines, and its example sentences."""
    for kind in ("noun", "verb", "adj", "adv"):
        with open(folder / f"data.{kind}", encoding="latin-1") as lines:
            for line in lines:
                if line.startswith("  "):  # the licence
                    continue
                entry, _, gloss = line.partition("|")
                fields = entry.split()
                words = [fields[4 + 2 * number].partition("(")[0].replace("_", " ") for number in range(int(fields[3], 16))]
                yield f"{', '.join(words)}: {_EXAMPLES.split(gloss)[0].strip()}"
                yield from _QUOTED.findall(gloss)


def sentences(text: str) -> list[str]:
    """A text cut after full stops, question and exclamation marks."""
    return [piece.strip() for piece in _SENTENCE_END.split(text) if piece.strip()]


def _undo_marks(line: str) -> str:
    for marked, plain in _WIKITEXT:
        line = line.replace(marked, plain)
    return re.sub(r" ([.,;:!?%])", r"\1", line.replace('" ', '"', 1))
