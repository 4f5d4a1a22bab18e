"""ragvec in LanceDB: an embedding function; needs ragvec's extra `lancedb`.

from lancedb.pydantic import LanceModel, Vector
from ragvec.integrations.lancedb import RagvecEmbeddings

encode = RagvecEmbeddings.create()

class Paper(LanceModel):
    text: str = encode.SourceField()
    vector: Vector(encode.ndims()) = encode.VectorField()
"""

from functools import cache
from typing import Any

import numpy as np
from lancedb.embeddings import EmbeddingFunction, register

from ragvec.encoder import Encoder


@register("ragvec")
class RagvecEmbeddings(EmbeddingFunction):
    """An Encoder for LanceDB; queries carry the instruction, documents never do. Make one with `RagvecEmbeddings.create(…)`.

    source        folder or hub id, as for `Encoder.load`; None = the bundled encoder
    instruction   before each query; None = the encoder's own, "" = none
    truncate_dim  keep the first so many dimensions
    """

    source: str | None = None
    instruction: str | None = None
    truncate_dim: int | None = None
    device: str | None = None

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded once in a process."""
        return _load(self.source, self.truncate_dim, self.device)

    def compute_query_embeddings(self, query: str, *args: Any, **kwargs: Any) -> list[np.ndarray]:
        """A query's vector, of length 1, in a list."""
        return list(self.encoder.encode_queries(self.sanitize_input(query), instruction=self.instruction))

    def compute_source_embeddings(self, texts: Any, *args: Any, **kwargs: Any) -> list[np.ndarray]:
        """Documents' vectors, of length 1."""
        return list(self.encoder.encode_documents(list(self.sanitize_input(texts))))

    def ndims(self) -> int:
        """The vectors' dimension."""
        return self.encoder.dimension


@cache
def _load(source: str | None, truncate_dim: int | None, device: str | None) -> Encoder:
    return Encoder.load(source, truncate_dim=truncate_dim, device=device)
