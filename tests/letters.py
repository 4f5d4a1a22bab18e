"""An encoder whose vectors can be computed in the head, and data sets for it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ragvec.cli.main import main
from ragvec.encoder import Encoded


class LetterEncoder:
    """Counts the letters a, b and c of a text; every text of more than nine characters counts as truncated."""

    source, fingerprint, dimension, dtype = "models/letters", "f00d" * 8, 3, "float32"
    settings = SimpleNamespace(query_instruction="Find:", document_instruction="", attention="unchanged")

    def __init__(self) -> None:
        self.instructions: list[str] = []
        self.texts: list[str] = []

    def encode_counted(self, texts, *, instruction, normalize=True):
        self.instructions.append(instruction)
        self.texts.extend(texts)
        counts = np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=np.float32)
        lengths = np.array([len(text) for text in texts])
        return Encoded(counts / np.linalg.norm(counts, axis=1, keepdims=True), lengths, lengths > 9)


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """Three documents; of the queries of split test, one finds its document first, one second."""
    folder = tmp_path / "letters"
    (folder / "qrels").mkdir(parents=True)
    documents = [("d1", "a", "aa"), ("d2", "", "bbbbb aaaab"), ("d3", "c", "cc")]
    rows = [{"_id": doc_id, "title": title, "text": text} for doc_id, title, text in documents]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [{"_id": name, "text": text} for name, text in (("q1", "c"), ("q2", "ab"), ("q3", "b"))]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td3\t1\nq2\td1\t1\n")
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td2\t1\n")
    return folder


@pytest.fixture
def sts(tmp_path: Path) -> Path:
    path = tmp_path / "letters.tsv"
    path.write_text('score\tsentence1\tsentence2\n5.0\t"a\taa\n3\ta\tab\n0\ta\tb\n1\ta\tabb\n')
    return path


@pytest.fixture
def letters(monkeypatch, tmp_path) -> LetterEncoder:
    """The one encoder that every command loads; the cache is empty."""
    encoder = LetterEncoder()
    monkeypatch.setattr("ragvec.encoder.Encoder.load", lambda *_, **__: encoder)
    monkeypatch.setenv("RAGVEC_CACHE", str(tmp_path / "cache"))
    return encoder


def command(capsys, *words) -> list[dict]:
    """The lines that `ragvec eval …` prints on a pipe."""
    with pytest.raises(SystemExit) as ended:
        main(["eval", *map(str, words)])
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown.err
    return [json.loads(line) for line in shown.out.splitlines()]
