"""ragvec in LlamaIndex: an embedding and a retriever; needs ragvec's extra `llamaindex`.

from ragvec.integrations.llamaindex import RagvecRetriever

retriever = RagvecRetriever.open("ragvec-index", k=5)
retriever.retrieve("how do plants make food?")
"""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llama_index.core.base.embeddings.base import DEFAULT_EMBED_BATCH_SIZE, BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import MetadataFilters

from ragvec.encoder.protocol import TextEncoder
from ragvec.integrations.filters import from_llamaindex, narrowed
from ragvec.integrations.opening import open_index
from ragvec.records import Hit
from ragvec.retrieve import DEFAULTS, Options, Request, Retriever

if TYPE_CHECKING:
    from typing_extensions import Unpack


class RagvecEmbedding(BaseEmbedding):
    """An Encoder for any of LlamaIndex's indices; queries carry the instruction, texts never do.

    LlamaIndex's embeddings_cache is not offered: it would give a query the vector of a text that reads the same.
    """

    _encoder: TextEncoder = PrivateAttr()
    _instruction: str | None = PrivateAttr()

    def __init__(
        self, encoder: TextEncoder, *, instruction: str | None = None, embed_batch_size: int = DEFAULT_EMBED_BATCH_SIZE
    ) -> None:
        """instruction: before each query; None = the encoder's own, "" = none."""
        super().__init__(model_name=encoder.source, embed_batch_size=embed_batch_size)
        self._encoder = encoder
        self._instruction = instruction

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for this class."""
        return "RagvecEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._encoder.encode_queries([query], instruction=self._instruction)[0].tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._encoder.encode_documents(texts).tolist()
        return vectors

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class RagvecRetriever(BaseRetriever):
    """Searches a ragvec index: dense, lexical or hybrid, with filters, reranking and all else a Retriever does."""

    def __init__(
        self,
        retriever: Retriever,
        *,
        k: int = DEFAULTS["k"],
        filters: MetadataFilters | None = None,
        **options: "Unpack[Options]",
    ) -> None:
        """options: further fields of `ragvec.retrieve.Request`. Raises RagvecError, or TypeError, for wrong ones."""
        self.request = Request(k=k, **options)
        self.filters = filters
        self.retriever = retriever
        super().__init__()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        k: int = DEFAULTS["k"],
        filters: MetadataFilters | None = None,
        **options: "Unpack[Options]",
    ) -> "RagvecRetriever":
        """Over an index folder, with the encoder it was built with. Raises RagvecError if there is none."""
        return cls(open_index(path, Request(k=k, **options)), k=k, filters=filters, **options)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        further = None if self.filters is None else from_llamaindex(self.filters)
        request = narrowed(self.retriever, replace(self.request, query=query_bundle.query_str), further)
        return [NodeWithScore(node=_node(hit), score=hit.score) for hit in self.retriever.answer(request)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _node(hit: Hit) -> TextNode:
    about = {"doc_id": hit.doc_id, "title": hit.title}
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=hit.doc_id)}
    return TextNode(id_=hit.passage_id, text=hit.text, metadata={**hit.metadata, **about}, relationships=source)
