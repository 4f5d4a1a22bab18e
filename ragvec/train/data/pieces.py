"""Token ids of a whole training set in two flat arrays, and the pieces of it that make one example each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ragvec.encoder.door import foreign
from ragvec.encoder.prompt import UNREADABLE
from ragvec.errors import RagvecError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS = 1000  # tokenized at once; also the group after which the reference's chunks drop their remainder


class Pieces(NamedTuple):
    """Examples for language modelling: runs of tokens, and within them segments that attention does not leave.

    tokens         (t,) int32, all texts end to end
    starts         (n + 1,) where each example begins; the last entry is the end
    segments       (s + 1,) where each segment begins; every example's start is among them
    """

    tokens: np.ndarray
    starts: np.ndarray
    segments: np.ndarray

    def segments_of(self, example: int) -> list[np.ndarray]:
        """The example's tokens, cut where attention stops."""
        begin, end = self.starts[example], self.starts[example + 1]
        first, last = np.searchsorted(self.segments, (begin, end))
        return [self.tokens[a:b] for a, b in zip(self.segments[first:last], self.segments[first + 1 : last + 1], strict=True)]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, (n,)."""
        return np.diff(self.starts)


def tokenize(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], *, max_length: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids, special tokens included, of texts end to end: tokens (t,) int32 and offsets (n + 1,)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise RagvecError(f"{type(tokenizer).__name__} has no tokenizer.json: convert it to a fast tokenizer first")
    backend.no_truncation()
    backend.no_padding()
    blocks, lengths = [], []
    for start in range(0, len(texts), _TEXTS):
        with foreign(UNREADABLE):
            encodings = backend.encode_batch_fast(list(texts[start : start + _TEXTS]))
        ids = [encoding.ids[:max_length] for encoding in encodings]
        lengths += [len(text) for text in ids]
        blocks.append(np.fromiter((token for text in ids for token in text), dtype=np.int32))
    return np.concatenate(blocks), np.concatenate([[0], np.cumsum(lengths)])


def make_pieces(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], *, max_length: int, cross_document: bool, line_by_line: bool
) -> Pieces:
    """Tokenize texts and cut them into examples of at most max_length tokens.

    By default texts are laid end to end and cut every max_length tokens; a segment ends with its text, so that no text
    sees another: with max_length 4, texts of 3, 2 and 5 tokens (aaa, bb, ccccc) make the examples aaab, bccc, cc, whose
    segments are aaa|b, b|ccc, cc. Ten tokens are ten places of a batch; padded to the longest they would have been fifteen.
    cross_document: as the reference has it, each example is one segment, and the remainder of every 1,000
    texts is dropped. line_by_line: each text is one example, cut off at max_length.
    Raises RagvecError if not one example comes out.
    """
    tokens, offsets = tokenize(tokenizer, texts, max_length=max_length if line_by_line else None)
    total = len(tokens)
    if line_by_line:
        starts = segments = np.unique(offsets)
    elif cross_document:
        tokens, starts = _reference_chunks(tokens, offsets, max_length)
        segments = starts
    else:
        starts = np.append(np.arange(0, len(tokens), max_length), len(tokens))
        segments = np.union1d(offsets, starts)
    if len(starts) < 2:
        raise RagvecError(
            f"{len(texts):,} texts of {total:,} tokens make no example of {max_length} tokens: "
            "lower max_seq_length, or leave cross_document out"
        )
    return Pieces(tokens, starts, segments)


def _reference_chunks(tokens: np.ndarray, offsets: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Full chunks of every 1,000 texts, their remainders dropped: tokens and the chunks' starts."""
    kept = []
    for first in range(0, len(offsets) - 1, _TEXTS):
        begin, end = offsets[first], offsets[min(first + _TEXTS, len(offsets) - 1)]
        kept.append(tokens[begin : begin + (end - begin) // length * length])
    joined = np.concatenate(kept)
    return joined, np.arange(0, len(joined) + 1, length)
