"""`ragvec encode`: what is skipped and what fails, standard input, passages, several processes, the log."""

import gzip
import io
import json
import sys

import numpy as np
import pytest

from ragvec.shards import Shards, load_manifest
from tests.test_cli_encode import ragvec, vectors

ROWS = [{"_id": f"d{i}", "text": f"plant number {i} makes food. 서울은 수도이다. " * (1 + i % 3)} for i in range(20)]


def lines(rows) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(lines(ROWS))
    return path


def test_unreadable_rows_stop_the_run_or_are_skipped_and_kept(capsys, tmp_path, tiny_decoder):
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(lines(ROWS[:3]) + b"{broken\n" + lines(ROWS[3:5]) + b'{"_id": "x"}\n')
    command = ["encode", bad, "-o", tmp_path / "s", "-e", tiny_decoder]
    code, out, err = ragvec(capsys, *command)
    assert (code, out) == (1, "") and err.startswith(f"error: {bad}, line 4: bad JSON") and err.count("\n") == 1
    assert err.endswith(": mend it, or leave such rows out (--on-error skip)\n")
    code, out, err = ragvec(capsys, *command, "--on-error", "skip")
    assert (code, json.loads(out)["rows"]) == (0, 5)
    kept = tmp_path / "s.quarantine.jsonl"
    assert err == f"2 rows could not be read and were skipped: see {kept}\n"
    assert [json.loads(line)["place"] for line in kept.read_text().splitlines()] == [f"{bad}, line 4", f"{bad}, line 7"]
    code, _, err = ragvec(capsys, *command, "--on-error", "skip", "--quarantine", tmp_path / "q.jsonl")
    assert code == 0 and len((tmp_path / "q.jsonl").read_text().splitlines()) == 2


def test_passages_that_cannot_be_encoded_are_named_and_the_exit_code_says_so(
    capsys, tmp_path, tiny_decoder, corpus, monkeypatch
):
    from ragvec.encoder import encoder as module

    real = module.Encoder.encode_blocks

    def encode_blocks(self, blocks, **options):
        blocks = [list(texts) for texts in blocks]
        for texts, encoded in zip(blocks, real(self, blocks, **options), strict=True):
            encoded.vectors[["number 7 " in text for text in texts]] = np.nan
            yield encoded

    monkeypatch.setattr(module.Encoder, "encode_blocks", encode_blocks)
    code, out, err = ragvec(capsys, "encode", corpus, "-o", tmp_path / "s", "-e", tiny_decoder)
    assert (code, json.loads(out)["rows"], json.loads(out)["failed"]) == (1, 19, 1)
    first, last = err.splitlines()
    assert first.startswith("not encoded: passage 'd7': the encoder gave NaN or infinity")
    assert last == "error: 1 passages could not be encoded and were left out; the next run tries them again"
    monkeypatch.undo()
    code, out, _ = ragvec(capsys, "encode", corpus, "-o", tmp_path / "s", "-e", tiny_decoder)
    assert (code, json.loads(out)["rows"], json.loads(out)["encoded"]) == (0, 20, 1)


def test_standard_input_and_compressed_files_give_the_same_shards(capsys, tmp_path, tiny_decoder, corpus, monkeypatch):
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(corpus.read_bytes()))
    (tmp_path / "beir").mkdir()
    (tmp_path / "beir" / "corpus.jsonl").write_bytes(corpus.read_bytes())
    (tmp_path / "beir" / "queries.jsonl").write_text('{"_id": "q", "text": "a"}\n')
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": io.BytesIO(corpus.read_bytes())}))
    found = []
    for source in ("-", packed, tmp_path / "beir"):
        out = tmp_path / f"s{len(found)}"
        assert ragvec(capsys, "encode", source, "-o", out, "-e", tiny_decoder)[0] == 0
        found.append(vectors(out))
    assert all(np.array_equal(found[0], other) for other in found[1:]) and len(found[0]) == 20
    code, _, err = ragvec(capsys, "encode", "-", "-o", tmp_path / "x", "-e", tiny_decoder, "--processes", 2)
    assert (code, err) == (
        2,
        "error: standard input can't be read by several processes: save it to a file, or use --processes 1\n",
    )


def test_passages_by_tokens(capsys, tmp_path, tiny_decoder, corpus):
    command = ["encode", corpus, "-e", tiny_decoder, "--max-length", 64]
    code, out, _ = ragvec(capsys, *command, "-o", tmp_path / "s", "--passage-tokens", 40, "--overlap", 5)
    report = json.loads(out)
    assert code == 0 and report["rows"] > 20 and report["truncated"] == 0
    ids = [passage.passage_id for block, _ in Shards.open(tmp_path / "s").blocks() for passage in block]
    assert ids[0] == "d0#0" and len(set(ids)) == len(ids)
    code, _, err = ragvec(capsys, *command, "-o", tmp_path / "t", "--passage-tokens", 80)
    assert code == 2 and err.startswith(
        "error: passages of 80 tokens, but the encoder reads 63 of a text: choose --passage-tokens"
    )
    code, _, err = ragvec(capsys, *command, "-o", tmp_path / "t", "--overlap", 5)
    assert (code, err) == (2, "error: an overlap needs a length of passages: give --passage-tokens too\n")


def test_other_ways_to_store_vectors_say_what_they_cost(capsys, tmp_path, tiny_decoder, corpus):
    many = tmp_path / "many.jsonl"
    many.write_bytes(lines({"_id": str(i), "text": f"{i * 7919 % 1000} text"} for i in range(200)))
    exact = None
    for dtype, least in (("float32", None), ("float16", 0.97), ("int8", 0.8), ("binary", 0.1)):
        words = ["encode", many, "-o", tmp_path / dtype, "-e", tiny_decoder, "--vector-dtype", dtype, "--format", "table"]
        code, out, _ = ragvec(capsys, *words, "--truncate-dim", 16)
        assert code == 0 and ("recall@10" in out) == (least is not None)
        exact = vectors(tmp_path / dtype) if exact is None else exact
        recall = load_manifest(tmp_path / dtype).recall
        assert exact.shape == vectors(tmp_path / dtype).shape == (200, 16)
        assert recall is None or least < recall <= 1
    assert np.abs(vectors(tmp_path / "int8") - exact).max() < 0.01


def test_ranks_and_processes_make_the_shards_of_one(capsys, tmp_path, tiny_decoder, corpus, monkeypatch):
    command = ["encode", corpus, "-e", tiny_decoder, "--part-rows", 3, "--dtype", "float32", "--device", "cpu"]
    assert ragvec(capsys, *command, "-o", tmp_path / "one")[0] == 0
    for rank in (2, 0, 1):
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
        code, out, _ = ragvec(capsys, *command, "-o", tmp_path / "ranks")
        assert (code, json.loads(out)["complete"]) == (0, rank == 1)
    monkeypatch.delenv("SLURM_PROCID")
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS")
    monkeypatch.setattr(sys, "argv", ["pytest", "of", "another", "program"])  # the processes get main's own words
    code, out, _ = ragvec(capsys, *command, "--processes", 2, "-o", tmp_path / "two")
    report = json.loads(out)
    assert (code, report["rows"], report["encoded"], report["complete"]) == (0, 20, 20, True)
    for other in ("ranks", "two"):
        assert np.array_equal(vectors(tmp_path / "one"), vectors(tmp_path / other))
        assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(p.name for p in (tmp_path / other).iterdir())
    code, _, err = ragvec(capsys, *command, "-o", tmp_path / "r", "--rank", 3, "--world-size", 3)
    assert (code, err) == (2, "error: rank 3 of 3: ranks count from 0 to the world size less 1\n")


def test_the_log_is_json_lines(capsys, tmp_path, tiny_decoder, corpus):
    for _ in range(2):
        words = ["encode", corpus, "-o", tmp_path / "s", "-e", tiny_decoder, "--log-json", tmp_path / "log"]
        assert ragvec(capsys, *words)[0] == 0
    first, second = (json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
    assert (first["event"], first["rank"], first["encoded"], first["total"], first["kept"]) == ("end", 0, 20, 20, 0)
    assert first["tokens_per_s"] > 0 and 0 < first["peak_share"] < 1 and first["failed"] == first["truncated"] == 0
    assert (second["encoded"], second["kept"]) == (0, 20)
    assert ragvec(capsys, *words[:-1], tmp_path / "s") == (
        1,
        "",
        f"error: {tmp_path / 's'} cannot be written: Is a directory\n",
    )
