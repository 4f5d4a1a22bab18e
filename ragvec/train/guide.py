"""A guide: another encoder that tells which of a batch's texts are no negatives to a query.

Source: GISTEmbed (Solatorio, 2024).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ragvec.encoder import Encoder
from ragvec.train.data import Example


class Guide:
    """A guide's vectors of a training set, made once: each text read as the guide reads queries, or documents."""

    def __init__(self, encoder: Encoder, examples: Sequence[Example]) -> None:
        documents = [text for one in examples for text in (one.positive, *one.negatives)]
        self._queries, self._query_rows = _distinct([one.query for one in examples], encoder.encode_queries)
        self._documents, self._document_rows = _distinct(documents, encoder.encode_documents)
        self._edges = np.cumsum([0, *(1 + len(one.negatives) for one in examples)])  # where each example's documents begin

    def of(self, rows: Sequence[int]) -> Tensor:
        """Vectors (n, dim) float32 of the queries of these examples, then of their positives, then of all hard negatives."""
        positives = [self._edges[row] for row in rows]
        negatives = [place for row in rows for place in range(self._edges[row] + 1, self._edges[row + 1])]
        documents = self._documents[self._document_rows[[*positives, *negatives]]]
        return torch.from_numpy(np.concatenate([self._queries[self._query_rows[list(rows)]], documents]))


def _distinct(texts: Sequence[str], encode: Callable[[Sequence[str]], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the distinct texts, and the row of each text among them."""
    numbers: dict[str, int] = {}
    rows = np.array([numbers.setdefault(text, len(numbers)) for text in texts])
    return encode(list(numbers)), rows
