"""Pages, least scores, groups, diversity, weighted fusion, rerankers and snippets, each against what it is defined to be."""

from pathlib import Path

import numpy as np
import pytest

from ragvec.encoder import Encoder
from ragvec.errors import RagvecError
from ragvec.index import Index
from ragvec.records import Hit, Passage
from ragvec.retrieve import Retriever, load_reranker, open_retriever
from ragvec.retrieve.diversity import diversify
from ragvec.retrieve.fusion import Candidate, fused_scores, joined
from ragvec.retrieve.rerank import blend, maxsim
from ragvec.retrieve.snippets import best_sentences, sentences

WORDS = ["red", "brown", "dog", "lazy", "bear", "protein", "grams", "women", "day", "water", "river", "capital", "city"]


def corpus() -> list[Passage]:
    """60 documents of random words, 1 … 3 passages each; the first 25 are about foxes, document 0 in 12 passages, and most."""
    dice = np.random.default_rng(0)
    passages = []
    for number in range(60):
        for part in range(12 if number == 0 else int(dice.integers(1, 4))):
            foxes = 4 if number == 0 else int(number < 25)
            text = " ".join(["fox"] * foxes + dice.choice(WORDS, 7 - foxes).tolist())
            passages.append(Passage(f"{number}#{part}", str(number), text, metadata={"number": number}))
    return passages


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder)


@pytest.fixture(scope="module")
def retriever(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory):
    with Index.create(tmp_path_factory.mktemp("index") / "index", encoder=encoder) as index:
        index.add_passages(corpus())
        yield Retriever(index, encoder)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.passage_id for hit in hits]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_pages_laid_end_to_end_are_the_whole(retriever: Retriever, mode: str) -> None:
    whole = retriever.retrieve("brown fox", 21, mode=mode)
    pages = [hit for offset in (0, 7, 14) for hit in retriever.retrieve("brown fox", 7, mode=mode, offset=offset)]
    assert pages == whole and [hit.rank for hit in pages] == list(range(1, 22))
    assert retriever.retrieve("brown fox", 7, mode=mode, offset=1000) == []


def test_least_score(retriever: Retriever) -> None:
    hits = retriever.retrieve("brown fox", 50, mode="dense")
    least = hits[9].score
    assert retriever.retrieve("brown fox", 50, mode="dense", min_score=least) == [hit for hit in hits if hit.score >= least]
    assert retriever.retrieve("brown fox", mode="dense", min_score=1.1) == []


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_groups_are_the_best_passages_of_documents(retriever: Retriever, mode: str) -> None:
    everything = retriever.retrieve("fox", 1000, mode=mode)
    best = list({hit.doc_id: hit.passage_id for hit in reversed(everything)}.items())
    grouped = retriever.retrieve("fox", 12, mode=mode, group_by="doc_id")
    order = sorted(best, key=lambda item: ids(everything).index(item[1]))
    assert [(hit.doc_id, hit.passage_id) for hit in grouped] == order[:12]
    assert len({hit.doc_id for hit in grouped}) == len(grouped) == 12
    assert len(retriever.retrieve("fox", 1000, mode=mode, group_by="doc_id")) == (25 if mode == "lexical" else 60)


def test_groups_are_filled_up_however_many_passages_one_document_has(retriever: Retriever) -> None:
    hits = retriever.retrieve("fox", 2, mode="lexical", group_by="doc_id")  # document 0's 12 passages fill the first look
    assert hits[0].doc_id == "0" and len(hits) == 2


def test_weighted_fusion_by_hand() -> None:
    def fused(weight: float, words_weight: float, near: dict[int, float], words: dict[int, float], others: dict[int, float]):
        ids, scores = np.array(list(near), dtype=np.int64), np.array(list(near.values()))
        found = joined(ids, scores, list(words.items()), lambda ids: np.array([others[one] for one in ids.tolist()]))
        return {one.passage: one.score for one in found.best(fused_scores(found, weight, words_weight), 10)}

    near, words, others = {1: 0.9, 2: 0.7, 3: 0.5}, {2: 8.0, 4: 2.0}, {4: -0.2}
    all_words = fused(0.25, 8.0, near, words, others)
    assert all_words == pytest.approx({2: 0.175 + 0.75, 1: 0.225, 4: -0.05 + 0.75 / 4, 3: 0.125})
    assert list(all_words) == [2, 1, 4, 3]
    half = fused(0.25, 16.0, near, words, others)
    assert half == pytest.approx({2: 0.175 + 0.75 * 0.625 / 0.75, 1: 0.225, 4: -0.05 + 0.75 / 4 * 0.625 / 0.75, 3: 0.125})
    assert list(fused(0.5, 1.0, {5: 0.9, 4: 0.9, 2: 0.9}, {5: 1.0, 4: 1.0}, {}).items()) == [(4, 0.95), (5, 0.95), (2, 0.45)]
    assert fused(0.5, 0.0, {1: 30.0, 2: -15.0}, {}, {}) == {1: 0.5, 2: -0.25}, "products of vectors of any length"
    assert fused(0.5, 0.0, {}, {}, {}) == {}


@pytest.mark.parametrize("fusion", ["rrf", "weighted"])
def test_all_weight_on_one_side_is_that_side(retriever: Retriever, fusion: str) -> None:
    for weight, mode in ((1.0, "dense"), (0.0, "lexical")):
        hybrid = retriever.retrieve("brown bear", 10, fusion=fusion, dense_weight=weight)
        assert ids(hybrid) == ids(retriever.retrieve("brown bear", 10, mode=mode))


def test_diversity_by_hand() -> None:
    vectors = np.array([[1, 0], [0.999, 0.0447], [0, 1]], dtype=np.float32)
    ranking = [Candidate(7, 0.9), Candidate(8, 0.8), Candidate(9, 0.5)]
    assert diversify(ranking, vectors, 3, 0.0) == ranking
    assert [one.passage for one in diversify(ranking, vectors, 3, 0.6)] == [7, 9, 8]
    assert diversify([], vectors[:0], 3, 0.5) == []


def test_diversity_makes_hits_differ(retriever: Retriever, encoder: Encoder) -> None:
    def likeness(hits: list[Hit]) -> float:
        vectors = encoder.encode_documents([hit.text for hit in hits])
        return float((vectors @ vectors.T)[np.triu_indices(len(hits), 1)].mean())

    plain, diverse = (retriever.retrieve("fox", 6, mode="dense", diversity=d) for d in (0.0, 0.9))
    assert plain[0] == diverse[0] and likeness(diverse) < likeness(plain)


def test_maxsim_is_the_mean_of_the_best_cosines(encoder: Encoder) -> None:
    texts = ["the brown fox", "a lazy dog", ""]
    scores = maxsim(encoder, "fox dog", texts)
    asked = encoder.encode_tokens(["fox dog"], instruction=encoder.settings.query_instruction)[0].vectors
    for score, tokens in zip(scores[:2], encoder.encode_tokens(texts[:2]), strict=True):
        best = [max(float(a @ b) for b in tokens.vectors) for a in asked]
        assert score == pytest.approx(np.mean(best), abs=1e-5)
    assert scores[2] == -1.0


def test_a_blend_is_the_weighted_sum_of_what_is_scaled_to_the_best() -> None:
    scores = np.array([0.0, 1.0], dtype=np.float32)
    assert blend([0.5, 0.0], scores, least=-1.0).tolist() == pytest.approx([0.8 + 0.2 * 0.5, 0.8 / 1.5 + 0.2])
    assert blend([4.0, 2.0], scores, least=0.0).tolist() == pytest.approx([0.8 + 0.2 * 0.5, 0.8 * 0.5 + 0.2])
    assert blend([30.0, -60.0], scores, least=-1.0).tolist() == pytest.approx([0.8 + 0.2 * 0.5, 0.8 * 60 / 150 + 0.2])
    assert blend([0.0, 0.0], scores - 1, least=0.0).tolist() == pytest.approx([0.0, 0.2])


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_reranked_hits_come_in_the_rerankers_order(retriever: Retriever, encoder: Encoder, mode: str) -> None:
    sharp = Retriever(retriever.index, encoder, reranker=load_reranker("maxsim", encoder))
    hits = sharp.retrieve("lazy bear", 5, mode=mode, rerank_depth=20)
    pool = retriever.retrieve("lazy bear", 20, mode=mode)
    scores = maxsim(encoder, "lazy bear", [hit.text for hit in pool])
    found, least = np.array([hit.score for hit in pool]), -1.0 if mode == "dense" else 0.0
    blended = 0.8 * (found - least) / (found.max() - least) + 0.2 * (scores + 1) / (scores.max() + 1)
    assert [hit.score for hit in hits] == pytest.approx(sorted(blended.tolist(), reverse=True)[:5], abs=1e-5)
    assert [hit.doc_id for hit in hits] == [pool[row].doc_id for row in np.argsort(-blended, kind="stable")[:5]]
    with pytest.raises(RagvecError, match="maxsim needs an encoder"):
        load_reranker("maxsim", None)


def test_open_retriever_with_maxsim_loads_the_encoder_for_lexical_too(retriever: Retriever) -> None:
    sharp = open_retriever(retriever.index.path, mode="lexical", rerank="maxsim")
    assert sharp.encoder is not None and len(sharp.retrieve("lazy bear", 3, mode="lexical")) == 3
    with pytest.raises(RagvecError, match="column 1: no field yaer"):
        open_retriever(retriever.index.path, where="yaer = 1", encoder="is/not/loaded")


def test_cross_encoder(retriever: Retriever, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    folder = save_tiny_cross_encoder(tmp_path / "cross", labels=1)
    score = load_reranker(str(folder), None)
    sharp = Retriever(retriever.index, retriever.encoder, reranker=score)
    hits = sharp.retrieve("lazy bear", 5, mode="lexical", rerank_depth=30)
    pool = retriever.retrieve("lazy bear", 30, mode="lexical")
    expected = sorted(score("lazy bear", [hit.text for hit in pool]).tolist(), reverse=True)[:5]
    assert [hit.score for hit in hits] == pytest.approx(expected, abs=1e-5) and len(set(expected)) == 5
    with pytest.raises(RagvecError, match="gives 3 scores a pair, not 1"):
        load_reranker(str(save_tiny_cross_encoder(tmp_path / "classes", labels=3)), None)
    with pytest.raises(RagvecError, match="can't load the cross-encoder .*nowhere"):
        load_reranker(str(tmp_path / "nowhere"), None)


def save_tiny_cross_encoder(folder: Path, labels: int) -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from tests.tiny import make_tokenizer

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=512, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=labels
    )
    config.initializer_range = 0.5
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer = make_tokenizer()
    tokenizer.pad_token = "</s>"
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ('He said "stop." Then left.', ['He said "stop."', "Then left."]),
        ("Dr. Kim met Prof. Lee at 3.5 km, e.g. here. Done.", ["Dr. Kim met Prof. Lee at 3.5 km, e.g. here.", "Done."]),
        ("서울은 수도이다. 한강이 흐른다.", ["서울은 수도이다.", "한강이 흐른다."]),
        ("東京は首都です。水がきれい!本当", ["東京は首都です。", "水がきれい!本当"]),
        ("「はい。」と言った。終わり", ["「はい。」", "と言った。", "終わり"]),
        ("Heading\n\nText of\nit.", ["Heading", "Text of it."]),
        ("दिल्ली राजधानी है। यमुना पास में बहती है॥ अच्छा।", ["दिल्ली राजधानी है।", "यमुना पास में बहती है॥", "अच्छा।"]),
        ("北京是首都。“去过。”他说！", ["北京是首都。", "“去过。”", "他说！"]),
        (
            "Acme Inc. grew. Foo Ltd. and Bar Co. did not, cf. Fig. 3. Why?",
            [
                "Acme Inc. grew.",
                "Foo Ltd. and Bar Co. did not, cf. Fig. 3.",
                "Why?",
            ],
        ),
        ("هل زرتها؟ نعم. النيل طويل۔", ["هل زرتها؟", "نعم.", "النيل طويل۔"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_a_long_sentence_is_cut_at_white_space_and_nothing_is_lost() -> None:
    text = "word " * 400
    parts = sentences(text)
    assert " ".join(parts) == text.strip() and max(map(len, parts)) <= 400
    assert "".join(sentences("가" * 1000)) == "가" * 1000


def test_snippets_are_the_nearest_sentences(retriever: Retriever, encoder: Encoder) -> None:
    text = "Nothing here. The lazy dog sleeps. Water flows."
    assert best_sentences("dogs lazy", [text, ""], None, None) == ["The lazy dog sleeps.", ""]
    vector = encoder.encode_queries(["The lazy dog"])[0]
    cosines = encoder.encode_documents(sentences(text)) @ vector
    assert best_sentences("x", ["", text], vector, encoder) == ["", sentences(text)[int(cosines.argmax())]]
    hits = retriever.retrieve("fox", 3, snippets=True)
    assert [hit.snippet for hit in hits] == [hit.text for hit in hits]  # each is one sentence
    assert retriever.retrieve("fox", 1)[0].snippet is None
