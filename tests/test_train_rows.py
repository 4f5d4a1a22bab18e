"""Training rows that say more than texts: where their documents lie, what they are read after; and rows left out."""

import json

import numpy as np
import pytest

from ragvec.errors import RagvecError
from ragvec.train.data import Reading, read_examples
from ragvec.train.data.teacher import read_teacher
from tests.test_train_data import examples, recipe, settings


def test_rows_that_point_into_a_corpus(tmp_path):
    corpus = tmp_path / "beir"
    corpus.mkdir()
    rows = [{"_id": "1", "title": "T", "text": "one"}, {"_id": "2", "text": "two"}]
    (corpus / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    row = {"query": "q", "corpus": "beir", "pos_id": "1", "neg_ids": ["2"]}
    (found,) = examples(tmp_path, row)
    assert found.positive.split() == ["T", "one"] and found.negatives == ("two",)
    with pytest.raises(RagvecError, match="nq.jsonl, line 1: corpus beir has no document '3'"):
        examples(tmp_path, {**row, "neg_ids": ["3"]})
    for name in ("../beir", str(corpus), "beir/../../x"):
        with pytest.raises(RagvecError, match="nq.jsonl, line 1: the corpus '.*' lies elsewhere"):
            examples(tmp_path, {**row, "corpus": name})


def test_rows_of_tevatron_2_point_into_a_corpus_apart(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"docid": one, "text": f"text {one}"}) + "\n" for one in "abc"))
    row = {"query_id": "1", "query_text": "q", "positive_document_ids": ["a", "b"], "negative_document_ids": ["c"]}
    found = examples(tmp_path, row, corpus_root=str(corpus))
    assert [(one.query, one.positive, one.negatives) for one in found] == [
        ("q", "text a", ("text c",)), ("q", "text b", ("text c",))
    ]  # fmt: skip
    with pytest.raises(
        RagvecError, match='line 1: positive_document_ids points into a corpus and the row names none: set "corp'
    ):
        examples(tmp_path, row)
    with pytest.raises(RagvecError, match="has no document 'z'"):
        examples(tmp_path, {**row, "negative_document_ids": ["z"]}, corpus_root=str(corpus))
    with pytest.raises(RagvecError, match="positive_document_ids needs a corpus .string. and lists of ids"):
        examples(tmp_path, {**row, "positive_document_ids": "a"}, corpus_root=str(corpus))
    with pytest.raises(RagvecError, match="empty positive: remove the row"):
        examples(tmp_path, {**row, "positive_document_ids": []}, corpus_root=str(corpus))


def test_instructions_that_rows_bring_along(tmp_path):
    """FlagEmbedding's prompt is the query's; GritLM writes [instruction, text], which is not a list of two texts."""
    found = examples(
        tmp_path,
        {"query": "q", "pos": ["p", "r"], "neg": ["n"], "prompt": "find:"},
        {"query": ["ask:", "q"], "pos": [["say:", "p"]], "neg": [["say:", "n"], ["say:", "m"]]},
        {"query": ["", "q"], "pos": [["", "p"]]},
        {"query": "q", "positive": "p"},
        instruction="usual:",
        symmetric=["nq"],
    )
    assert [(one.query_instruction, one.query, one.document_instruction, one.positive, one.negatives) for one in found] == [
        ("find:", "q", "find:", "p", ("n",)),
        ("find:", "q", "find:", "r", ("n",)),
        ("ask:", "q", "say:", "p", ("n", "m")),
        ("", "q", "", "p", ()),
        ("usual:", "q", "usual:", "p", ()),
    ]
    with pytest.raises(RagvecError, match="line 1: 2 instructions for the documents of one row"):
        examples(tmp_path, {"query": "q", "pos": [["a", "p"]], "neg": [["b", "n"]]})
    with pytest.raises(RagvecError, match="line 1: field 'prompt' must be a string, not 3"):
        examples(tmp_path, {"query": "q", "positive": "p", "prompt": 3})


def test_rows_that_cannot_be_read_may_be_left_out(tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = ['{"query": "q", "positive": "p"}', "{", '{"query": "q"}', "[1]", '{"query": "r", "positive": "s"}']
    file.write_text("\n".join(rows))
    reading = Reading(skip=True)
    found = read_examples(recipe("supervised"), settings(), [str(file)], reading=reading)
    assert [one.query for one in found] == ["q", "r"] and reading.skipped == 3
    assert reading.first.startswith(f"{file}, line 2: bad JSON")
    with pytest.raises(RagvecError, match="line 2: bad JSON"):
        read_examples(recipe("supervised"), settings(), [str(file)])
    file.write_text("{}\n")
    with pytest.raises(RagvecError, match="holds no training text"):
        read_examples(recipe("supervised"), settings(), [str(file)], reading=Reading(skip=True))
    np.save(tmp_path / "v.npy", np.ones((1, 2)))
    with pytest.raises(RagvecError, match="on_error is skip, but a .npy file's vectors match its texts row for row"):
        read_teacher(recipe("distill", teacher_vectors=[str(tmp_path / "v.npy")]), [str(file)], reading=reading)
