"""The doctor: healthy things are ok, and each fault that is put in is found, with what to do."""

import json
import os
import random
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from ragvec.cli.main import main
from ragvec.doctor import FAILED, OK, examine
from ragvec.doctor.check import ADVICE
from ragvec.doctor.encoder import examine_loaded
from ragvec.doctor.index import examine_index
from ragvec.doctor.machine import _threads
from ragvec.doctor.shards import count_faults, examine_shards
from ragvec.encoder import Encoder
from ragvec.index import Index, IndexSettings
from ragvec.index.changes import Changes
from ragvec.ingest import encode_corpus
from ragvec.records import Document, Passage

DOCUMENTS = [Document(f"d{number}", f"text number {number} about foxes and plants") for number in range(12)]


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder, dtype="float32")


@pytest.fixture
def shards(encoder: Encoder, tmp_path: Path) -> Path:
    encode_corpus(passages(DOCUMENTS), encoder, tmp_path / "shards", part_rows=5)
    return tmp_path / "shards"


@pytest.fixture
def index(encoder: Encoder, tmp_path: Path) -> Path:
    with Index.create(tmp_path / "index", encoder=encoder) as made:
        made.add(DOCUMENTS)
    return tmp_path / "index"


def passages(documents) -> list[Passage]:
    return [Passage(document.doc_id, document.doc_id, document.text) for document in documents]


def states(checks) -> dict[str, str]:
    """Each check's state, by area and name."""
    return {f"{check.area} {check.name}": check.state for check in checks}


def test_a_sound_encoder_passes_everything(encoder, tiny_decoder):
    found = states(examine(str(tiny_decoder), dtype="float32"))
    names = ("loads", "bidirectional", "padding", "packing", "vectors", "batches", "precision")
    assert {name: found[f"encoder {name}"] for name in names} == dict.fromkeys(names, OK)
    assert found["machine versions"] == OK


def test_bfloat16_is_measured_against_float32(tiny_decoder):
    checks = {check.name: check for check in examine_loaded(Encoder.load(tiny_decoder, dtype="bfloat16"))}
    assert checks["precision"].found.startswith("bfloat16 against float32: cosine ≥ 0.99")


def test_an_encoder_that_stayed_causal_is_found(tiny_decoder):
    from dataclasses import replace

    causal = Encoder.load(tiny_decoder, attention="causal", dtype="float32")
    assert states(examine_loaded(causal))["encoder causal"] == OK
    causal.settings = replace(causal.settings, attention="bidirectional")
    checks = {check.name: check for check in examine_loaded(causal)}
    assert checks["bidirectional"].state == FAILED and "ragvec convert" in checks["bidirectional"].remedy


def test_broken_weights_are_found(tiny_decoder):
    import torch

    broken = Encoder.load(tiny_decoder, dtype="float32")
    with torch.no_grad():
        next(broken.model.parameters())[:] = float("nan")
    assert states(examine_loaded(broken))["encoder vectors"] == FAILED


def test_a_path_that_is_nothing_is_one_failed_line(tmp_path):
    (tmp_path / "file").write_text("x")
    for path, message in ((tmp_path, "holds no encoder (config.json), shards"), (tmp_path / "file", "is a file")):
        (last,) = [check for check in examine(str(path)) if check.area == "path"]
        assert last.state == FAILED and message in last.found and last.remedy.startswith("name the folder")
    (last,) = [check for check in examine(str(tmp_path / "absent")) if check.area == "encoder"]
    assert last.state == FAILED and last.found.endswith("check the path")


def test_sound_shards_pass(shards):
    assert set(states(examine_shards(shards)).values()) == {OK}


def test_damaged_shards_are_found(shards):
    part = shards / "part-00001.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 255
    part.write_bytes(bytes(data))
    checks = {check.name: check for check in examine_shards(shards)}
    assert checks["checksums"].state == FAILED and "part-00001.parquet" in checks["checksums"].found
    assert "vectors" not in checks, "damaged parts are not read further"


def test_duplicates_and_truncation_are_advice(encoder, tmp_path):
    long = "a fox " * 3000
    same = [Document("a", long), Document("b", long), Document("c", "short")]
    encode_corpus(passages(same), encoder, tmp_path / "shards")
    found = states(examine_shards(tmp_path / "shards"))
    assert (found["shards duplicates"], found["shards truncation"], found["shards ids"]) == (ADVICE, ADVICE, OK)


def test_unfinished_shards_are_found(shards):
    manifest = json.loads((shards / "manifest.json").read_text())
    (shards / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    assert states(examine_shards(shards))["shards complete"] == FAILED
    (shards / "manifest.json").write_text("{")
    assert states(examine_shards(shards)) == {"shards manifest": FAILED}


def test_faults_of_vectors_are_counted():
    rows = np.array([[1, 0], [0, 0], [np.nan, 1], [np.inf, 0], [0.5, 0]], dtype=np.float16)
    assert count_faults(rows) == (2, 1, 1)


def test_a_sound_index_passes_with_its_encoder(index):
    found = states(examine(index))
    assert {name: state for name, state in found.items() if name.startswith(("index", "encoder"))}.keys() >= {
        "index database", "index checksums", "index vectors", "index recall", "index orphans", "index fingerprint",
        "encoder bidirectional",
    }  # fmt: skip
    assert not [name for name, state in found.items() if state == FAILED]


def test_faults_of_an_index_are_found(index, capsys):
    vectors = next(index.glob("segments/*/vectors.f16"))
    data = np.fromfile(vectors, np.float16)
    data[0] = np.nan
    data.tofile(vectors)
    (index / "segments" / "0099").mkdir()
    with sqlite3.connect(index / "index.sqlite") as connection:
        connection.execute("DELETE FROM passages WHERE id = 3")
    connection.close()
    found = states(examine(index))
    wrong = {name for name, state in found.items() if name.startswith("index") and state != OK}
    assert wrong == {"index database", "index words", "index checksums", "index vectors", "index orphans"}
    assert found["index orphans"] == ADVICE


def test_a_flipped_bit_is_found_in_any_file(tmp_path):
    dice = random.Random(5)
    vectors = np.random.default_rng(0).standard_normal((1200, 16)).astype(np.float32)
    settings = IndexSettings("nowhere", "0", 16, faiss_key="IVF8,SQ8", normalized=False)
    with Index.create_with(tmp_path / "index", settings) as made, made.writing() as writer:
        rows = [Passage(str(row), str(row), f"a word and another, {row}.") for row in range(1200)]
        writer.commit([(rows, vectors)], Changes(writer.connection))
    files = sorted((tmp_path / "index" / "segments" / "0001").iterdir())
    assert [file.name for file in files] == ["ids.i64", "index.faiss", "vectors.f16"]

    def judged(name):
        return next(check for check in examine_index(tmp_path / "index") if check.name == name)

    for file in files * 3:
        whole = file.read_bytes()
        place, bit = dice.randrange(len(whole)), 1 << dice.randrange(8)
        file.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        assert judged("checksums")[2:4] == (FAILED, f"damaged: {file}")
        file.write_bytes(whole)
    database = tmp_path / "index" / "index.sqlite"
    database.write_bytes(database.read_bytes().replace(b"another, 1077.", b"anothes, 1077."))
    assert judged("texts")[2:4] == (FAILED, "1 passages differ from what was added, such as '1077'")
    assert judged("checksums").state == OK


def test_words_that_were_lost_are_found(index):
    with Index.open(index) as opened:
        opened.delete(["d5"])
    assert states(examine(index))["index words"] == OK
    with sqlite3.connect(index / "index.sqlite") as connection:
        connection.execute("UPDATE settings SET value = '{}' WHERE key = 'words'")
    connection.close()
    (found,) = [check for check in examine(index) if check.name == "words"]
    assert (found.state, found.found) == (FAILED, "0 of 11 passages can be searched by words")


def test_an_index_whose_encoder_is_gone_says_so(index, encoder):
    with sqlite3.connect(index / "index.sqlite") as connection:
        connection.execute("UPDATE settings SET value = '\"/nowhere/at-all\"' WHERE key = 'encoder_source'")
    connection.close()
    checks = {check.name: check for check in examine(index) if check.area == "index"}
    assert checks["fingerprint"].state == FAILED and "bring the encoder back" in checks["fingerprint"].remedy


def test_threads_that_do_not_fit_the_processors_are_advice():
    assert _threads(4, 4).state == OK
    assert (_threads(1, 8).state, _threads(8, 2).state) == (ADVICE, ADVICE)
    assert "OMP_NUM_THREADS to 2" in _threads(8, 2).remedy


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_the_command_prints_a_line_each_and_fails_with_a_failure(shards, capsys, words):
    assert run(str(shards), *words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list(examine(shards)))
    if words:
        assert json.loads(lines[-1]).keys() == {"area", "name", "state", "found", "remedy"}
    else:
        assert all(line.split()[0] in (OK, ADVICE) for line in lines)
    os.remove(shards / "part-00000.parquet")
    assert run(str(shards), *words) == 1
    assert "part-00000.parquet is missing" in capsys.readouterr().out


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *words])
    return ended.value.code or 0
