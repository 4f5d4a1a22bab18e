"""Bulk encoding: what lands on disk, what a changed corpus costs, and that no kill loses or doubles anything."""

import hashlib
import random
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ragvec.corpus.ahead import Ahead as AheadOf
from ragvec.encoder.settings import EncoderSettings
from ragvec.ingest.blocks import _Numbered
from ragvec.ingest.encode import cut_parts, encode_corpus
from ragvec.records import Passage
from ragvec.shards import Shards, load_manifest, verify_shards

ROWS = 10
DIMENSION = 8


class Vectors(NamedTuple):
    vectors: np.ndarray
    token_counts: np.ndarray
    truncated: np.ndarray


class HashEncoder:
    """A vector from each text's hash, a token per word, truncation beyond 20 words; it remembers what it was asked."""

    dimension, fingerprint, source = DIMENSION, "ab" * 16, "hash"
    settings = EncoderSettings()

    def __init__(self, *, poison: str | None = None) -> None:
        self.seen: list[str] = []
        self.poison = poison

    def encode_counted(self, texts, *, instruction, normalize=True):
        self.seen += texts
        rows = [np.frombuffer(hashlib.blake2b(text.encode(), digest_size=DIMENSION).digest(), np.uint8) + 1.0 for text in texts]
        vectors = np.stack(rows).astype(np.float32)
        if normalize:
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[[text == self.poison for text in texts]] = np.nan
        counts = np.array([len(text.split()) for text in texts])
        return Vectors(vectors, np.minimum(counts, 20), counts > 20)


class Stops(HashEncoder):
    """Gives up after so many texts, as a machine does."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def encode_counted(self, texts, **options):
        if len(self.seen) >= self.after:
            raise KeyboardInterrupt
        return super().encode_counted(texts, **options)


def passages(count: int, *, first: int = 0) -> list[Passage]:
    return [Passage(f"d{i}", f"d{i}", f"text number {i}", metadata={"n": i}) for i in range(first, first + count)]


def encode(corpus, folder, encoder=None, **options):
    return encode_corpus(corpus, encoder or HashEncoder(), folder, **{"part_rows": ROWS, **options})


def contents(folder) -> list[tuple[Passage, bytes]]:
    return [(p, v.tobytes()) for block, vectors in Shards.open(folder).blocks(7) for p, v in zip(block, vectors, strict=True)]


def expected(corpus) -> list[tuple[Passage, bytes]]:
    vectors = HashEncoder().encode_counted([p.encoded_text for p in corpus], instruction="").vectors.astype(np.float16)
    return [(p, v.tobytes()) for p, v in zip(corpus, vectors, strict=True)]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_corpus_becomes_parts_and_a_complete_manifest(tmp_path):
    corpus = [*passages(24), Passage("long", "long", "word " * 30, title="a title")]
    report = encode(corpus, tmp_path / "s")
    assert (report.rows, report.encoded, report.reused, report.kept, report.parts) == (25, 25, 0, 0, 3)
    assert (report.tokens, report.truncated) == (24 * 3 + 20, 1)
    assert files(tmp_path / "s") == ["manifest.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert contents(tmp_path / "s") == expected(corpus)
    manifest = load_manifest(tmp_path / "s")
    assert manifest.complete and [part.rows for part in manifest.parts] == [10, 10, 5]
    assert (manifest.fingerprint, manifest.dimension, manifest.dtype, manifest.normalized) == ("ab" * 16, 8, "float16", True)
    assert verify_shards(tmp_path / "s") == []


def test_the_same_run_again_encodes_nothing_and_leaves_the_files_alone(tmp_path):
    encode(passages(25), tmp_path / "s")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s").iterdir()}
    encoder = HashEncoder()
    report = encode(passages(25), tmp_path / "s", encoder)
    assert (report.kept, report.encoded, encoder.seen) == (25, 0, [])
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s").iterdir()} == before


CHANGES = {
    "one text in the middle": (lambda c: [*c[:15], Passage("d15", "d15", "new"), *c[16:]], ["new"]),
    "one put in front": (lambda c: [Passage("new", "new", "new"), *c], ["new"]),
    "one removed from the front": (lambda c: c[1:], []),
    "a whole part removed": (lambda c: c[10:], []),
    "the end removed": (lambda c: c[:10], []),
    "reversed": (lambda c: c[::-1], []),
    "only metadata": (lambda c: [Passage("d0", "d0", c[0].text, metadata={"n": "other"}), *c[1:]], []),
    "appended": (lambda c: [*c, Passage("new", "new", "new")], ["new"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_corpus_encodes_only_what_changed(tmp_path, name):
    change, new = CHANGES[name]
    corpus = passages(35)
    encode(corpus, tmp_path / "s")
    changed = change(corpus)
    encoder = HashEncoder()
    report = encode(changed, tmp_path / "s", encoder)
    assert encoder.seen == new
    assert contents(tmp_path / "s") == expected(changed)
    assert report.encoded + report.reused + report.kept == report.rows == len(changed)
    assert files(tmp_path / "s") == ["manifest.json", *(f"part-{i:05d}.parquet" for i in range(report.parts))]
    assert report.tokens == encode(changed, tmp_path / "fresh").tokens


def test_parts_that_are_taken_back_wait_for_those_before_them_that_are_computed(tmp_path):
    """The encoder reads ahead: what comes later is decided on while the first part has no vectors yet."""

    class Ahead(HashEncoder):
        def encode_blocks(self, blocks, **options):
            for block in list(blocks):
                yield self.encode_counted(block, **options)

    corpus = passages(30)
    encode(corpus, tmp_path / "s")
    grown = [*passages(10, first=100), *corpus, *passages(5, first=200)]
    report = encode(grown, tmp_path / "s", Ahead())
    assert (report.encoded, report.reused, report.parts) == (15, 30, 5)
    assert contents(tmp_path / "s") == expected(grown)
    assert [part.name for part in load_manifest(tmp_path / "s").parts] == [f"part-{n:05d}.parquet" for n in range(5)]


def reading(numbered, read):
    """A thread that reads on in `numbered`, and waits there for what comes next."""
    thread = threading.Thread(target=read)
    thread.start()
    while not numbered._is_reading:
        time.sleep(0.001)
    return thread


def test_what_is_read_can_be_had_while_the_next_is_waited_for():
    """The reader may wait for room, which comes only once the blocks before are taken: no lock may lie between."""
    room = threading.Event()

    def items():
        yield "first"
        assert room.wait(20)
        yield "second"

    numbered = _Numbered(items())
    assert numbered.get(0) == "first"
    found = []
    reader = reading(numbered, lambda: found.append(numbered.get(1)))
    asked = threading.Thread(target=lambda: found.append(numbered.get(0)), daemon=True)
    asked.start()
    asked.join(5)
    assert found == ["first"]
    room.set()
    reader.join()
    assert found == ["first", "second"] and numbered.get(2) is None


def test_what_is_waited_for_can_be_had_though_its_reader_reads_on():
    """As the encoder's thread does, which goes on at once; the item was not there when it was asked for."""
    begun, room = threading.Event(), threading.Event()

    def items():
        assert begun.wait(20)
        yield "first"
        assert room.wait(20)
        yield "second"

    numbered = _Numbered(items())
    read, found = [], []
    reader = reading(numbered, lambda: read.extend(numbered.since(0)))
    asked = threading.Thread(target=lambda: found.append(numbered.get(0)), daemon=True)
    asked.start()
    time.sleep(0.2)
    begun.set()
    asked.join(5)
    assert found == ["first"]
    room.set()
    reader.join()
    assert read == ["first", "second"]


def test_many_small_parts_are_read_ahead_without_a_standstill(tmp_path):
    """The texts are read by a thread that waits for room all the time."""

    class Threaded(HashEncoder):
        def encode_blocks(self, blocks, **options):
            with AheadOf(blocks, "tokenize", 2) as ahead:
                for block in ahead:
                    yield self.encode_counted(block, **options)

    for turn in range(5):
        assert encode(passages(60), tmp_path / str(turn), Threaded(), part_rows=2).parts == 30
    assert contents(tmp_path / "0") == expected(passages(60))


def test_other_part_sizes_move_vectors_and_encode_nothing(tmp_path):
    encode(passages(35), tmp_path / "s")
    encoder = HashEncoder()
    report = encode(passages(35), tmp_path / "s", encoder, part_rows=7)
    assert (encoder.seen, report.reused, report.parts) == ([], 35, 5)
    assert contents(tmp_path / "s") == expected(passages(35))


def test_parts_end_at_the_row_limit_and_at_the_character_limit():
    corpus = [Passage(str(i), str(i), "x" * size) for i, size in enumerate([1, 1, 1, 50, 1, 60, 1])]
    assert [len(part) for part in cut_parts(corpus, 3, 50)] == [3, 1, 2, 1]


def test_a_hundredth_changed_costs_a_hundredth(tmp_path):
    corpus = passages(1000)
    encode(corpus, tmp_path / "s", part_rows=64)
    rng = random.Random(0)
    edited, deleted = set(rng.sample(range(1000), 10)), set(rng.sample(range(1000), 50))
    changed = [
        Passage(p.passage_id, p.doc_id, p.text + "!") if row in edited else p
        for row, p in enumerate(corpus)
        if row not in deleted
    ]
    fresh = {p.text for p in changed} - {p.text for p in corpus}
    encoder = HashEncoder()
    report = encode(changed, tmp_path / "s", encoder, part_rows=64)
    assert set(encoder.seen) == fresh and report.encoded == len(fresh) <= 10 and report.rows == 950
    assert contents(tmp_path / "s") == expected(changed)
