"""Several writers of one corpus over object storage: they share its parts, and take over what a lost one has left."""

import json
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from ragvec.ingest import Rank, bucket_shelf, in_turns
from ragvec.ingest.claims import Claims
from ragvec.objects import Bucket
from ragvec.shards import content_digest, manifest_at, verify_shards
from ragvec.shards.stored import CLAIMS, WRITERS, claim_name
from tests.test_bulk import HashEncoder, contents, encode, expected, passages
from tests.test_objects import BOTH, place, port  # noqa: F401 - fixtures

ROOT = Path(__file__).resolve().parent.parent
EXPIRY_S = 4.0


class InStep(HashEncoder):
    """Encodes its first texts only when others do, too."""

    def __init__(self, others: threading.Barrier) -> None:
        super().__init__()
        self._others = others

    def encode_counted(self, texts, **options):
        if not self.seen:
            self._others.wait(300)
        return super().encode_counted(texts, **options)


@pytest.fixture
def soon(monkeypatch):
    """Claims expire soon."""
    monkeypatch.setattr(bucket_shelf, "Claims", partial(Claims, expiry_s=EXPIRY_S))


def writing(corpus, place, encoder, rank=Rank()):  # noqa: B008 - a tuple
    return in_turns(lambda rank, *, first: encode(corpus, place, encoder, rank=rank), rank)


@BOTH
def test_two_writers_in_step_encode_each_part_once(place):
    corpus = passages(200)
    others, reports = threading.Barrier(2), []
    encoders = [InStep(others), InStep(others)]

    def run(encoder):
        reports.append(writing(corpus, place, encoder))

    threads = [threading.Thread(target=run, args=(encoder,)) for encoder in encoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(encoders[0].seen + encoders[1].seen) == sorted(passage.text for passage in corpus)
    assert min(len(encoder.seen) for encoder in encoders) >= 10
    assert [report.complete for report in reports] == [True, True] and sum(report.encoded for report in reports) == 200
    assert contents(place) == expected(corpus) and verify_shards(place) == []
    assert [*Bucket(place).names(CLAIMS), *Bucket(place).names(WRITERS)] == []


WRITER = """
import os, sys, threading, time
from ragvec.ingest import claims
from tests.test_bulk import HashEncoder, encode, passages

place, elsewhere = sys.argv[1:]
if elsewhere:
    claims.HERE = "elsewhere"


class Stuck(HashEncoder):
    def encode_counted(self, texts, **options):
        if len(self.seen) >= 40:
            print("stuck", flush=True)
            time.sleep(600)
        return super().encode_counted(texts, **options)


encode(passages(200), place, Stuck())
"""


@BOTH
@pytest.mark.parametrize("elsewhere", ["", "yes"], ids=["here", "elsewhere"])
def test_what_a_killed_writer_had_claimed_another_finishes(place, soon, elsewhere):
    with subprocess.Popen([sys.executable, "-c", WRITER, place, elsewhere], cwd=ROOT, stdout=subprocess.PIPE) as lost:
        assert lost.stdout.readline() == b"stuck\n"
        lost.send_signal(signal.SIGKILL)
    assert len(Bucket(place).names(CLAIMS)) > 4 and len(Bucket(place).names(WRITERS)) == 1
    encoder = HashEncoder()
    report = writing(passages(200), place, encoder)
    assert (report.complete, report.kept + report.encoded, report.rows) == (True, 200, 200) and report.kept >= 10
    assert len(encoder.seen) == len(set(encoder.seen)) == report.encoded
    assert contents(place) == expected(passages(200)) and verify_shards(place) == []
    assert [*Bucket(place).names(CLAIMS), *Bucket(place).names(WRITERS)] == []


def test_a_writer_that_lives_is_waited_for_and_its_parts_are_not_made_twice(place):
    corpus = passages(60)
    first, second, begun = HashEncoder(), HashEncoder(), threading.Event()

    class Begins(HashEncoder):
        def encode_counted(self, texts, **options):
            begun.set()
            time.sleep(0.5)
            first.seen += texts
            return HashEncoder.encode_counted(HashEncoder(), texts, **options)

    thread = threading.Thread(target=writing, args=(corpus, place, Begins()))
    thread.start()
    assert begun.wait(30)
    report = writing(corpus, place, second)
    thread.join()
    assert report.complete and sorted(first.seen + second.seen) == sorted(passage.text for passage in corpus)
    assert contents(place) == expected(corpus)


def test_a_rank_that_never_comes_is_not_waited_for(place):
    encoder = HashEncoder()
    report = writing(passages(100), place, encoder, Rank(1, 3))
    assert (report.complete, report.encoded, report.kept, report.rows) == (True, 100, 0, 100)
    assert contents(place) == expected(passages(100)) and len(encoder.seen) == 100


def test_a_rank_that_ends_last_counts_what_others_made_meanwhile(place):
    corpus = passages(100)

    class Meanwhile(HashEncoder):
        def encode_counted(self, texts, **options):
            if not self.seen:
                encode(corpus, place, rank=Rank(0, 2))
            return super().encode_counted(texts, **options)

    report = writing(corpus, place, Meanwhile(), Rank(1, 2))
    assert (report.complete, report.encoded, report.kept, report.rows) == (True, 50, 50, 100)
    assert contents(place) == expected(corpus)


def test_claims_that_are_no_claims_cost_nothing_but_work(place):
    """Anyone may write there: what stands in a claim is a name to compare, whatever it is."""
    corpus = passages(30)
    encode(corpus[:10], place)
    provenance = manifest_at(place).provenance
    bucket = Bucket(place)
    for number, text in enumerate((b"", b"\xff\x00", b"../../x", json.dumps({"a": 1}).encode()), 1):
        bucket.put(claim_name(provenance, content_digest(corpus[10:20]), number), text)
    bucket.put(f"{claim_name(provenance, content_digest(corpus[20:30]))}zzz", b"")
    bucket.put(f"{WRITERS}strange-name", b"")
    report = writing(corpus, place, HashEncoder())
    assert report.complete and contents(place) == expected(corpus)
