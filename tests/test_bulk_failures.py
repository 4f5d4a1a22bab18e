"""Bulk encoding when something fails: a passage, the encoder, the corpus, another writer; and what an interruption leaves."""

import numpy as np
import pytest

from ragvec.errors import RagvecError
from ragvec.shards import Shards, load_manifest, verify_shards
from tests.test_bulk import ROWS, HashEncoder, Vectors, contents, encode, expected, files, passages


def test_finished_parts_are_kept_when_the_passages_that_follow_fail(tmp_path):
    class Breaking(HashEncoder):
        def encode_counted(self, texts, **options):
            if any(int(text.split()[-1]) >= 40 for text in texts):
                raise RuntimeError("device-side assert")
            return super().encode_counted(texts, **options)

    with pytest.raises(RagvecError, match="32 passages in a row"):
        encode(passages(100), tmp_path / "s", Breaking(), part_rows=40)
    assert [part.rows for part in load_manifest(tmp_path / "s").parts] == [40]


def test_a_damaged_part_alone_is_encoded_again(tmp_path):
    encode(passages(35), tmp_path / "s")
    damaged = tmp_path / "s" / "part-00001.parquet"
    data = bytearray(damaged.read_bytes())
    data[100] ^= 1
    damaged.write_bytes(data)
    (tmp_path / "s" / "part-00002.parquet").unlink()
    assert verify_shards(tmp_path / "s") == [f"{damaged} is damaged", f"{tmp_path / 's' / 'part-00002.parquet'} is missing"]
    encoder = HashEncoder()
    report = encode(passages(35), tmp_path / "s", encoder)
    assert (report.damaged, report.encoded, report.kept) == (2, 20, 15)
    assert contents(tmp_path / "s") == expected(passages(35)) and verify_shards(tmp_path / "s") == []


def test_a_stopped_run_is_not_opened_and_goes_on(tmp_path):
    def stopping():
        yield from passages(25)
        raise RagvecError("corpus.jsonl, line 26: bad JSON")

    with pytest.raises(RagvecError, match="line 26"):
        encode(stopping(), tmp_path / "s")
    with pytest.raises(RagvecError, match=r"is not finished \(20 passages so far\): run the same"):
        Shards.open(tmp_path / "s")
    encoder = HashEncoder()
    report = encode(passages(25), tmp_path / "s", encoder)
    assert (report.kept, len(encoder.seen)) == (20, 5)
    assert contents(tmp_path / "s") == expected(passages(25))


def test_an_error_in_the_first_lines_leaves_no_trace(tmp_path):
    def broken():
        yield from passages(5)
        raise RagvecError("corpus.jsonl, line 6: bad JSON")

    for corpus, message in ((broken(), "line 6"), ([], "nothing to encode")):
        with pytest.raises(RagvecError, match=message):
            encode(corpus, tmp_path / "s")
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("attribute", "options", "message"),
    [
        ({"fingerprint": "cd" * 16}, {}, r"encoder hash \(fingerprint abababababab\), this run has hash \(fingerprint cdcdcd"),
        ({}, {"instruction": "find:"}, "instruction '', this run has 'find:'"),
        ({}, {"dtype": "float32"}, "dtype 'float16', this run has 'float32'"),
        ({}, {"normalize": False}, "normalized True, this run has False"),
    ],
)
def test_vectors_of_another_making_are_refused_until_overwritten(tmp_path, attribute, options, message):
    encode(passages(15), tmp_path / "s")
    before = contents(tmp_path / "s")
    other = HashEncoder()
    for name, value in attribute.items():
        setattr(other, name, value)
    with pytest.raises(RagvecError, match=f"{message}.*`overwrite`"):
        encode(passages(15), tmp_path / "s", other, **options)
    assert contents(tmp_path / "s") == before and other.seen == []
    report = encode(passages(5), tmp_path / "s", other, overwrite=True, **options)
    assert (report.encoded, files(tmp_path / "s")) == (5, ["manifest.json", "part-00000.parquet"])


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.docx").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(RagvecError, match="holds 'thesis.docx' and no shards"):
            encode(passages(5), tmp_path, overwrite=overwrite)
    with pytest.raises(RagvecError, match="is a file: name a folder"):
        encode(passages(5), tmp_path / "thesis.docx")
    assert files(tmp_path) == ["thesis.docx"]


def test_a_passage_that_fails_is_left_out_by_name_and_tried_again(tmp_path):
    corpus = passages(25)
    log = []
    report = encode(corpus, tmp_path / "s", HashEncoder(poison="text number 13"), log=log.append)
    assert (report.rows, report.encoded, report.failed, report.parts) == (24, 24, 1, 3)
    rest = [*corpus[:13], *corpus[14:]]
    assert contents(tmp_path / "s") == expected(rest)
    [failure] = load_manifest(tmp_path / "s").failed
    assert (failure.passage_id, failure.doc_id) == ("d13", "d13") and failure.error.startswith(
        "the encoder gave NaN or infinity"
    )
    assert [record["passage_id"] for record in log if record["event"] == "failed"] == ["d13"]
    encoder = HashEncoder()
    report = encode(corpus, tmp_path / "s", encoder)
    assert (encoder.seen, report.failed, report.rows) == (["text number 13"], 0, 25)
    assert contents(tmp_path / "s") == expected(corpus) and load_manifest(tmp_path / "s").failed == ()


@pytest.mark.parametrize("stream", [False, True])
def test_one_text_that_crashes_the_encoder_is_found_among_the_others(tmp_path, stream):
    class Crashing(HashEncoder):
        def encode_counted(self, texts, **options):
            if any(text in ("text number 3", "text number 17") for text in texts):
                raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
            return super().encode_counted(texts, **options)

    encoder = Crashing()
    if stream:
        encoder.encode_blocks = lambda blocks, **options: (encoder.encode_counted(block, **options) for block in blocks)
    report = encode(passages(25), tmp_path / "s", encoder)
    manifest = load_manifest(tmp_path / "s")
    assert [failure.passage_id for failure in manifest.failed] == ["d3", "d17"] and report.failed == 2
    assert "can't allocate memory" in manifest.failed[0].error
    assert contents(tmp_path / "s") == expected([p for p in passages(25) if p.passage_id not in ("d3", "d17")])


def test_an_encoder_that_fails_on_everything_stops_the_run(tmp_path):
    class Broken(HashEncoder):
        def encode_counted(self, texts, **options):
            raise RuntimeError("CUDA error: device-side assert triggered\nmore lines")

    with pytest.raises(
        RagvecError, match=r"32 passages in a row could not be .* 'd31': CUDA error: device-side assert triggered\."
    ):
        encode(passages(50), tmp_path / "s", Broken(), part_rows=50)
    with pytest.raises(RagvecError, match="no passage of this part could be encoded; the first, 'd0': CUDA error"):
        encode(passages(5), tmp_path / "s", Broken())
    assert encode(passages(50), tmp_path / "s").encoded == 50


def test_vectors_too_large_for_float16_are_refused(tmp_path):
    encoder = HashEncoder()
    encoder.encode_counted = lambda texts, **_: Vectors(
        np.full((len(texts), 8), 1e5, np.float32), np.ones(1), np.zeros(1, bool)
    )
    with pytest.raises(RagvecError, match="the first, 'd0': the vector is too large for float16: store float32"):
        encode(passages(1), tmp_path / "s", encoder)


def test_a_second_writer_is_refused(tmp_path):
    def slow():
        yield from passages(10)
        with pytest.raises(RagvecError, match="is being written by another run"):
            encode(passages(25), tmp_path / "s")
        yield from passages(15, first=10)

    encode(slow(), tmp_path / "s")
    assert contents(tmp_path / "s") == expected(passages(25))


def test_interrupted_while_a_changed_corpus_is_encoded_every_vector_is_still_found(tmp_path):
    """Stop at every write in turn: what was encoded once is never encoded again, whatever moved where."""
    corpus = passages(45)
    first, second = [*passages(1, first=100), *corpus], [*passages(1, first=101), *corpus[3:], *passages(2, first=102)]
    for stop in range(1, 12):
        folder = tmp_path / str(stop)
        encode(corpus, folder)
        with pytest.raises(KeyboardInterrupt):
            _encode_and_stop(first, folder, stop)
        encoder = HashEncoder()
        encode(second, folder, encoder)
        assert sorted(encoder.seen) == [f"text number {i}" for i in (101, 102, 103)], stop
        assert contents(folder) == expected(second) and not (folder / "previous").exists()


def test_interrupted_while_whole_parts_move_up_nothing_is_encoded_again(tmp_path):
    corpus = passages(45)
    for stop in range(1, 12):
        folder = tmp_path / str(stop)
        encode(corpus, folder)
        with pytest.raises(KeyboardInterrupt):
            _encode_and_stop(corpus[ROWS:], folder, stop)
        encoder = HashEncoder()
        encode(corpus[ROWS:], folder, encoder)
        assert encoder.seen == [], stop
        assert contents(folder) == expected(corpus[ROWS:])


def test_a_grown_corpus_is_not_complete_before_all_of_it_is_there(tmp_path):
    encode(passages(10), tmp_path / "s")

    def cut_off():
        yield from passages(25)
        raise RagvecError("corpus.jsonl is damaged")

    with pytest.raises(RagvecError, match="damaged"):
        encode(cut_off(), tmp_path / "s")
    with pytest.raises(RagvecError, match=r"not finished \(20 passages so far\)"):
        Shards.open(tmp_path / "s")


def _encode_and_stop(corpus, folder, stop):
    """Raise at the stop-th file that would be renamed into place."""
    import os

    real, calls = os.replace, []

    def replace(*names):
        calls.append(names)
        if len(calls) == stop:
            raise KeyboardInterrupt
        real(*names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        encode(corpus, folder)
        raise KeyboardInterrupt
