"""What answers the requests: an encoder, the queue before it, and an index; no HTTP in here."""

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ragvec.encoder.encoder import Encoded
from ragvec.encoder.prompt import Prompts
from ragvec.errors import NotFound, WrongInput
from ragvec.serve.batched import BatchedEncoder, Patience, counted
from ragvec.serve.batcher import Batcher
from ragvec.serve.gathered import Asked, Gathered
from ragvec.serve.limits import Limits
from ragvec.serve.live import Live
from ragvec.serve.metrics import Metrics

if TYPE_CHECKING:
    from ragvec.encoder import Encoder
    from ragvec.index import Index
    from ragvec.retrieve.searched import Place

INLINE_CHARACTERS = 4096  # texts up to this length together are tokenized at once: changing threads would take longer
Answer = TypeVar("Answer")


class Service:
    """Encodes and searches for the server. Close it, or use it in a `with` block."""

    def __init__(
        self, encoder: "Encoder", index_path: "Place | Sequence[Place] | None" = None, *, limits: Limits | None = None
    ) -> None:
        """index_path: what to search: a folder, a server, or several as one; None = embeddings only.

        Raises RagvecError if a folder holds no index, or one of another encoder.
        """
        from ragvec.encoder.graphs import small_batches
        from ragvec.serve.source import open_live

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
        self.index = None if index_path is None else open_live(index_path, self.text_encoder())
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
        return counted(prompts, await self.batcher.encode(prompts), width, normalize)

    async def encode_queries(self, texts: Sequence[str], instruction: str | None = None) -> np.ndarray:
        """Query vectors, (n, d) float32; instruction None = the encoder's own."""
        own = self.encoder.settings.query_instruction
        return (await self.encode(texts, instruction=own if instruction is None else instruction)).vectors

    async def read(self, work: "Callable[[Any], Answer]", patience: Patience | None = None) -> Answer:
        """What `work` returns for the index, computed in a thread. Raises RagvecError where there is no index.

        patience  for work that takes long: told when the client leaves
        """
        index = self._index()
        try:
            return await self.timed(self._in_thread(self._rerankers if patience else self._threads, lambda: index.call(work)))
        except asyncio.CancelledError:
            if patience:
                patience.end()
            raise

    def gathered(self, work: "Callable[[Any, list[Asked]], list[Answer]]") -> "Gathered[Asked, Answer]":
        """Answers that are read from the index for several requests at once, as `work` gives them; raises as `read`."""
        return Gathered(self._threads, lambda asked: self._index().call(lambda index: work(index, asked)))

    async def timed(self, reading: "Awaitable[Answer]") -> Answer:
        """What is read from the index, its seconds counted."""
        started = time.perf_counter()
        answer = await reading
        self.metrics.search_seconds.observe(time.perf_counter() - started)
        return answer

    async def read_one(self, work: "Callable[[Index], Answer]") -> Answer:
        """As `read`, for what one index alone can answer. Raises NotFound where the server has several, or a store."""
        from ragvec.index import Index

        def checked(index: Any) -> Answer:
            if not isinstance(index, Index):
                raise NotFound("this is told of a single index: the server has several, or a store")
            return work(index)

        return await self.read(checked)

    async def write(self, work: "Callable[[Index], Answer]") -> Answer:
        """What `work` returns for the index that it changes, in a thread; one change at a time.

        Raises RagvecError where there is no index.
        """
        index = self._index()
        return await self._in_thread(self._writers, lambda: index.call(work))

    def text_encoder(self, patience: Patience | None = None) -> BatchedEncoder:
        """The encoder for what works in a thread, such as a Retriever; patience as for `read`."""
        return BatchedEncoder(self.encoder, self.batcher, patience)

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

    def _index(self) -> Live:
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
    async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


class NoIndex(NotFound):
    """The server was started without an index."""
