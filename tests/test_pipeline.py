"""Bulk encoding in stages, on a simulated device: a queue that works by itself, while calls return at once."""

import queue
import threading
import time
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ragvec.corpus.ahead import Ahead
from ragvec.encoder.budget import TokenBudget
from ragvec.encoder.device import Host
from ragvec.encoder.encoder import Encoded
from ragvec.encoder.pipeline import Pipeline
from ragvec.encoder.prompt import Prompts
from ragvec.errors import RagvecError
from ragvec.ingest import encode_corpus
from ragvec.ingest.blocks import BlockEncoder, Wanted
from ragvec.records import Passage
from ragvec.shards import Provenance, Shards

KERNEL = 0.01  # seconds that a batch takes


class Queued:
    """A result that the queue has still to compute."""

    def __init__(self, work) -> None:
        self.work, self.done = work, threading.Event()

    def wait(self) -> np.ndarray:
        self.done.wait()
        return self.value


class Simulated:
    """A device with a queue. `patient`: vectors are waited for where they are fetched, as a copy to pageable memory is."""

    def __init__(self, *, depth: int = 4, patient: bool = False) -> None:
        self.depth, self.patient = depth, patient
        self.busy = 0.0
        self.first = self.last = None
        self._queue: queue.Queue = queue.Queue()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            queued = self._queue.get()
            start = time.perf_counter()
            time.sleep(KERNEL)
            queued.value = queued.work()
            queued.done.set()
            self.last = time.perf_counter()
            self.first = self.first or start
            self.busy += self.last - start

    @property
    def idle(self) -> float:
        """The share of time between the first and the last kernel in which there was nothing to do."""
        return 1 - self.busy / (self.last - self.first)

    def launch(self, work) -> Queued:
        queued = Queued(work)
        self._queue.put(queued)
        return queued

    def fetch(self, vectors: Queued) -> Queued:
        if self.patient:
            vectors.wait()
        return vectors

    def free(self) -> None:
        raise AssertionError("memory does not run out here")


class Words:
    """An encoder on a device: a vector of each text's length, a token a word; every stage takes a while."""

    dimension, fingerprint, source, block_tokens = 4, "ab" * 16, "words", 200
    settings = SimpleNamespace(document_instruction="")

    def __init__(self, device: Simulated) -> None:
        self.device = device

    def encode_blocks(self, blocks, *, instruction, normalize):
        pipeline = Pipeline(self.device, TokenBudget(200, "cuda"), self.dimension, lay_out=self._lay_out, compute=self._compute)
        for prompts, vectors in pipeline.stream(map(self._tokenized, blocks)):
            counts = np.array([len(ids) for ids in prompts.ids])
            yield Encoded(vectors, counts, np.zeros(len(counts), bool))

    def _tokenized(self, texts) -> Prompts:
        time.sleep(KERNEL)
        ids = [[int(word) for word in text.split()] for text in texts]
        return Prompts(ids, [0] * len(ids), [False] * len(ids), list(texts))

    def _lay_out(self, prompts, rows):
        time.sleep(KERNEL / 3)
        return [prompts.ids[row] for row in rows]

    def _compute(self, laid):
        time.sleep(KERNEL / 5)  # launching kernels
        return self.device.launch(lambda: np.array([[sum(ids), len(ids), ids[0], ids[-1]] for ids in laid], np.float32))


def corpus(rows: int) -> list[Passage]:
    return [Passage(f"d{i}", f"d{i}", f"{i % 1000} " + "1 " * (i % 7 + 5) + f"{i % 500}") for i in range(rows)]


def encoded_by(device: Simulated, folder, rows: int = 1600) -> Simulated:
    passages = corpus(rows)
    encode_corpus(passages, Words(device), folder, part_rows=400, dtype="float32", normalize=False)
    found = [
        (p.passage_id, *v) for block, vectors in Shards.open(folder).blocks(512) for p, v in zip(block, vectors, strict=True)
    ]
    ids = [[int(word) for word in passage.text.split()] for passage in passages]
    assert found == [(p.passage_id, sum(i), len(i), i[0], i[-1]) for p, i in zip(passages, ids, strict=True)]
    return device


def test_the_device_never_waits_while_every_other_stage_is_faster(tmp_path):
    """From files of several parts to Parquet; a device whose copies wait shows that the measure tells."""
    assert encoded_by(Simulated(), tmp_path / "queued").idle < 0.03
    assert encoded_by(Simulated(depth=0, patient=True), tmp_path / "waiting").idle > 0.1


def test_the_next_batches_are_queued_before_a_batch_is_waited_for():
    """Without a clock: a device that finishes a batch only once two more are queued, or none is left."""
    launched, total = [], 12

    class Stubborn:
        depth = 2

        def fetch(self, vectors):
            return vectors

    class Late:
        def __init__(self, number):
            self.number = number

        def wait(self):
            assert len(launched) >= min(self.number + 2, total), "the device would have nothing to do"
            return np.full((1, 4), self.number, np.float32)

    prompts = [Prompts([[1] * 10] * 4, [0] * 4, [False] * 4, [""] * 4) for _ in range(3)]

    def compute(laid):
        launched.append(laid)
        return Late(len(launched))

    pipeline = Pipeline(Stubborn(), TokenBudget(10, "cuda"), 4, lay_out=lambda prompts, rows: rows, compute=compute)
    batches = list(pipeline._batches(prompts))
    assert len(batches) == total
    found = [vectors[:, 0].tolist() for _, vectors in pipeline._taken_in(iter(batches), ready=lambda: True)]
    assert found == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]


def test_what_is_queued_comes_before_the_error_of_what_follows():
    class Ready(Host):
        depth = 4

    def compute(laid):
        if laid == "bad":
            raise ValueError("no such token")
        return torch.ones(2, 4)

    blocks = [Prompts([[1], [2]], [0, 0], [False] * 2, [text] * 2) for text in ("good", "good", "bad")]
    pipeline = Pipeline(
        Ready(torch.device("cpu")), TokenBudget(10, "cpu"), 4, lay_out=lambda p, rows: p.texts[0], compute=compute
    )
    stream = pipeline.stream(blocks)
    assert [len(next(stream)[1]) for _ in range(2)] == [2, 2]
    with pytest.raises(ValueError, match="no such token"):
        next(stream)


def test_ahead_gives_items_and_errors_in_order_and_stops_when_left():
    made = []

    def items():
        for number in count():
            if number == 3:
                raise RagvecError("line 3")
            made.append(number)
            yield number

    with Ahead(items(), "test", 2) as ahead, pytest.raises(RagvecError, match="line 3"):
        list(ahead)
    assert made == [0, 1, 2]
    with Ahead(count(), "test", 2) as ahead:
        assert next(ahead) == 0
    assert not ahead._thread.is_alive()


class Clock(Host):
    """A GPU of which only the time is simulated: its rate depends on the tokens of a batch, and its memory ends."""

    depth = 4

    def __init__(self, rates: dict[int, float], memory: float = float("inf")) -> None:
        super().__init__(torch.device("cpu"))
        self.rates, self.memory = rates, memory
        self.now, self.sizes = 0.0, []

    def mark(self) -> float:
        return self.now

    def compute(self, lengths: list[int]) -> torch.Tensor:
        tokens = sum(lengths)
        if tokens > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.sizes.append(tokens)
        self.now += tokens / self.rates[min((size for size in self.rates if size >= tokens), default=max(self.rates))]
        return torch.ones(len(lengths), 4)


class English:
    """An encoder that measures its budget on a Clock; four characters a token."""

    def __init__(self, clock: Clock, budget: TokenBudget) -> None:
        self.clock, self.budget = clock, budget

    @property
    def block_tokens(self) -> int:
        return self.budget.block_tokens

    def encode_blocks(self, blocks, **_):
        lay_out = lambda prompts, rows: [len(prompts.ids[row]) for row in rows]  # noqa: E731
        pipeline = Pipeline(self.clock, self.budget, 4, lay_out=lay_out, compute=self.clock.compute)
        prompts = (
            Prompts([range(len(text) // 4) for text in texts], [0] * len(texts), [False] * len(texts), texts)
            for texts in blocks
        )
        for done, vectors in pipeline.stream(prompts):
            yield Encoded(vectors, np.array([len(ids) for ids in done.ids]), np.zeros(len(vectors), bool))


def settled(clock: Clock, budget: TokenBudget) -> TokenBudget:
    """The budget after 6 parts of texts as long as English passages are: 130 tokens in the middle, some of 1,000."""
    lengths = np.exp(np.random.default_rng(0).normal(np.log(130), 0.6, 8192)).clip(8, 1000).astype(int)
    texts = {length: "abc " * length for length in set(lengths.tolist())}
    passages = [Passage(str(row), str(row), texts[length]) for row, length in enumerate(lengths.tolist())]
    provenance = Provenance(
        source="english", fingerprint="ab" * 16, dimension=4, instruction="", dtype="float32", normalized=True
    )
    wanted = (Wanted(None, passages, range(len(passages))) for _ in range(6))
    made = list(BlockEncoder(English(clock, budget), provenance).encode(wanted))
    assert sum(len(one.rows) for one in made) == 6 * 8192
    return budget


RATES = {16384: 0.7e5, 32768: 0.9e5, 65536: 1.0e5, 131072: 1.1e5}


@pytest.mark.parametrize("best", RATES)
def test_the_budget_settles_on_the_best_candidate_with_texts_as_they_are(best):
    budget = TokenBudget(None, "cuda", memory=80 * 10**9)
    assert budget.tokens == 65536 and budget.block_tokens == 131072
    settled(Clock({**RATES, best: 2e5}), budget)
    assert not budget.is_open and budget.tokens == best == budget.block_tokens
    assert set(budget._rates) == set(RATES)


def test_memory_that_runs_out_in_a_trial_ends_the_larger_candidates_alone():
    budget = TokenBudget(None, "cuda", memory=80 * 10**9)
    clock = Clock(RATES, memory=100_000)
    settled(clock, budget)
    assert not budget.is_open and budget.tokens <= 65536 and set(budget._rates) >= {16384, 32768}
    assert budget.tokens == max((c for c in budget._rates if c <= budget.limit), key=budget._rates.get)
    assert max(clock.sizes[len(clock.sizes) // 2 :]) <= budget.limit


def test_a_small_gpu_begins_with_less():
    assert TokenBudget(None, "cuda", memory=24 * 10**9).tokens == 32768
    assert TokenBudget(None, "cpu").tokens == 4096
