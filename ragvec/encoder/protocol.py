"""What ragvec asks of an encoder: `ragvec.Encoder` has it, and so may anything else that makes vectors of texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ragvec.encoder.settings import EncoderSettings

if TYPE_CHECKING:
    from ragvec.encoder.encoder import Encoded, TokenVectors
    from ragvec.encoder.prompt import PromptBuilder


class TextEncoder(Protocol):
    """Makes vectors of texts; an index, a bulk run, an evaluation need no more of an encoder.

    source       where it was loaded from; fingerprint: what it is, so that its vectors are told from another's
    dimension    of its vectors; dtype: what it computes in, as a word
    """

    @property
    def source(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def settings(self) -> EncoderSettings: ...
    @property
    def prompts(self) -> "PromptBuilder": ...

    def encode_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, normalize: bool = True, truncate_dim: int | None = None
    ) -> np.ndarray:
        """Vectors of queries, (n, d) float32; instruction None = the encoder's own."""

    def encode_documents(
        self, texts: Sequence[str], *, instruction: str | None = None, normalize: bool = True, truncate_dim: int | None = None
    ) -> np.ndarray:
        """Vectors of documents, (n, d) float32; instruction None = the encoder's own."""

    def encode_counted(
        self, texts: Sequence[str], *, instruction: str, normalize: bool = True, truncate_dim: int | None = None
    ) -> "Encoded":
        """Vectors (n, d) float32, token_counts (n,) and truncated (n,)."""

    def encode_tokens(
        self, texts: Sequence[str], *, instruction: str = "", normalize: bool = True, whole: bool = False
    ) -> "list[TokenVectors]":
        """A vector for every token of each text."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, by itself."""
