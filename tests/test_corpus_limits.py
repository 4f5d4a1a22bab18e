"""Lines, values and files over the limit, compressed ones too: one line of error each, and no more read than is allowed."""

import gzip
import random

import pytest
import zstandard

from ragvec.corpus import count_documents, read_documents
from ragvec.corpus.files import open_input
from ragvec.corpus.passages import CorpusOptions
from ragvec.errors import RagvecError
from ragvec.evaluate.sets import read_clustering_sets
from ragvec.evaluate.trec import read_topics
from ragvec.train.data.examples import read_pairs
from tests.test_corpus_hostile import GOOD, LAST, MEGABYTE, rejected_from, zeros_zst


def test_a_line_over_the_limit_is_one_rejected_row(tmp_path):
    line = b'{"_id": "long", "text": "' + b"x" * MEGABYTE + b'"}\n'
    exact = b'{"_id": "exact", "text": "' + b"x" * (MEGABYTE - 29) + b'"}\n'
    assert len(exact) == MEGABYTE
    (tmp_path / "a.jsonl").write_bytes(GOOD + line + exact + LAST)
    said = f"{tmp_path / 'a.jsonl'}, line 2: longer than 1 MB: break it up, or allow more (`max_value_mb`)"
    assert rejected_from(tmp_path / "a.jsonl", max_value_mb=1) == (["good", "exact", "last"], [said], [None])
    with pytest.raises(RagvecError) as caught:
        list(read_documents(tmp_path / "a.jsonl", max_value_mb=1))
    assert str(caught.value) == said
    assert len(rejected_from(tmp_path / "a.jsonl", max_value_mb=2)[0]) == 4
    assert count_documents(tmp_path / "a.jsonl") == 4


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_line_that_inflates_without_end(tmp_path, suffix):
    body = GOOD + b'{"text": "' + bytes(40 * MEGABYTE)
    data = gzip.compress(body) if suffix == "gz" else zstandard.compress(body)
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(data)
    (tmp_path / "b.jsonl").write_bytes(LAST)
    documents, errors, _ = rejected_from(tmp_path, max_value_mb=1)
    assert documents == ["good", "last"] and len(errors) == 1
    assert errors[0].startswith(f"{tmp_path}/a.jsonl.{suffix}") and "\n" not in errors[0]
    ends = "line 2: the line does not end" if suffix == "gz" else "it inflates more than 1,100 times, which text never does"
    assert ends in errors[0]


def test_no_more_of_a_bomb_is_read_than_is_allowed(tmp_path):
    (tmp_path / "a.txt.zst").write_bytes(zeros_zst(1 << 30))
    size = (tmp_path / "a.txt.zst").stat().st_size
    with open_input(tmp_path / "a.txt.zst") as file:
        read = 0
        with pytest.raises(zstandard.ZstdError, match="inflates more than"):
            while piece := file.read(MEGABYTE):
                read += len(piece)
    assert read <= (16 << 20) + 1100 * size < 1 << 29


def test_frames_one_behind_another_are_read_piece_by_piece(tmp_path):
    rows = [b'{"text": "%d"}\n' % number for number in range(3000)]
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(map(zstandard.compress, rows)))
    assert [document.text for document in read_documents(tmp_path / "a.jsonl.zst")] == [str(n) for n in range(3000)]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.txt.gz", "a.html"])
def test_a_file_read_whole_has_the_same_limit(tmp_path, name):
    if name.endswith("html"):
        pytest.importorskip("markitdown")
    data = b"word " * (MEGABYTE // 4)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    (tmp_path / "b.jsonl").write_bytes(GOOD)
    said = f"{tmp_path / name}: longer than 1 MB: break it up, or allow more (`max_value_mb`)"
    assert rejected_from(tmp_path, max_value_mb=1) == (["good"], [said], [None])


def test_values_over_the_limit_in_json_csv_and_text_lines(tmp_path):
    long = "x" * (3 * MEGABYTE)
    (tmp_path / "a.json").write_text('[{"_id": "a", "text": "a"},\n{"_id": "b", "text": "' + long + '"}]')
    (tmp_path / "b.csv").write_text('_id,text\nc,c\nd,"' + (long[:1000] + "\n") * 2000 + '"\n')
    (tmp_path / "c.txt").write_text(f"one\n{long}\ntwo\n")
    documents, errors, _ = rejected_from(tmp_path, max_value_mb=1, text_lines=True)
    assert documents[:2] == ["a", "c"] and len(documents) == 4
    assert errors == [
        f"{tmp_path}/a.json, line 2: longer than 1 MB: break it up, or allow more (`max_value_mb`)",
        f"{tmp_path}/b.csv, line 3: bad CSV: field larger than field limit (1048576)",
        f"{tmp_path}/c.txt, line 2: longer than 1 MB: break it up, or allow more (`max_value_mb`)",
    ]


def test_the_limit_must_be_a_length():
    with pytest.raises(RagvecError, match="max_value_mb is 0: it must be 1 or more"):
        CorpusOptions(max_value_mb=0)


def test_who_has_no_argument_for_the_limit_names_none(tmp_path):
    """`ragvec mine`, `train` and `eval` read with the usual limit."""
    words = random.Random(0).randbytes(200_000).replace(b"\n", b"")
    line = b'{"_id": "1", "query": "q", "positive": "' + words + bytes(129 * MEGABYTE)
    (tmp_path / "pairs.jsonl.zst").write_bytes(zstandard.ZstdCompressor(level=1).compress(line))
    said = f"{tmp_path / 'pairs.jsonl.zst'}, line 1: longer than 128 MB: break it up"
    for read in (
        lambda: read_pairs([str(tmp_path)]),
        lambda: list(read_documents(tmp_path)),
        lambda: read_clustering_sets(tmp_path / "pairs.jsonl.zst"),
        lambda: read_topics(tmp_path / "pairs.jsonl.zst"),
    ):
        with pytest.raises(RagvecError) as caught:
            read()
        assert str(caught.value) == said
