"""The server's encoder as an index and a retriever use it: what it encodes goes through the batches that all requests share."""

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ragvec.encoder.encoder import Encoded
from ragvec.encoder.prompt import Prompts
from ragvec.encoder.settings import EncoderSettings
from ragvec.serve.batcher import Batcher, QueueFull

if TYPE_CHECKING:
    from ragvec.encoder import Encoder
    from ragvec.encoder.encoder import TokenVectors
    from ragvec.encoder.prompt import PromptBuilder

LEAST_LENGTH = 1e-12  # of a vector, as torch's normalize has it


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


class BatchedEncoder:
    """A TextEncoder over an Encoder and a Batcher, for threads: each call waits for the batches that hold its texts."""

    def __init__(self, encoder: "Encoder", batcher: Batcher, patience: Patience | None = None) -> None:
        """patience: of the one client that it encodes for, looked at before token vectors are made; None = of no one's."""
        self._encoder = encoder
        self._batcher = batcher
        self._patience = patience

    @property
    def source(self) -> str:
        """Where the encoder was loaded from."""
        return self._encoder.source

    @property
    def fingerprint(self) -> str:
        """What the encoder is."""
        return self._encoder.fingerprint

    @property
    def dimension(self) -> int:
        """Of its vectors."""
        return self._encoder.dimension

    @property
    def dtype(self) -> str:
        """What it computes in."""
        return self._encoder.dtype

    @property
    def settings(self) -> EncoderSettings:
        """Of the encoder."""
        return self._encoder.settings

    @property
    def prompts(self) -> "PromptBuilder":
        """Of the encoder."""
        return self._encoder.prompts

    def encode_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, normalize: bool = True, truncate_dim: int | None = None
    ) -> np.ndarray:
        """Vectors (n, d) float32 of queries, with an instruction before each: None = the encoder's own.

        Raises QueueFull if too much waits already, as all that encode here.
        """
        own = self.settings.query_instruction
        return self._vectors(texts, own if instruction is None else instruction, normalize, truncate_dim)

    def encode_documents(
        self, texts: Sequence[str], *, instruction: str | None = None, normalize: bool = True, truncate_dim: int | None = None
    ) -> np.ndarray:
        """Vectors (n, d) float32 of documents, with an instruction before each: None = the encoder's own."""
        own = self.settings.document_instruction
        return self._vectors(texts, own if instruction is None else instruction, normalize, truncate_dim)

    def encode_counted(
        self, texts: Sequence[str], *, instruction: str, normalize: bool = True, truncate_dim: int | None = None
    ) -> Encoded:
        """Vectors (n, d) float32 of texts, with their token counts and which of them were shortened."""
        prompts = self.prompts.build(texts, instruction)
        return counted(prompts, self._batcher.submit(prompts).result(), truncate_dim, normalize)

    def encode_tokens(
        self, texts: Sequence[str], *, instruction: str = "", normalize: bool = True, whole: bool = False
    ) -> "list[TokenVectors]":
        """A vector for each token of each text; not batched with other requests. Raises Overdue once nobody waits for them."""
        if self._patience is not None:
            self._patience.check()
        return self._encoder.encode_tokens(texts, instruction=instruction, normalize=normalize, whole=whole)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, special ones left out."""
        return self._encoder.count_tokens(texts)

    def _vectors(self, texts: Sequence[str], instruction: str, normalize: bool, width: int | None) -> np.ndarray:
        return finish(self._batcher.submit(self.prompts.build(texts, instruction)).result(), width, normalize)


def counted(prompts: Prompts, vectors: np.ndarray, width: int | None, normalize: bool) -> Encoded:
    """What is told of texts that were encoded: their finished vectors, and how long they were."""
    return Encoded.of(prompts, finish(vectors, width, normalize))


def finish(vectors: np.ndarray, width: int | None, normalize: bool) -> np.ndarray:
    """Pooled vectors as they are given out: cut to `width`, and of length 1 where asked; (n, width) float32."""
    cut = vectors[:, :width]
    if not normalize:
        return np.ascontiguousarray(cut)
    lengths: np.ndarray = np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), LEAST_LENGTH)
    scaled: np.ndarray = np.divide(cut, lengths)
    return scaled
