"""Small batches on a GPU as CUDA graphs: one query of a large encoder is then one launch instead of a thousand.

A batch is filled up to a bucket, a number of tokens and of texts; the forward pass of each bucket is recorded when it is first
asked for and replayed from then on. What fills a bucket up is a text of its own, so that no vector changes. `small_batches` is
the door: it gives an encoder's own `encode_prompts` wherever graphs can't be had.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ragvec.encoder.attention import Layout
from ragvec.encoder.encoder import Encoder
from ragvec.encoder.forward import first_position
from ragvec.encoder.pooling import pool
from ragvec.encoder.prompt import Prompts
from ragvec.errors import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # beyond, a GPU computes longer than it is told what to do
TEXTS = (1, 8, 32)
MOST_GRAPHS = 24  # held at once; who was not asked for longest goes
LEAST_COSINE = 0.995  # between a recorded and a plain pass in half precision; a wrong recording had 0.965

Run = Callable[[], Tensor]


class Bucket(NamedTuple):
    """How much a recorded pass takes: tokens in all, and texts, the one that fills it up not counted."""

    tokens: int
    texts: int


def small_batches(encoder: Encoder) -> Callable[[Prompts], np.ndarray]:
    """`encoder.encode_prompts`; where it runs on a GPU with packed batches, by CUDA graphs for batches that fit a bucket.

    Not for several threads at once.
    """
    graphed = encoder.device.type == "cuda" and encoder.settings.packed
    return Graphs(encoder, partial(cuda_capture, encoder.device)).encode_prompts if graphed else encoder.encode_prompts


def choose_bucket(lengths: Sequence[int], most_positions: int | None = None) -> Bucket | None:
    """The smallest bucket that texts of these lengths fit into; None = none does.

    most_positions  tokens that the encoder's positions allow in a text, the one that fills up included; None = any number
    """
    total = sum(lengths)
    tokens = next((size for size in TOKENS if size >= total), None)
    texts = next((count for count in TEXTS if count >= len(lengths)), None)
    if not total or tokens is None or texts is None or (most_positions is not None and tokens > most_positions):
        return None
    return Bucket(tokens, texts)


class Graphs:
    """Recorded forward passes of an encoder, by bucket."""

    def __init__(self, encoder: Encoder, capture: Callable[[Run, Any], Run]) -> None:
        """capture: makes of a forward pass over inputs that stay in place one that is replayed; it is given a shared pool."""
        self._encoder, self._capture = encoder, capture
        self._device = encoder.device
        self._positions = getattr(encoder.model.config.get_text_config(), "max_position_embeddings", None)
        self._passes: OrderedDict[Bucket, _Pass] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle() if self._device.type == "cuda" else None
        self.works = True

    @torch.inference_mode()
    def encode_prompts(self, prompts: Prompts) -> np.ndarray:
        """As `Encoder.encode_prompts`: vectors (n, dimension) float32; a bucket's first batch is computed both ways."""
        bucket = choose_bucket([len(ids) for ids in prompts.ids], self._positions) if self.works else None
        if bucket is None:
            return self._encoder.encode_prompts(prompts)
        if bucket not in self._passes:
            return self._record(bucket, prompts)
        self._passes.move_to_end(bucket)
        return self._vectors(self._passes[bucket], prompts)

    def __len__(self) -> int:
        return len(self._passes)

    def _record(self, bucket: Bucket, prompts: Prompts) -> np.ndarray:
        """Record a bucket's pass and keep it if it finds these texts' vectors; graphs are given up if it can't be done."""
        plain = self._encoder.encode_prompts(prompts)
        try:
            made = _Pass(self._encoder.model, bucket, self._device, lambda run: self._capture(run, self._pool))
            cosine = _least_cosine(plain, self._vectors(made, prompts))
        except RuntimeError as error:
            return self._give_up(f"a pass can't be recorded ({first_line(error)})", plain)
        if not cosine >= LEAST_COSINE:
            return self._give_up(f"a recorded pass finds other vectors (cosine {cosine:.4f})", plain)
        self._passes[bucket] = made
        while len(self._passes) > MOST_GRAPHS:
            self._passes.popitem(last=False)
        return plain

    def _give_up(self, reason: str, plain: np.ndarray) -> np.ndarray:
        logging.getLogger("ragvec").warning("small batches are computed without CUDA graphs: %s", reason)
        self.works = False
        self._passes.clear()
        return plain

    def _vectors(self, made: "_Pass", prompts: Prompts) -> np.ndarray:
        lengths = [len(ids) for ids in prompts.ids]
        hidden = made.hidden(prompts.ids)
        pooled = pool(hidden, lengths, prompts.pool_starts, self._encoder.settings.pooling)
        return self._encoder.projections.of(pooled)[:, : self._encoder.dimension].float().cpu().numpy()


class _OneCall(Layout):
    """The layout of a pass that is recorded: offsets are read when it is replayed, and lengths, which are not, must not be."""

    @property
    def runs(self) -> list[tuple[int, int]]:
        raise RuntimeError("its attention is not one call for all texts")


class _Pass:
    """The forward pass of one bucket, over inputs that stay where they are."""

    def __init__(self, model: "PreTrainedModel", bucket: Bucket, device: torch.device, capture: Callable[[Run], Run]) -> None:
        self.bucket = bucket
        pinned = device.type == "cuda"
        self._written = torch.zeros(2, bucket.tokens, dtype=torch.long, pin_memory=pinned)  # ids, positions
        self._ends = torch.zeros(bucket.texts + 2, dtype=torch.int32, pin_memory=pinned)
        self._read, self._offsets = self._written.to(device), self._ends.to(device)
        self._first = first_position(model)
        self._lengths: tuple[int, ...] = (bucket.tokens,)  # as recorded: the longest that a text can be
        self._offsets[1:] = bucket.tokens
        layout_of = _OneCall if device.type == "cuda" else Layout  # elsewhere nothing is recorded, and lengths are read anew

        def run() -> Tensor:
            layout = layout_of(self._lengths, self._offsets)
            inputs = {"input_ids": self._read[:1], "position_ids": self._read[1:], "layout": layout, "use_cache": False}
            states: Tensor = model(**inputs).last_hidden_state[0]
            return states

        self._replay = capture(run)

    def hidden(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Token states (tokens, dim) of texts that fit; they lie where the next call will overwrite them."""
        total = self._fill(ids)
        self._read.copy_(self._written, non_blocking=True)
        self._offsets.copy_(self._ends, non_blocking=True)
        return self._replay()[:total]

    def _fill(self, ids: Sequence[Sequence[int]]) -> int:
        """Lay texts end to end, then one of what is left of the tokens, then empty ones; returns the tokens of the texts.

        The positions of what fills up are all the first, which every model has.
        """
        lengths = [len(text) for text in ids]
        total = sum(lengths)
        spare = self.bucket.tokens - total
        self._written[0] = torch.tensor([token for text in ids for token in text] + [ids[0][0]] * spare)
        self._written[1] = torch.tensor([place for length in lengths for place in range(length)] + [0] * spare) + self._first
        ends = [0, *accumulate(lengths)]
        self._ends[: len(ends)] = torch.tensor(ends, dtype=torch.int32)
        self._ends[len(ends) :] = self.bucket.tokens
        self._lengths = (*lengths, spare) if spare else tuple(lengths)
        return total


def cuda_capture(device: torch.device, run: Run, pool: Any) -> Run:
    """Record what a forward pass asks of the GPU, and replay it. Recorded passes share a pool's memory: one runs at a time."""
    here, aside = torch.cuda.current_stream(device), _aside(device)
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        for _ in range(2):  # kernels are chosen and compiled, and workspaces made, before anything is recorded
            run()
    here.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=pool, stream=aside, capture_error_mode="thread_local"):  # others may search meanwhile
            hidden = run()
    except BaseException:  # torch leaves the thread on that stream, and up to 2.12 memory as if it were being recorded
        torch.cuda.set_stream(here)
        with suppress(RuntimeError, AttributeError):  # it has ended that itself
            torch._C._cuda_endAllocateToPool(here.device_index, pool)
        raise

    def replay() -> Tensor:
        graph.replay()
        return hidden

    return replay


@cache
def _aside(device: torch.device) -> torch.cuda.Stream:
    """Where a device's passes are recorded: cuBLAS keeps memory for each stream that it has worked on."""
    return torch.cuda.Stream(device)


def _least_cosine(some: np.ndarray, others: np.ndarray) -> float:
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return float(((some * others).sum(axis=1) / np.maximum(lengths, 1e-12)).min())
