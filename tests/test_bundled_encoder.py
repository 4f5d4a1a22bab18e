"""The encoder that ships: small, quick to load, sensible in English and Korean; its figures where the data is at hand."""

import os

import numpy as np
import pytest

from ragvec.data import data_path
from ragvec.encoder import Encoder
from tests.conftest import shared

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load()


def closest(encoder: Encoder, query: str, documents: list[str]) -> int:
    """Which document the query finds first."""
    return int(np.argmax(encoder.encode_documents(documents) @ encoder.encode_queries([query])[0]))


def test_it_weighs_no_more_than_60_megabytes_and_holds_no_pickle():
    files = [path for path in data_path("encoder").rglob("*") if path.is_file()]
    assert sum(os.path.getsize(path) for path in files) <= 60 * MEGABYTE
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md"}


def test_it_is_a_bidirectional_llama_with_a_card(encoder):
    described = encoder.describe()
    assert (described["architecture"], described["attention"], described["dimension"]) == ("llama", "bidirectional", 384)
    assert described["packed_batches"]
    assert described["query_instruction"] == "", "it was trained without instructions"
    assert "SciFact" in (data_path("encoder") / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("query", "right", "wrong"),
    [
        ("A man is playing a guitar.", "Someone performs music on a guitar.", "A man is cooking dinner."),
        ("How do I bake bread?", "Knead the dough, let it rise and put it into a hot oven.", "Stock markets fell on Monday."),
        ("statins and breast cancer", "Cholesterol drugs and mammary tumours in women.", "Wing flutter at high speed."),
        ("한 남자가 기타를 치고 있다.", "남자가 기타를 연주하고 있다.", "여자가 양파를 썰고 있다."),
        ("아이가 말을 타고 있다.", "어린아이가 말을 타고 있다.", "주식 시장이 하락했다."),
    ],
)
def test_what_means_the_same_lies_closer(encoder, query, right, wrong):
    assert closest(encoder, query, [wrong, right]) == 1


def test_a_vector_depends_on_its_own_text_alone(encoder):
    texts = ["short", "a much longer text about the price of cocoa in Bahia " * 20, "", "서울은 대한민국의 수도이다."]
    together = encoder.encode_documents(texts)
    alone = np.concatenate([encoder.encode_documents([text]) for text in texts])
    assert np.isfinite(together).all()
    assert (together * alone).sum(axis=1).min() > 0.9995


@pytest.mark.slow
@pytest.mark.parametrize(("corpus", "least"), [("scifact", 0.60), ("nfcorpus", 0.26), ("cranfield", 0.31)])
def test_it_retrieves_as_well_as_its_card_says(encoder, corpus, least):
    from ragvec.evaluate import evaluate

    assert evaluate(shared(f"data/retrieval/{corpus}"), encoder).figures["nDCG@10"] >= least


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["scifact", "nfcorpus", "cranfield"])
def test_beside_bm25_it_beats_bm25(encoder, corpus):
    from ragvec.evaluate import evaluate

    lexical, hybrid = (evaluate(shared(f"data/retrieval/{corpus}"), encoder, mode=mode) for mode in ("lexical", "hybrid"))
    assert hybrid.figures["nDCG@10"] > lexical.figures["nDCG@10"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("stsb-en.dev", 0.80), ("stsb-en.test", 0.78), ("korsts.dev", 0.60)])
def test_its_similarities_follow_peoples(encoder, name, least):
    from ragvec.evaluate import evaluate

    assert evaluate(shared(f"data/sts/{name}.tsv"), encoder).figures["spearman"] >= least
