"""`ragvec encode` from the outside, with a real encoder: output, exit codes, error lines, kills."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ragvec.cli.corpus_options import CUT_HINT
from ragvec.cli.main import main
from ragvec.corpus import read_documents, to_passages
from ragvec.shards import Shards, load_manifest

TEXTS = ["plants make food from light", "서울은 대한민국의 수도이다.", "", "東京は日本の首都です。", "word " * 300, "🌱 " * 10]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    rows = [{"_id": f"d{i}", "title": f"t{i}" if i % 2 else "", "text": text, "n": i} for i, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def ragvec(capsys, *words) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


def vectors(folder: Path) -> np.ndarray:
    return np.concatenate([block for _, block in Shards.open(folder).blocks()])


def test_a_corpus_is_encoded_and_encoded_again_for_nothing(capsys, tmp_path, tiny_decoder, corpus):
    from ragvec import Encoder

    command = ["encode", corpus, "-o", tmp_path / "s", "-e", tiny_decoder, "--max-length", 100, "--device", "cpu"]
    code, out, err = ragvec(capsys, *command, "--format", "table")
    manifest = load_manifest(tmp_path / "s")
    expected = f"{tmp_path / 's'}: 6 passages, {manifest.tokens:,} tokens, 1 truncated ({CUT_HINT}), in "
    assert (code, out[: len(expected)], out[-3:], err) == (0, expected, " s\n", "")
    passages = list(to_passages(read_documents(corpus)))
    encoder = Encoder.load(tiny_decoder, max_length=100, device="cpu")
    encoded = encoder.encode_counted([passage.encoded_text for passage in passages], instruction="")
    assert [passage for block, _ in Shards.open(tmp_path / "s").blocks() for passage in block] == passages
    assert np.array_equal(vectors(tmp_path / "s"), encoded.vectors.astype(np.float16))
    assert (manifest.tokens, manifest.fingerprint) == (encoded.token_counts.sum(), encoder.fingerprint)
    assert [(item.path, item.bytes) for item in manifest.inputs] == [(str(corpus), corpus.stat().st_size)]
    code, out, _ = ragvec(capsys, *command)
    assert json.loads(out) | {"seconds": 0, "bytes": 0} == {
        "folder": str(tmp_path / "s"), "rows": 6, "tokens": manifest.tokens, "truncated": 1, "encoded": 0, "reused": 0,
        "kept": 6, "damaged": 0, "failed": 0, "parts": 1, "bytes": 0, "recall": None, "complete": True, "seconds": 0,
    }  # fmt: skip


def test_options_reach_the_vectors(capsys, tmp_path, tiny_decoder, corpus):
    from ragvec import Encoder

    options = ["--vector-dtype", "float32", "--no-normalize", "--instruction", "find:", "--part-rows", 4, "--batch-tokens", 64]
    code, _, _ = ragvec(capsys, "encode", corpus, "-o", tmp_path / "s", "-e", tiny_decoder, "--dtype", "float32", *options)
    manifest = load_manifest(tmp_path / "s")
    assert (code, manifest.dtype, manifest.normalized, manifest.instruction) == (0, "float32", False, "find:")
    assert [part.rows for part in manifest.parts] == [4, 2]
    texts = [passage.encoded_text for passage in to_passages(read_documents(corpus))]
    wanted = Encoder.load(tiny_decoder, dtype="float32").encode_documents(texts, instruction="find:", normalize=False)
    assert np.abs(vectors(tmp_path / "s") - wanted).max() < 1e-5 < np.abs(np.linalg.norm(wanted, axis=1) - 1).min()


def test_another_encoder_is_refused_with_the_remedy(capsys, tmp_path, tiny_decoder, corpus):
    command = ["encode", corpus, "-o", tmp_path / "s", "-e", tiny_decoder]
    assert ragvec(capsys, *command)[0] == 0
    code, out, err = ragvec(capsys, *command, "--max-length", 50)
    assert (code, out) == (1, "") and err.startswith(f"error: {tmp_path / 's'} holds vectors made with encoder {tiny_decoder}")
    assert err.endswith("write to another folder, or replace them with --overwrite\n") and err.count("\n") == 1
    assert ragvec(capsys, *command, "--max-length", 50, "--overwrite")[0] == 0


def test_wrong_input_is_one_line_and_leaves_nothing_behind(capsys, tmp_path, tiny_decoder, corpus):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"_id": "1", "text": "a"}\n{"_id": "2", "txt": "b"}\n')
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    cases = [
        ([bad], f"error: {bad}, line 2: no text field (looked for text, contents, content, body); fields seen: _id, txt\n"),
        ([empty], f"error: {empty} holds no documents\n"),
        ([tmp_path / "no"], f"error: {tmp_path / 'no'} does not exist: name a file, a folder, or - for standard input\n"),
    ]
    for words, message in cases:
        code, out, err = ragvec(capsys, "encode", *words, "-o", tmp_path / "s", "-e", tiny_decoder)
        assert (code, out, err) == (1, "", message)
        assert not (tmp_path / "s").exists()
    assert ragvec(capsys, "encode", corpus)[0] == 2
    assert ragvec(capsys, "encode", corpus, "-o", tmp_path / "s", "--vector-dtype", "int3")[0] == 2
    code, _, err = ragvec(capsys, "encode", corpus, "-o", corpus, "-e", tiny_decoder)
    assert (code, err) == (1, f"error: {corpus} is a file: name a folder for the shards\n")
    assert ragvec(capsys, "encode", corpus, "-o", tmp_path / "s", "-e", tmp_path / "no-model")[0] == 1


def test_files_that_are_passed_over_are_named(capsys, tmp_path, tiny_decoder, corpus):
    (tmp_path / "photo.png").write_bytes(b"x")
    code, out, err = ragvec(capsys, "encode", tmp_path, "-o", tmp_path / "s", "-e", tiny_decoder)
    assert (code, json.loads(out)["rows"]) == (0, 6)
    assert err == f"passed over 1 that hold no documents: {tmp_path / 'photo.png'}\n"
    code, out, _ = ragvec(capsys, "encode", tmp_path, "-o", tmp_path / "s", "-e", tiny_decoder)
    assert (code, json.loads(out)["kept"]) == (0, 6)  # its own output is no part of the corpus


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from ragvec.ingest import encode_corpus
from ragvec.corpus import read_documents, to_passages
from ragvec.encoder import Encoder

encoder_path, corpus, killed, whole, kills = sys.argv[1:]
encoder = Encoder.load(encoder_path, device="cpu", dtype="float32")
rng = random.Random(int(kills))


def encode(folder):
    child = os.fork()  # torch is imported once, and each run still dies as a process does
    if child == 0:
        encode_corpus(to_passages(read_documents(corpus)), encoder, folder, part_rows=16)
        os._exit(0)
    return child


def parts(folder):
    return len(list(Path(folder).glob("part-*.parquet")))


for _ in range(int(kills)):
    before, child = parts(killed), encode(killed)
    while parts(killed) == before and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
for folder in (killed, whole):
    assert os.waitpid(encode(folder), 0)[1] == 0
"""


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_the_shards_equal_an_uninterrupted_run(tmp_path, tiny_decoder, kills):
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"_id": f"d{i}", "text": TEXTS[i % 5] + f" number {i}"} for i in range(16 * (kills + 15))]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    arguments = [str(word) for word in (tiny_decoder, corpus, killed, whole, kills)]
    subprocess.run([sys.executable, "-c", KILLER, *arguments], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    blocks = [list(Shards.open(folder).blocks()) for folder in (killed, whole)]
    assert [passages for passages, _ in blocks[0]] == [passages for passages, _ in blocks[1]]
    assert np.array_equal(vectors(killed), vectors(whole))
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
