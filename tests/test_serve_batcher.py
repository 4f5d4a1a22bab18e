"""Dynamic batching: the same vectors as alone, shared batches, and nobody waits for long behind anybody."""

import threading

import numpy as np
import pytest
import torch

from ragvec.encoder import Encoder
from ragvec.serve.batcher import Batcher, QueueFull


class Gate:
    """A real encoder whose batches run one at a time, when the test says so; it notes what was in each."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.prompts = encoder.prompts
        self.dimension = encoder.dimension
        self.batch_tokens = encoder.batch_tokens
        self.batches: list[list[str]] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def encode_prompts(self, prompts):
        self.batches.append(prompts.texts)
        self.started.release()
        self.go.acquire(timeout=60)
        if any("poison" in text for text in prompts.texts):
            raise ValueError("poison")
        return self.encoder.encode_prompts(prompts)


@pytest.fixture(scope="module")
def encoder(tiny_decoder) -> Encoder:
    return Encoder.load(tiny_decoder, batch_tokens=64)


@pytest.fixture
def gate(encoder):
    return Gate(encoder)


@pytest.fixture
def batcher(gate):
    with Batcher(gate, queue_batches=50) as batcher:
        yield batcher
        for _ in range(200):
            gate.go.release()


def hold(batcher: Batcher, gate: Gate) -> None:
    """Occupy the encoder, so that what is submitted next waits together."""
    batcher.submit(gate.prompts.build(["first"]))
    gate.started.acquire(timeout=60)


def test_vectors_equal_those_encoded_alone(encoder):
    texts = ["fox", "", "서울은 대한민국의 수도이다.", "the quick brown fox " * 30, "a b c"]
    with Batcher(encoder, queue_batches=50) as batcher:
        futures = [
            batcher.submit(encoder.prompts.build([text], instruction)) for text in texts for instruction in ("", "Find:")
        ]
        together = batcher.submit(encoder.prompts.build(texts, ""))
        alone = [
            encoder.encode_counted([text], instruction=instruction, normalize=False).vectors[0]
            for text in texts
            for instruction in ("", "Find:")
        ]
        np.testing.assert_allclose([future.result()[0] for future in futures], alone, atol=1e-5)
        np.testing.assert_allclose(together.result(), alone[::2], atol=1e-5)


def test_requests_that_wait_together_share_a_batch(batcher, gate):
    hold(batcher, gate)
    futures = [batcher.submit(gate.prompts.build([f"q{number}"])) for number in range(8)]
    for _ in range(2):
        gate.go.release()
    for future in futures:
        assert future.result(60).shape == (1, gate.dimension)
    assert sorted(gate.batches[1]) == [f"q{number}" for number in range(8)]


def test_a_query_waits_for_one_batch_of_documents_at_most(batcher, gate):
    documents = batcher.submit(gate.prompts.build(["the lazy dog jumps over the quick brown fox"] * 100))
    gate.started.acquire(timeout=60)
    query = batcher.submit(gate.prompts.build(["fox"]))
    gate.go.release()
    gate.go.release()
    query.result(60)
    assert gate.batches[1] == ["fox"], "the batch after the one that ran when the query came"
    assert not documents.done()


def test_queries_without_end_do_not_starve_documents(batcher, gate):
    hold(batcher, gate)
    documents = batcher.submit(gate.prompts.build(["the lazy dog jumps over the quick brown fox"] * 4))
    for _ in range(20):
        for _ in range(40):
            batcher.submit(gate.prompts.build(["fox"]))
        gate.go.release()
        gate.started.acquire(timeout=60)
        if documents.done():
            break
    lanes = [any("lazy" in text for text in batch) for batch in gate.batches[1:]]
    assert documents.done() and True in lanes
    assert not any(first and second for first, second in zip(lanes, lanes[1:], strict=False)), "the lanes take turns"


def test_long_jobs_share_and_none_is_passed_over_forever(batcher, gate):
    hold(batcher, gate)
    text = "the lazy dog jumps over the quick brown fox, says {}, and so on and so on and on"
    jobs = [batcher.submit(gate.prompts.build([text.format(number)] * 3)) for number in range(6)]
    for _ in range(10):
        gate.go.release()
        gate.started.acquire(timeout=60)
    first = {text for batch in gate.batches[1:8] for text in batch}
    assert len(first) == 6, "each job had a turn before any had its third"
    for _ in range(60):
        gate.go.release()
    for job in jobs:
        job.result(60)


def test_no_batch_is_over_the_budget_unless_one_text_is(batcher, gate):
    hold(batcher, gate)
    texts = ["fox " * length for length in (1, 3, 9, 27, 81, 40, 20, 10, 5, 2)]
    future = batcher.submit(gate.prompts.build(texts))
    for _ in range(20):
        gate.go.release()
    future.result(60)
    sizes = [sum(len(ids) for ids in gate.prompts.build(batch).ids) for batch in gate.batches]
    assert all(size <= 64 or len(batch) == 1 for size, batch in zip(sizes, gate.batches, strict=True))
    assert sorted(text for batch in gate.batches[1:] for text in batch) == sorted(gate.prompts.build(texts).texts)


def test_cancelled_work_is_not_done(batcher, gate):
    hold(batcher, gate)
    left = batcher.submit(gate.prompts.build(["nobody waits for this"] * 50))
    stays = batcher.submit(gate.prompts.build(["fox"]))
    assert left.cancel() and batcher.waiting_tokens == len(gate.prompts.build(["fox"]).ids[0])
    gate.go.release()
    gate.go.release()
    stays.result(60)
    assert gate.batches == [["first"], ["fox"]] and batcher.waiting_tokens == 0


def test_a_full_queue_says_when_to_come_again(gate):
    with Batcher(gate, queue_batches=1) as batcher:
        hold(batcher, gate)
        kept = batcher.submit(gate.prompts.build(["the lazy dog"] * 200))  # nothing waits: taken, whatever its size
        with pytest.raises(QueueFull) as full:
            batcher.submit(gate.prompts.build(["fox"]))
        assert 1 <= full.value.retry_after <= 60
        kept.cancel()
        fox = batcher.submit(gate.prompts.build(["fox"]))
        for _ in range(100):
            gate.go.release()
        assert fox.result(60).shape == (1, gate.dimension)


def test_a_text_that_fails_takes_no_others_down(batcher, gate):
    hold(batcher, gate)
    good, bad = batcher.submit(gate.prompts.build(["fox"])), batcher.submit(gate.prompts.build(["poison"]))
    for _ in range(10):
        gate.go.release()
    with pytest.raises(ValueError, match="poison"):
        bad.result(60)
    assert good.result(60).shape == (1, gate.dimension)
    assert batcher.submit(gate.prompts.build(["fox"])).result(60).shape == (1, gate.dimension)


def test_close_finishes_what_waits_and_takes_nothing_more(gate):
    batcher = Batcher(gate, queue_batches=50)
    hold(batcher, gate)
    future = batcher.submit(gate.prompts.build(["fox"] * 40))
    for _ in range(100):
        gate.go.release()
    batcher.close()
    assert future.result(0).shape == (40, gate.dimension) and not batcher.alive
    with pytest.raises(QueueFull):
        batcher.submit(gate.prompts.build(["fox"]))


def test_no_texts_need_no_batch(batcher, gate):
    assert batcher.submit(gate.prompts.build([])).result(0).shape == (0, gate.dimension)


@pytest.mark.parametrize(("weights", "wanted"), [(1, [1, 1]), (10**9, [4, 3]), (None, [4, 4])])
def test_a_busy_machine_is_not_given_more_threads_than_help(gate, weights, wanted):
    threads, many = [], torch.get_num_threads()
    encode = gate.encode_prompts
    gate.encode_prompts = lambda prompts: threads.append(torch.get_num_threads()) or encode(prompts)
    torch.set_num_threads(4)
    try:
        with Batcher(gate, queue_batches=50, weights=weights) as batcher:
            hold(batcher, gate)
            futures = [batcher.submit(gate.prompts.build([text])) for text in ("a", "b")]
            for _ in range(2):
                gate.go.release()
            for future in futures:
                future.result(60)
    finally:
        torch.set_num_threads(many)
    assert threads == wanted, "one short request, then two at once"
