"""ragvec in LangChain: embeddings, a retriever and a vector store; needs ragvec's extra `langchain`.

from ragvec.integrations.langchain import RagvecRetriever

retriever = RagvecRetriever.open("ragvec-index", k=5)
retriever.invoke("how do plants make food?")
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field

from ragvec import records
from ragvec.encoder.protocol import TextEncoder
from ragvec.errors import RagvecError
from ragvec.index import Index
from ragvec.integrations.filters import from_dict, narrowed
from ragvec.integrations.opening import open_index
from ragvec.retrieve import DEFAULTS, Options, Request, Retriever
from ragvec.retrieve.lookup import read_document

if TYPE_CHECKING:
    from typing_extensions import Unpack

_DENSE: Options = {"mode": "dense"}


class RagvecEmbeddings(Embeddings):
    """An Encoder for any of LangChain's vector stores; queries carry the instruction, documents never do."""

    def __init__(self, encoder: TextEncoder, *, instruction: str | None = None) -> None:
        """instruction: before each query; None = the encoder's own, "" = none."""
        self.encoder = encoder
        self.instruction = instruction

    def embed_query(self, text: str) -> list[float]:
        """A query's vector, of length 1."""
        vector: list[float] = self.encoder.encode_queries([text], instruction=self.instruction)[0].tolist()
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Documents' vectors, of length 1."""
        vectors: list[list[float]] = self.encoder.encode_documents(texts).tolist()
        return vectors


class RagvecRetriever(BaseRetriever):
    """Searches a ragvec index: dense, lexical or hybrid, with filters, reranking and all else a Retriever does.

    retriever  what searches
    k          hits for a query
    filter     a dictionary as Chroma and PGVector take it, such as {"lang": "en", "year": {"$gte": 2020}}
    options    further fields of `ragvec.retrieve.Request`: mode, where, group_by …
    `invoke` takes k, filter and options too, for one query; its filter holds in the place of this.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    retriever: Retriever
    k: int = DEFAULTS["k"]
    filter: dict[str, Any] | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        k: int = DEFAULTS["k"],
        filter: dict[str, Any] | None = None,
        **options: "Unpack[Options]",
    ) -> "RagvecRetriever":
        """Over an index folder, with the encoder it was built with. Raises RagvecError if there is none."""
        return cls(retriever=open_index(path, Request(k=k, **options)), k=k, filter=filter, options=options)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: dict[str, Any] | None = None,
        **options: "Unpack[Options]",
    ) -> list[Document]:
        chosen: dict[str, Any] = {**self.options, **options}
        request = Request(query=query, k=self.k if k is None else k, **chosen)
        hits = _answer(self.retriever, request, self.filter if filter is None else filter)
        return [_from_hit(hit) for hit in hits]


class RagvecVectorStore(VectorStore):
    """A ragvec index as a vector store: documents added and deleted, each under its id.

    Searches are dense, so that scores are cosines; `mode`, `where` and further fields of `ragvec.retrieve.Request` change that.
    `filter` is a dictionary as Chroma and PGVector take it: {"lang": "en", "year": {"$gte": 2020}}.
    """

    def __init__(self, index: Index) -> None:
        """index: with the encoder that made it, which encodes what is added and asked."""
        self.index = index
        self._retriever = Retriever(index, index.encoder)

    @property
    def embeddings(self) -> RagvecEmbeddings:
        """What encodes."""
        return RagvecEmbeddings(self.index.encoder)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Add texts in one commit and return their ids; one whose id is there is replaced, one without gets a random one."""
        texts = list(texts)
        metadatas = metadatas or [{} for _ in texts]
        names = [name or str(uuid.uuid4()) for name in (ids or [None] * len(texts))]
        if not len(texts) == len(metadatas) == len(names):
            raise RagvecError(f"{len(texts)} texts, {len(metadatas)} metadata and {len(names)} ids: give one of each a text")
        rows = zip(names, texts, metadatas, strict=True)
        newest = {name: records.Document(name, text, metadata=metadata) for name, text, metadata in rows}
        self.index.add(newest.values())
        return names

    def delete(self, ids: list[str] | None = None) -> bool:
        """Delete documents in one commit; ids that are not there do no harm. Raises RagvecError without ids."""
        if ids is None:
            raise RagvecError("delete needs ids: to empty an index, make a new one")
        self.index.delete(ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents of these ids, those that are there."""
        passages = [passage for name in dict.fromkeys(ids) for passage in read_document(self.index, name)]
        return [Document(id=passage.passage_id, page_content=passage.text, metadata=passage.metadata) for passage in passages]

    def similarity_search(
        self, query: str, k: int = 4, filter: dict[str, Any] | None = None, **options: "Unpack[Options]"
    ) -> list[Document]:
        """The k documents nearest to a query."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter, **options)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: dict[str, Any] | None = None, **options: "Unpack[Options]"
    ) -> list[tuple[Document, float]]:
        """The k documents nearest to a query with their scores; higher is better."""
        chosen: Options = {**_DENSE, **options}
        request = Request(query=query, k=k, **chosen)
        hits = _answer(self._retriever, request, filter)
        return [(Document(id=hit.passage_id, page_content=hit.text, metadata=hit.metadata), hit.score) for hit in hits]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: dict[str, Any] | None = None,
        **options: "Unpack[Options]",
    ) -> list[Document]:
        """k documents near to a query and unlike each other; the pool is five times k, whatever fetch_k says."""
        chosen: Options = {**options, "diversity": 1 - lambda_mult}
        return self.similarity_search(query, k, filter, **chosen)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path: str | Path = "ragvec-index",
    ) -> "RagvecVectorStore":
        """A new index in the folder `path`. Raises RagvecError for another embedding, or if the folder holds anything."""
        if not isinstance(embedding, RagvecEmbeddings):
            raise RagvecError(f"a ragvec index needs RagvecEmbeddings, not {type(embedding).__name__}")
        store = cls(Index.create(path, encoder=embedding.encoder))
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda cosine: min(max(cosine, 0.0), 1.0)


def _answer(retriever: Retriever, request: Request, given: dict[str, Any] | None) -> list[records.Hit]:
    return retriever.answer(narrowed(retriever, request, None if given is None else from_dict(given)))


def _from_hit(hit: records.Hit) -> Document:
    about = {"doc_id": hit.doc_id, "title": hit.title, "score": hit.score}
    return Document(id=hit.passage_id, page_content=hit.text, metadata={**hit.metadata, **about})
