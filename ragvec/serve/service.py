"""What answers the requests: an encoder, the queue before it, and an index; no HTTP in here."""

import asyncio
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ragvec.encoder.prompt import Prompts
from ragvec.errors import NotFound, WrongInput
from ragvec.serve.batcher import Batcher, QueueFull
from ragvec.serve.limits import Limits
from ragvec.serve.live import LiveIndex
from ragvec.serve.metrics import Metrics

if TYPE_CHECKING:
    from ragvec.encoder import Encoder, TokenVectors
    from ragvec.index import Index

LEAST_LENGTH = 1e-12  # of a vector, as torch's normalize has it
INLINE_CHARACTERS = 4096  # texts up to this length together are tokenized at once: changing threads would take longer


class Encoded(NamedTuple):
    """Vectors (n, d) float32, token counts (n,), and which texts were shortened (n,)."""

    vectors: np.ndarray
    token_counts: list[int]
    truncated: list[bool]


class Overdue(QueueFull):
    """Scoring again took longer than a server has time for."""

    def __init__(self, seconds: float) -> None:
        Exception.__init__(self, f"scoring again took over {seconds:g} s: ask for a smaller rerank_depth, or try again later")
        self.retry_after = 1


class Patience:
    """Whether somebody still waits for what a thread computes: until the client leaves, and for so many seconds."""

    def __init__(self, seconds: float) -> None:
        """seconds from now, waiting for a thread included."""
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._left = threading.Event()

    def end(self) -> None:
        """The client has left."""
        self._left.set()

    def check(self) -> None:
        """Raises Overdue once nobody waits any more."""
        if self._left.is_set() or time.monotonic() > self._until:
            raise Overdue(self._seconds)


class QueuedEncoder:
    """Takes an Encoder's place in an Index or a Retriever; what it encodes goes through the server's batches."""

    def __init__(
        self,
        encoder: "Encoder",
        batcher: Batcher,
        query_vectors: np.ndarray | None = None,
        patience: Patience | None = None,
    ) -> None:
        """query_vectors: of the queries that will be asked for, if they are there already, (n, d) float32.

        patience  looked at before token vectors are made
        """
        self._encoder = encoder
        self._batcher = batcher
        self._query_vectors = query_vectors
        self._patience = patience
        self.settings = encoder.settings
        self.prompts = encoder.prompts
        self.count_tokens = encoder.count_tokens
        self.source = encoder.source
        self.fingerprint = encoder.fingerprint
        self.dimension = encoder.dimension

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> np.ndarray:
        """As `Encoder.encode_queries`."""
        if self._query_vectors is not None and len(self._query_vectors) == len(texts):
            return self._query_vectors
        return self._encode(texts, self.settings.query_instruction if instruction is None else instruction, True)

    def encode_documents(self, texts: Sequence[str], *, instruction: str = "", normalize: bool = True) -> np.ndarray:
        """As `Encoder.encode_documents`."""
        return self._encode(texts, instruction, normalize)

    def encode_tokens(self, texts: Sequence[str], *, instruction: str = "", normalize: bool = True) -> "list[TokenVectors]":
        """As `Encoder.encode_tokens`; not batched with other requests. Raises Overdue once nobody waits for them."""
        if self._patience is not None:
            self._patience.check()
        return self._encoder.encode_tokens(texts, instruction=instruction, normalize=normalize)

    def _encode(self, texts: Sequence[str], instruction: str, normalize: bool) -> np.ndarray:
        prompts = self._encoder.prompts.build(texts, instruction)
        return finish(self._batcher.submit(prompts).result(), None, normalize)


class Service:
    """Encodes and searches for the server. Close it, or use it in a `with` block."""

    def __init__(self, encoder: "Encoder", index_path: Any = None, *, limits: Limits | None = None) -> None:
        """index_path: folder of the index to search; None = embeddings only.

        Raises RagvecError if the folder holds no index, or one of another encoder.
        """
        from ragvec.encoder.graphs import small_batches

        self.limits = limits or Limits()
        self.encoder = encoder
        self.metrics = Metrics()
        self.secret = secrets.token_hex(32)  # by which it proves to be itself; see ragvec.serve.advert
        self.batcher = Batcher(
            encoder,
            queue_batches=self.limits.queue_batches,
            on_batch=self.metrics.batch,
            encode=small_batches(encoder),
            weights=encoder.describe()["parameters"] - encoder.model.get_input_embeddings().weight.numel(),
        )
        self.metrics.watch_queue(lambda: self.batcher.waiting_tokens)
        self.index = None if index_path is None else LiveIndex(index_path, QueuedEncoder(encoder, self.batcher))
        self.writing = asyncio.Lock()
        cores = os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(max_workers=max(cores, 2), thread_name_prefix="ragvec-search")
        # threads of their own, and not all cores, for what takes long: a search finds one of the others free
        self._rerankers = ThreadPoolExecutor(max_workers=max(cores // 2, 1), thread_name_prefix="ragvec-rerank")
        self._writers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ragvec-write")

    async def encode(
        self, texts: Sequence[str], *, instruction: str, normalize: bool = True, width: int | None = None
    ) -> Encoded:
        """Vectors of texts, in batches shared with whoever else asks.

        width  keep the first so many dimensions, normalised anew
        Raises QueueFull, and RagvecError for an instruction that leaves no room or a width the encoder doesn't have.
        """
        if width is not None and not 1 <= width <= self.encoder.dimension:
            raise WrongInput(f"dimensions {width} is outside 1 … {self.encoder.dimension}, the encoder's dimension")
        prompts = await self._tokenize(texts, instruction)
        vectors = await self.batcher.encode(prompts)
        return Encoded(finish(vectors, width, normalize), [len(ids) for ids in prompts.ids], prompts.truncated)

    async def encode_queries(self, texts: Sequence[str], instruction: str | None = None) -> np.ndarray:
        """Query vectors, (n, d) float32; instruction None = the encoder's own."""
        own = self.encoder.settings.query_instruction
        return (await self.encode(texts, instruction=own if instruction is None else instruction)).vectors

    async def read(self, work: "Callable[[Index], Any]", patience: Patience | None = None) -> Any:
        """What `work` returns for the index, computed in a thread. Raises RagvecError where there is no index.

        patience  for work that takes long: told when the client leaves
        """
        index = self._index()
        started = time.perf_counter()
        try:
            answer = await self._in_thread(self._rerankers if patience else self._threads, lambda: index.call(work))
        except asyncio.CancelledError:
            if patience:
                patience.end()
            raise
        self.metrics.search_seconds.observe(time.perf_counter() - started)
        return answer

    async def write(self, work: "Callable[[Index], Any]") -> Any:
        """The same for work that changes the index; one change at a time."""
        index = self._index()
        return await self._in_thread(self._writers, lambda: index.call(work))

    def queued_encoder(self, query_vectors: np.ndarray | None = None, patience: Patience | None = None) -> QueuedEncoder:
        """An encoder for a Retriever, which finds its query's vectors ready."""
        return QueuedEncoder(self.encoder, self.batcher, query_vectors, patience)

    def close(self) -> None:
        """Finish what was begun, and stop."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._rerankers.shutdown(wait=True, cancel_futures=True)
        self._writers.shutdown(wait=True, cancel_futures=True)
        self.batcher.close()
        if self.index is not None:
            self.index.close()

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _index(self) -> LiveIndex:
        if self.index is None:
            raise NoIndex("this server has no index: start it with `ragvec serve -i INDEX`")
        return self.index

    async def _tokenize(self, texts: Sequence[str], instruction: str) -> Prompts:
        started = time.perf_counter()
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            prompts = self.encoder.prompts.build(texts, instruction)
        else:
            prompts = await self._in_thread(self._threads, lambda: self.encoder.prompts.build(texts, instruction))
        self.metrics.tokenize_seconds.observe(time.perf_counter() - started)
        return prompts

    @staticmethod
    async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


class NoIndex(NotFound):
    """The server was started without an index."""


def finish(vectors: np.ndarray, width: int | None, normalize: bool) -> np.ndarray:
    """Pooled vectors as they are given out: cut to `width`, and of length 1 where asked; (n, width) float32."""
    cut = vectors[:, :width]
    return (
        cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), LEAST_LENGTH) if normalize else np.ascontiguousarray(cut)
    )
