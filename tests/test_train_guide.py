"""A guide's vectors say which texts of a contrastive batch are no negatives."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ragvec import Encoder, RagvecError
from ragvec.train.data import Example
from ragvec.train.guide import Guide
from ragvec.train.losses import hard_negative_nll, likely_false_negatives
from ragvec.train.objectives.contrastive import contrastive_loss
from ragvec.train.objectives.texts import pair_examples, text_vectors
from ragvec.train.recipe import make_recipe
from ragvec.train.trainable import load_learner
from tests.tiny import TEXTS, save_tiny_decoder
from tests.training import losses, recipe_values, run, write_data


def example(query: int, positive: int, *negatives: int) -> Example:
    texts = (TEXTS[query], TEXTS[positive], tuple(TEXTS[one] for one in negatives))
    return Example(*texts, source="", query_instruction="", document_instruction="")


EXAMPLES = [example(0, 1, 2), example(3, 4), example(5, 2, 1, 3)]


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """An encoder of another width."""
    return save_tiny_decoder(tmp_path_factory.mktemp("guide") / "other", "qwen2", hidden_size=48, initializer_range=0.3)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def test_vectors_stand_as_a_batch_has_its_texts(other):
    encoder = Encoder.load(other, device="cpu", dtype="float32", query_instruction="find:", document_instruction="read:")
    queries, documents = encoder.encode_queries([TEXTS[5], TEXTS[0]]), [TEXTS[row] for row in (2, 1, 1, 3, 2)]
    expected = np.concatenate([queries, encoder.encode_documents(documents)])
    np.testing.assert_allclose(Guide(encoder, EXAMPLES).of([2, 0]), expected, atol=1e-6)


@pytest.mark.parametrize("margin", [None, 0.1])
def test_what_the_guide_finds_closer_than_the_positive_is_no_negative(margin, tiny_decoder, other, data, tmp_path):
    keys = {"guide": str(other), "mask_identical": False, "false_negative_margin": margin}
    recipe, _ = make_recipe("supervised", recipe_values("supervised", tiny_decoder, data, tmp_path / "out", **keys))
    learner = load_learner(recipe)
    batch = pair_examples(recipe, learner, EXAMPLES).build([0, 1, 2], torch.Generator())
    vectors, judges = (all_of.split(batch.sizes) for all_of in (text_vectors(learner, batch), batch.guide))
    excluded = likely_false_negatives(*judges, margin=margin or 0.0)
    assert excluded.any() and not excluded.all()
    expected = hard_negative_nll(*vectors, scale=recipe.loss_scale, excluded=lambda rows: excluded[rows].clone())
    plain = hard_negative_nll(*vectors, scale=recipe.loss_scale)
    torch.testing.assert_close(contrastive_loss(recipe)(learner, batch), expected)
    assert expected < plain


def test_a_run_with_a_guide(tiny_decoder, other, data, tmp_path):
    plain, guided = (
        losses(run("supervised", tiny_decoder, data, tmp_path / name, **keys))
        for name, keys in (("plain", {}), ("guided", {"guide": str(other)}))
    )
    assert guided[0] < plain[0], "fewer negatives, and the same texts in the same order"
    with pytest.raises(RagvecError, match="no model folder .*nowhere"):
        run("supervised", tiny_decoder, data, tmp_path / "out", guide=str(tmp_path / "nowhere"))
    with pytest.raises(RagvecError, match=r"guide: graded pairs \(loss cosent\) have no negatives"):
        run("supervised", tiny_decoder, data, tmp_path / "out", train_file="graded.jsonl", loss="cosent", guide=str(other))
