"""ragvec inside other frameworks, each the real package: instructions reach queries only, hits are the retriever's own."""

import asyncio

import numpy as np
import pytest

from ragvec.encoder import Encoder, convert
from ragvec.errors import RagvecError
from ragvec.index import Index
from ragvec.records import Document
from ragvec.retrieve import Retriever
from tests.tiny import TEXTS

pytestmark = pytest.mark.filterwarnings("default")  # other people's deprecations are theirs
INSTRUCTION = "Given a question, find passages that answer it:"
OTHER = "Find animals:"
QUESTION = "quick fox"


def package(name: str, extra: str) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed: pip install {extra}", exc_type=ImportError)


@pytest.fixture(autouse=True)
def _no_telemetry(monkeypatch):
    for name in ("HAYSTACK_TELEMETRY_ENABLED", "ANONYMIZED_TELEMETRY"):
        monkeypatch.setenv(name, "False")


@pytest.fixture(scope="module")
def encoder(tiny_decoder, tmp_path_factory) -> Encoder:
    folder = tmp_path_factory.mktemp("integrations") / "tiny"
    convert(str(tiny_decoder), folder, query_instruction=INSTRUCTION)
    return Encoder.load(folder)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("integrations") / "index"
    with Index.create(path, encoder=encoder) as index:
        index.add([Document(f"d{n}", text, f"Title {n}", {"year": 2000 + n}) for n, text in enumerate(TEXTS)])
    return path


@pytest.fixture(scope="module")
def hits(folder, encoder):
    with Index.open(folder) as index:
        yield Retriever(index, encoder).retrieve(QUESTION, 3, mode="hybrid", where="year >= 2001")


def check_sides(encoder, as_query, as_query_otherwise, as_documents) -> None:
    """What a framework gets is what the encoder makes: with the instruction for a query, without for documents."""
    np.testing.assert_allclose(as_query("fox"), encoder.encode_queries(["fox"])[0], atol=1e-5)
    np.testing.assert_allclose(as_query_otherwise("fox"), encoder.encode_queries(["fox"], instruction=OTHER)[0], atol=1e-5)
    np.testing.assert_allclose(as_documents(["fox", *TEXTS]), encoder.encode_documents(["fox", *TEXTS]), atol=1e-5)
    assert np.abs(np.asarray(as_query("fox")) - np.asarray(as_documents(["fox"])[0])).max() > 0.01


class TestLangChain:
    @pytest.fixture(autouse=True)
    def _installed(self):
        package("langchain_core", "'ragvec[langchain]'")

    def test_embeddings(self, encoder):
        from ragvec.integrations.langchain import RagvecEmbeddings

        ours = RagvecEmbeddings(encoder)
        check_sides(encoder, ours.embed_query, RagvecEmbeddings(encoder, instruction=OTHER).embed_query, ours.embed_documents)
        np.testing.assert_allclose(asyncio.run(ours.aembed_query("fox")), ours.embed_query("fox"), atol=1e-6)

    def test_embeddings_in_langchains_own_store(self, encoder):
        from langchain_core.vectorstores import InMemoryVectorStore

        from ragvec.integrations.langchain import RagvecEmbeddings

        store = InMemoryVectorStore(RagvecEmbeddings(encoder))
        store.add_texts(TEXTS)
        best = np.argsort(-(encoder.encode_documents(TEXTS) @ encoder.encode_queries([QUESTION])[0]))[:3]
        assert [one.page_content for one in store.similarity_search(QUESTION, 3)] == [TEXTS[row] for row in best]

    def test_retriever(self, folder, hits):
        from ragvec.integrations.langchain import RagvecRetriever

        retriever = RagvecRetriever.open(folder, k=3, mode="hybrid", where="year >= 2001")
        for found in (retriever.invoke(QUESTION), asyncio.run(retriever.ainvoke(QUESTION)), retriever.batch([QUESTION])[0]):
            assert [(one.id, one.page_content) for one in found] == [(hit.passage_id, hit.text) for hit in hits]
            assert found[0].metadata == {
                **hits[0].metadata, "doc_id": hits[0].doc_id, "title": hits[0].title, "score": pytest.approx(hits[0].score)
            }  # fmt: skip
        assert [one.id for one in retriever.invoke(QUESTION, k=1, where="year = 2003")] == ["d3"]
        chain = retriever | (lambda found: found[0].page_content)
        assert chain.invoke(QUESTION) == hits[0].text
        with pytest.raises(RagvecError, match="unknown mode 'sparse'"):
            RagvecRetriever.open(folder, mode="sparse")
        with pytest.raises(TypeError, match="wher"):
            RagvecRetriever.open(folder, wher="year > 1")

    def test_vector_store(self, encoder, tmp_path):
        from langchain_core.documents import Document as LangChainDocument

        from ragvec.integrations.langchain import RagvecEmbeddings, RagvecVectorStore

        store = RagvecVectorStore.from_texts(
            TEXTS, RagvecEmbeddings(encoder), [{"n": n} for n in range(len(TEXTS))], ids=list("abcdef"), path=tmp_path / "index"
        )
        cosines = encoder.encode_documents(TEXTS) @ encoder.encode_queries([QUESTION])[0]
        best = np.argsort(-cosines)
        found = store.similarity_search_with_score(QUESTION, 3)
        assert [(one.id, one.page_content, one.metadata) for one, _ in found] == [
            ("abcdef"[row], TEXTS[row], {"n": row}) for row in best[:3]
        ]
        np.testing.assert_allclose([score for _, score in found], cosines[best[:3]], atol=1e-3)
        assert [one.id for one in store.similarity_search(QUESTION, 9, where="n < 2")] == ["abcdef"[n] for n in best if n < 2]
        assert [one.id for one in store.get_by_ids(["f", "nothing", "a"])] == ["f", "a"]
        [new] = store.add_documents([LangChainDocument("a zebra", metadata={"n": 9})])
        assert store.get_by_ids([new])[0].page_content == "a zebra"
        store.add_texts(["a striped zebra"], ids=[new])
        assert [one.page_content for one in store.get_by_ids([new])] == ["a striped zebra"] and len(store.index) == 7
        assert store.delete([new, "nothing"]) and store.get_by_ids([new]) == []
        retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.0, "k": 2})
        assert [one.id for one in retriever.invoke(QUESTION)] == ["abcdef"[row] for row in best[:2]]
        assert len({one.id for one in store.max_marginal_relevance_search(QUESTION, 4)}) == 4
        with pytest.raises(RagvecError, match="2 texts, 1 metadata and 2 ids"):
            store.add_texts(["x", "y"], [{}])

    def test_other_embeddings_are_refused(self, tmp_path):
        from langchain_core.embeddings import DeterministicFakeEmbedding

        from ragvec.integrations.langchain import RagvecVectorStore

        with pytest.raises(RagvecError, match="needs RagvecEmbeddings, not DeterministicFakeEmbedding"):
            RagvecVectorStore.from_texts(["x"], DeterministicFakeEmbedding(size=4), path=tmp_path / "index")

    def test_dictionaries_filter(self, folder):
        from ragvec.integrations.langchain import RagvecRetriever, RagvecVectorStore

        with Index.open(folder) as index:
            store = RagvecVectorStore(index)
            found = store.similarity_search(QUESTION, 9, filter={"year": {"$gte": 2001, "$lt": 2003}})
            assert {one.id for one in found} == {"d1", "d2"}
            assert [one.id for one in store.similarity_search(QUESTION, 9, {"year": 2003})] == ["d3"]
            found = store.similarity_search_with_score(QUESTION, 9, filter={"year": {"$in": [2000, 2004]}}, where="year > 2000")
            assert [one.id for one, _ in found] == ["d4"]
            options = {"k": 9, "filter": {"$or": [{"year": 2000}, {"year": {"$eq": 2005}}]}}
            assert {one.id for one in store.as_retriever(search_kwargs=options).invoke(QUESTION)} == {"d0", "d5"}
            mmr = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "filter": {"year": {"$ne": 2000}}})
            assert "d0" not in {one.id for one in mmr.invoke(QUESTION)}
        retriever = RagvecRetriever.open(folder, k=9, filter={"year": {"$lte": 2001}}, where="year >= 2001")
        assert [one.id for one in retriever.invoke(QUESTION)] == ["d1"]
        assert [one.id for one in retriever.invoke(QUESTION, filter={"year": 2002})] == ["d2"]
        with pytest.raises(RagvecError, match="unknown operator '\\$regex'"):
            retriever.invoke(QUESTION, filter={"year": {"$regex": "2"}})


class TestLlamaIndex:
    @pytest.fixture(autouse=True)
    def _installed(self):
        package("llama_index.core", "'ragvec[llamaindex]'")

    def test_embedding(self, encoder):
        from ragvec.integrations.llamaindex import RagvecEmbedding

        ours, other = RagvecEmbedding(encoder, embed_batch_size=2), RagvecEmbedding(encoder, instruction=OTHER)
        check_sides(encoder, ours.get_query_embedding, other.get_query_embedding, ours.get_text_embedding_batch)
        np.testing.assert_allclose(ours.get_text_embedding("fox"), encoder.encode_documents(["fox"])[0], atol=1e-5)
        np.testing.assert_allclose(asyncio.run(ours.aget_query_embedding("fox")), encoder.encode_queries(["fox"])[0], atol=1e-5)
        np.testing.assert_allclose(
            asyncio.run(ours.aget_text_embedding_batch(TEXTS)), encoder.encode_documents(TEXTS), atol=1e-5
        )

    def test_embedding_in_llamaindexs_own_index(self, encoder):
        from llama_index.core import VectorStoreIndex
        from llama_index.core.schema import TextNode

        from ragvec.integrations.llamaindex import RagvecEmbedding

        nodes = [TextNode(id_=str(n), text=text) for n, text in enumerate(TEXTS)]
        index = VectorStoreIndex(nodes, embed_model=RagvecEmbedding(encoder))
        found = index.as_retriever(similarity_top_k=3).retrieve(QUESTION)
        cosines = encoder.encode_documents(TEXTS) @ encoder.encode_queries([QUESTION])[0]
        assert [int(one.node.node_id) for one in found] == np.argsort(-cosines)[:3].tolist()
        np.testing.assert_allclose([one.score for one in found], np.sort(cosines)[::-1][:3], atol=1e-5)

    def test_retriever(self, folder, hits):
        from ragvec.integrations.llamaindex import RagvecRetriever

        retriever = RagvecRetriever.open(folder, k=3, mode="hybrid", where="year >= 2001")
        for found in (retriever.retrieve(QUESTION), asyncio.run(retriever.aretrieve(QUESTION))):
            assert [(one.node.node_id, one.node.get_content()) for one in found] == [(hit.passage_id, hit.text) for hit in hits]
            assert [one.score for one in found] == pytest.approx([hit.score for hit in hits])
            assert [one.node.ref_doc_id for one in found] == [hit.doc_id for hit in hits]
            assert found[0].node.metadata == {**hits[0].metadata, "doc_id": hits[0].doc_id, "title": hits[0].title}
        with pytest.raises(TypeError, match="wher"):
            RagvecRetriever.open(folder, wher="year > 1")

    def test_metadata_filters(self, folder):
        from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

        from ragvec.integrations.llamaindex import RagvecRetriever

        def found(filters: MetadataFilters, **options) -> set[str]:
            return {one.node_id for one in RagvecRetriever.open(folder, k=9, filters=filters, **options).retrieve(QUESTION)}

        def year(operator: FilterOperator, value) -> MetadataFilter:
            return MetadataFilter(key="year", operator=operator, value=value)

        early, late = year(FilterOperator.LT, 2001), year(FilterOperator.GTE, 2004)
        either = MetadataFilters(filters=[early, late], condition=FilterCondition.OR)
        assert found(either) == {"d0", "d4", "d5"} and found(either, where="year > 2000") == {"d4", "d5"}
        assert found(MetadataFilters(filters=[either, year(FilterOperator.IN, [2000, 2001])])) == {"d0"}
        assert found(MetadataFilters(filters=[early, late], condition=FilterCondition.NOT)) == {f"d{n}" for n in range(6)}
        assert found(MetadataFilters(filters=[year(FilterOperator.NIN, [2000, 2001, 2002, 2003])])) == {"d4", "d5"}
        with pytest.raises(RagvecError, match="unknown operator 'text_match' for field year"):
            found(MetadataFilters(filters=[year(FilterOperator.TEXT_MATCH, "2")]))


class TestHaystack:
    @pytest.fixture(autouse=True)
    def _installed(self):
        package("haystack", "'ragvec[haystack]'")

    def test_embedders(self, encoder):
        from haystack import Document as HaystackDocument

        from ragvec.integrations.haystack import RagvecDocumentEmbedder, RagvecTextEmbedder

        documents = RagvecDocumentEmbedder(encoder.source)

        def embed(texts):
            made = documents.run([HaystackDocument(content=text) for text in texts])["documents"]
            assert [one.content for one in made] == texts
            return [one.embedding for one in made]

        queries, other = RagvecTextEmbedder(encoder.source), RagvecTextEmbedder(encoder.source, instruction=OTHER)
        check_sides(encoder, lambda q: queries.run(q)["embedding"], lambda q: other.run(q)["embedding"], embed)
        titled = RagvecDocumentEmbedder(encoder.source, meta_fields_to_embed=["title", "none"], options={"truncate_dim": 8})
        [made] = titled.run([HaystackDocument(content="fox", meta={"title": "Animals"})])["documents"]
        np.testing.assert_allclose([made.embedding], encoder.encode_documents(["Animals fox"], truncate_dim=8), atol=1e-5)

    def test_a_pipeline_survives_saving(self, encoder, folder, hits):
        from haystack import Pipeline
        from haystack.components.builders import PromptBuilder

        from ragvec.integrations.haystack import RagvecRetriever

        pipeline = Pipeline()
        options = {"mode": "hybrid", "where": "year >= 2001"}
        pipeline.add_component("retriever", RagvecRetriever(str(folder), top_k=3, options=options))
        template = "{% for document in documents %}[{{ document.meta.doc_id }}]{% endfor %} {{ question }}"
        pipeline.add_component("prompt", PromptBuilder(template, required_variables=["documents", "question"]))
        pipeline.connect("retriever.documents", "prompt.documents")
        for one in (pipeline, Pipeline.loads(pipeline.dumps(), allowed_modules=["ragvec.integrations.haystack"])):
            made = one.run(
                {"retriever": {"query": QUESTION}, "prompt": {"question": QUESTION}}, include_outputs_from={"retriever"}
            )
            assert made["prompt"]["prompt"] == "".join(f"[{hit.doc_id}]" for hit in hits) + f" {QUESTION}"
            found = made["retriever"]["documents"]
            assert [(one.id, one.content) for one in found] == [(hit.passage_id, hit.text) for hit in hits]
            assert [one.score for one in found] == pytest.approx([hit.score for hit in hits])
        assert len(RagvecRetriever(str(folder)).run(QUESTION, top_k=9, where="year = 2003")["documents"]) == 1
        with pytest.raises(TypeError, match="wher"):
            RagvecRetriever(str(folder), options={"wher": "year > 1"})

    def test_filters(self, folder):
        from ragvec.integrations.haystack import RagvecRetriever

        late = {"field": "meta.year", "operator": ">=", "value": 2004}
        retriever = RagvecRetriever(str(folder), filters=late)
        assert {one.id for one in retriever.run(QUESTION)["documents"]} == {"d4", "d5"}
        both = {"operator": "AND", "conditions": [late, {"field": "meta.year", "operator": "<", "value": 2005}]}
        assert [one.id for one in retriever.run(QUESTION, filters=both)["documents"]] == ["d4"]
        assert [one.id for one in retriever.run(QUESTION, where="year > 2004")["documents"]] == ["d5"]


class TestChroma:
    @pytest.fixture(autouse=True)
    def _installed(self):
        package("chromadb", "'ragvec[chroma]'")

    def test_a_collection(self, encoder, tmp_path):
        import chromadb

        from ragvec.integrations.chroma import RagvecEmbeddingFunction

        ours = RagvecEmbeddingFunction(encoder.source)
        other = RagvecEmbeddingFunction(encoder.source, instruction=OTHER)
        check_sides(encoder, lambda q: ours.embed_query([q])[0], lambda q: other.embed_query([q])[0], ours)

        collection = chromadb.PersistentClient(str(tmp_path)).create_collection("texts", embedding_function=ours)
        collection.add(ids=[str(n) for n in range(len(TEXTS))], documents=TEXTS)
        cosines = encoder.encode_documents(TEXTS) @ encoder.encode_queries([QUESTION])[0]
        best = np.argsort(-cosines)[:3]
        again = chromadb.PersistentClient(str(tmp_path)).get_collection("texts")  # the function comes from its configuration
        for one in (collection, again):
            found = one.query(query_texts=[QUESTION], n_results=3)
            assert found["ids"][0] == [str(row) for row in best]
            np.testing.assert_allclose(found["distances"][0], 1 - cosines[best], atol=1e-5)

    def test_another_encoder_is_refused(self, encoder):
        from ragvec.integrations.chroma import RagvecEmbeddingFunction

        config = RagvecEmbeddingFunction(encoder.source).get_config()
        assert RagvecEmbeddingFunction.build_from_config(config).get_config() == config
        with pytest.raises(RagvecError, match="the collection's vectors are of encoder"):
            RagvecEmbeddingFunction.build_from_config({**config, "fingerprint": "0" * 64})


class TestLanceDB:
    @pytest.fixture(autouse=True)
    def _installed(self):
        package("lancedb", "'ragvec[lancedb]'")

    def test_a_table(self, encoder, tmp_path):
        import lancedb
        from lancedb.pydantic import LanceModel, Vector

        from ragvec.integrations.lancedb import RagvecEmbeddings

        ours = RagvecEmbeddings.create(source=encoder.source)
        other = RagvecEmbeddings.create(source=encoder.source, instruction=OTHER)
        check_sides(
            encoder,
            lambda q: ours.compute_query_embeddings(q)[0],
            lambda q: other.compute_query_embeddings(q)[0],
            ours.compute_source_embeddings,
        )

        class Row(LanceModel):
            text: str = ours.SourceField()
            vector: Vector(ours.ndims()) = ours.VectorField()

        lancedb.connect(tmp_path).create_table("texts", schema=Row).add([{"text": text} for text in TEXTS])
        table = lancedb.connect(tmp_path).open_table("texts")  # the function comes from the table's metadata
        found = table.search(QUESTION).distance_type("cosine").limit(3).to_list()
        cosines = encoder.encode_documents(TEXTS) @ encoder.encode_queries([QUESTION])[0]
        best = np.argsort(-cosines)[:3]
        assert [row["text"] for row in found] == [TEXTS[row] for row in best]
        np.testing.assert_allclose([row["_distance"] for row in found], 1 - cosines[best], atol=1e-5)
        np.testing.assert_allclose(table.to_arrow()["vector"].to_pylist(), encoder.encode_documents(TEXTS), atol=1e-5)
