"""ragvec in Haystack: two embedders and a retriever; needs ragvec's extra `haystack`.

from ragvec.integrations.haystack import RagvecRetriever

RagvecRetriever("ragvec-index", top_k=5).run("how do plants make food?")["documents"]

A pipeline that is loaded from a file must trust it: Pipeline.load(file, allowed_modules=["ragvec.integrations.haystack"]).
"""

from dataclasses import replace
from typing import Any

from haystack import Document, component

from ragvec.encoder import Encoder
from ragvec.integrations.filters import from_haystack, narrowed
from ragvec.integrations.opening import open_index
from ragvec.retrieve import DEFAULTS, Request, Retriever


@component
class RagvecTextEmbedder:
    """Embeds queries, with the instruction."""

    def __init__(
        self, source: str | None = None, instruction: str | None = None, options: dict[str, Any] | None = None
    ) -> None:
        """source and options are those of `Encoder.load`; instruction None = the encoder's own, "" = none."""
        self.source = source
        self.instruction = instruction
        self.options = options
        self._encoder: Encoder | None = None

    def warm_up(self) -> None:
        """Load the encoder."""
        self._loaded()

    def _loaded(self) -> Encoder:
        self._encoder = self._encoder or Encoder.load(self.source, **(self.options or {}))
        return self._encoder

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """The query's vector, of length 1."""
        return {"embedding": self._loaded().encode_queries([text], instruction=self.instruction)[0].tolist()}


@component
class RagvecDocumentEmbedder:
    """Embeds documents, which never carry an instruction."""

    def __init__(
        self,
        source: str | None = None,
        meta_fields_to_embed: list[str] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """meta_fields_to_embed: such as ["title"], put before the content; source and options are those of `Encoder.load`."""
        self.source = source
        self.meta_fields_to_embed = meta_fields_to_embed
        self.options = options
        self._encoder: Encoder | None = None

    def warm_up(self) -> None:
        """Load the encoder."""
        self._loaded()

    def _loaded(self) -> Encoder:
        self._encoder = self._encoder or Encoder.load(self.source, **(self.options or {}))
        return self._encoder

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """The documents with their vectors, of length 1."""
        vectors = self._loaded().encode_documents([self._text(document) for document in documents]).tolist()
        return {"documents": [replace(one, embedding=vector) for one, vector in zip(documents, vectors, strict=True)]}

    def _text(self, document: Document) -> str:
        fields = [document.meta.get(name) for name in self.meta_fields_to_embed or []]
        return " ".join([str(field) for field in fields if field] + [document.content or ""]).strip()


@component
class RagvecRetriever:
    """Searches a ragvec index: dense, lexical or hybrid, with filters, reranking and all else a Retriever does."""

    def __init__(
        self,
        index: str,
        top_k: int = DEFAULTS["k"],
        rerank: str | None = None,
        options: dict[str, Any] | None = None,
        filters: dict[str, Any] | None = None,
    ) -> None:
        """index: its folder; options: further fields of `ragvec.retrieve.Request`, such as mode and where; filters: Haystack's.

        Raises RagvecError, or TypeError, for wrong options.
        """
        self._request = Request(k=top_k, rerank=rerank, **(options or {}))
        self.index = index
        self.top_k = top_k
        self.rerank = rerank
        self.options = options
        self.filters = filters
        self._retriever: Retriever | None = None

    def warm_up(self) -> None:
        """Open the index and load the encoder it was built with. Raises RagvecError if there is none."""
        self._opened()

    def _opened(self) -> Retriever:
        if self._retriever is None:
            self._retriever = open_index(self.index, self._request)
        return self._retriever

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, top_k: int | None = None, where: str | None = None, filters: dict[str, Any] | None = None
    ) -> dict[str, list[Document]]:
        """The passages that answer a query, best first; where and filters: in the place of those given before."""
        retriever, mine = self._opened(), self._request
        request = replace(mine, query=query, k=mine.k if top_k is None else top_k, where=mine.where if where is None else where)
        chosen = self.filters if filters is None else filters
        hits = retriever.answer(narrowed(retriever, request, from_haystack(chosen) if chosen else None))
        return {
            "documents": [
                Document(
                    id=hit.passage_id,
                    content=hit.text,
                    meta={**hit.metadata, "doc_id": hit.doc_id, "title": hit.title},
                    score=hit.score,
                )
                for hit in hits
            ]
        }
