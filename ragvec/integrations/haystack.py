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
from ragvec.integrations.opening import check_options, open_index
from ragvec.retrieve import Retriever


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
        self._encoder = self._encoder or Encoder.load(self.source, **(self.options or {}))

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """The query's vector, of length 1."""
        self.warm_up()
        return {"embedding": self._encoder.encode_queries([text], instruction=self.instruction)[0].tolist()}


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
        self._encoder = self._encoder or Encoder.load(self.source, **(self.options or {}))

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """The documents with their vectors, of length 1."""
        self.warm_up()
        vectors = self._encoder.encode_documents([self._text(document) for document in documents]).tolist()
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
        top_k: int = 10,
        rerank: str | None = None,
        options: dict[str, Any] | None = None,
        filters: dict[str, Any] | None = None,
    ) -> None:
        """index: its folder; options: further arguments of `Retriever.retrieve`, such as mode and where; filters: Haystack's.

        Raises RagvecError, or TypeError, for wrong options.
        """
        check_options(top_k, options or {})
        self.index = index
        self.top_k = top_k
        self.rerank = rerank
        self.options = options
        self.filters = filters
        self._retriever: Retriever | None = None

    def warm_up(self) -> None:
        """Open the index and load the encoder it was built with. Raises RagvecError if there is none."""
        if self._retriever is None:
            self._retriever = open_index(self.index, self.top_k, self.rerank, self.options or {})

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, top_k: int | None = None, where: str | None = None, filters: dict[str, Any] | None = None
    ) -> dict[str, list[Document]]:
        """The passages that answer a query, best first; where and filters: in the place of those given before."""
        self.warm_up()
        options = {**(self.options or {}), **({} if where is None else {"where": where})}
        chosen = self.filters if filters is None else filters
        further = from_haystack(chosen) if chosen else None
        hits = self._retriever.retrieve(query, top_k or self.top_k, **narrowed(self._retriever, options, further))
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
