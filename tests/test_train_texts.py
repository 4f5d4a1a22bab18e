"""Contrastive training and distillation as a whole: cached gradients, Matryoshka, a teacher's scores."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from ragvec import Encoder
from ragvec.errors import RagvecError
from ragvec.metrics import spearman
from ragvec.train.data import Example
from ragvec.train.losses import hard_negative_nll
from ragvec.train.model import Learner
from ragvec.train.objectives.contrastive import contrastive_loss, no_negatives
from ragvec.train.objectives.texts import pair_examples, text_vectors
from ragvec.train.prepare import prepare
from ragvec.train.recipe import make_recipe
from ragvec.train.trainable import add_trainable_parts, load_learner
from ragvec.train.watch import mean_loss
from tests.training import LONG_TEXTS, losses, recipe_values, run, write_data

GRADED = {"loss": "cosent", "train_file": "graded.jsonl"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def get_ready(objective: str, start, data, **keys):
    """A learner, its batches and its recipe, LoRA's second half not zero so that all of it has gradients."""
    recipe, _ = make_recipe(objective, recipe_values(objective, start, data, "out", **{"lora_dropout": 0.0, **keys}))
    torch.manual_seed(0)
    learner = load_learner(recipe)
    add_trainable_parts(learner, recipe)
    for name, weight in learner.backbone.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(weight, 0.02)
    return learner, prepare(recipe, learner), recipe


def gradients(learner: Learner, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    learner.backbone.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in learner.backbone.named_parameters() if weight.grad is not None}


def test_the_validation_loss_is_the_mean_over_every_example(tiny_decoder, data):
    """Of a loss that is each text's own; ten texts in batches of 4, 3 and 3, whatever is accumulated in training."""
    keys = {"distill_kl": 0.0, "validation_split_percentage": 28, "gradient_accumulation_steps": 8}
    _, prepared, _ = get_ready("distill", tiny_decoder, data, **keys)
    held, module = prepared.validation, prepared.module
    assert sorted(map(len, held.joint_rows)) == [3, 3, 4]
    module.eval()
    with torch.no_grad():
        alone = [module(held._build([row], torch.Generator()))["loss"].item() for rows in held.joint_rows for row in rows]
    assert mean_loss(module, held) == pytest.approx(np.mean(alone), abs=1e-6)


# --- false negatives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "examples",
    [
        [Example("a", "same", (), "", "1:", "1:"), Example("b", "same", (), "", "2:", "2:")],
        [Example("same", "a", (), "", "1:", ""), Example("same", "b", (), "", "2:", "")],
        [Example("same", "a", ("same",), "", "1:", "")],
    ],
    ids=["positive", "query", "query as negative"],
)
def test_a_text_after_another_instruction_is_the_same_text(examples, tiny_decoder, data):
    learner, _, recipe = get_ready("supervised", tiny_decoder, data)
    made, rows = pair_examples(recipe, learner, examples), list(range(len(examples)))
    batch = made.build(rows, torch.Generator())
    assert no_negatives(*batch.numbers.split(batch.sizes)).all()
    assert not made.lesson.found(rows)
    assert pair_examples(replace(recipe, mask_identical=False), learner, examples).lesson.found(rows)


# --- cached gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "keys"), [
    ("supervised", {}), ("supervised", {"lora_r": 0}), ("supervised", {"gradient_checkpointing": True}), ("distill", {}),
    ("supervised", {**GRADED, "matryoshka_dims": [4]}),
])  # fmt: skip
def test_cached_gradients_equal_the_plain_ones(objective, keys, tiny_decoder, data):
    keys = {"per_device_train_batch_size": 16, "loss_scale": 20.0, **keys}
    found = []
    for tokens in (None, 100):
        learner, prepared, _ = get_ready(objective, tiny_decoder, data, mini_batch_tokens=tokens, **keys)
        learner.backbone.train()
        loss = prepared.module(prepared.batches[0])["loss"]
        found.append((loss.item(), gradients(learner, loss)))
    (plain_loss, plain), (cached_loss, cached) = found
    assert cached_loss == pytest.approx(plain_loss, abs=1e-6)
    assert plain.keys() == cached.keys() and len(plain) > 10
    for name, gradient in plain.items():
        torch.testing.assert_close(cached[name], gradient, atol=1e-5, rtol=1e-5)
        assert gradient.any() or "lora" not in name


def test_runs_stay_within_the_budget_and_are_computed_again(tiny_decoder, data, monkeypatch):
    """Dropout falls alike on the way there and back."""
    learner, prepared, _ = get_ready("simcse", tiny_decoder, data, mini_batch_tokens=60, per_device_train_batch_size=16)
    learner.backbone.train()
    batch, sizes, states = prepared.batches[0], [], []
    plain = Learner.hidden

    def watched(self, ids):
        hidden = plain(self, ids)
        sizes.append([len(text) for text in ids])
        states.append(hidden.detach().clone())
        return hidden

    monkeypatch.setattr(Learner, "hidden", watched)
    vectors = text_vectors(learner, batch, 60)
    there = len(sizes)
    vectors.square().sum().backward()
    assert there > 3 and len(sizes) == 2 * there
    assert all(sum(lengths) <= 60 or len(lengths) == 1 for lengths in sizes)
    for state in states[there:]:
        assert any(torch.equal(state, before) for before in states[:there] if before.shape == state.shape)


def test_evaluation_needs_no_cache(tiny_decoder, data):
    learner, prepared, _ = get_ready("supervised", tiny_decoder, data)
    with torch.no_grad():
        batch = prepared.batches[0]
        torch.testing.assert_close(text_vectors(learner, batch, 50), text_vectors(learner, batch), atol=1e-6, rtol=1e-5)


# --- matryoshka --------------------------------------------------------------------------------------------------------------


def test_matryoshka_is_the_mean_over_the_dimensions(tiny_decoder, data):
    learner, prepared, recipe = get_ready("supervised", tiny_decoder, data, matryoshka_dims=[8, 16], mask_identical=False)
    batch = prepared.batches[0]
    parts = text_vectors(learner, batch).split(batch.sizes)
    by_width = [hard_negative_nll(*(part[:, :width] for part in parts), scale=50).item() for width in (8, 16, 32)]
    assert contrastive_loss(recipe)(learner, batch).item() == pytest.approx(np.mean(by_width), abs=1e-5)
    assert len({round(value, 4) for value in by_width}) == 3


def test_matryoshka_dimensions_that_are_not_there(tiny_decoder, data):
    with pytest.raises(RagvecError, match=r"matryoshka_dims: 64 is outside 1 … 32, the dimension of the model's vectors"):
        get_ready("supervised", tiny_decoder, data, matryoshka_dims=[16, 64])


# --- graded pairs ------------------------------------------------------------------------------------------------------------


def rank_correlation(folder, data: Path) -> float:
    rows = [json.loads(line) for line in (data / "graded.jsonl").read_text().splitlines()]
    encoder = Encoder.load(folder, device="cpu", dtype="float32")
    one, two = (torch.from_numpy(encoder.encode_documents([row[name] for row in rows])) for name in ("sentence1", "sentence2"))
    return spearman(cosine_similarity(one, two).tolist(), [row["score"] for row in rows])


def test_cosines_come_into_the_order_of_the_scores(tiny_decoder, data, tmp_path):
    keys = {**GRADED, "loss_scale": 20.0, "per_device_train_batch_size": 24, "max_steps": 20}
    summary = run("supervised", tiny_decoder, data, tmp_path / "out", **keys)
    assert losses(summary)[-1] < 0.5 * losses(summary)[0]
    assert rank_correlation(tmp_path / "out", data) > 0.7 > 0.4 > rank_correlation(tiny_decoder, data)
    assert "graded pairs (CoSENT)" in (tmp_path / "out" / "README.md").read_text()


def test_the_loss_of_graded_pairs_by_hand(tiny_decoder, data):
    """Packed vectors, put back in order, against the formula; with matryoshka_dims the mean over the dimensions."""
    learner, prepared, _ = get_ready("supervised", tiny_decoder, data, **GRADED, matryoshka_dims=[8], loss_scale=20.0)
    batch, expected = prepared.batches[0], []
    one, two = text_vectors(learner, batch).split(batch.sizes[:2])
    scores = batch.teacher[:, 0].tolist()
    assert len(set(scores)) > 1 and len(one) == len(two) == 4
    for width in (8, 32):
        cosines = cosine_similarity(one[:, :width], two[:, :width]).tolist()
        terms = [np.exp(20 * (cosines[i] - cosines[j])) for i in range(4) for j in range(4) if scores[i] < scores[j]]
        expected.append(np.log1p(sum(terms)))
    assert prepared.module(batch)["loss"].item() == pytest.approx(np.mean(expected), abs=1e-4)


# --- a teacher's scores ------------------------------------------------------------------------------------------------------


def scored_rows(folder: Path) -> Path:
    """A teacher that finds long texts relevant, of whatever query."""
    rows = []
    for row in range(18):
        documents = [LONG_TEXTS[(row + step) % 36] for step in (1, 7, 19, 30)][: 3 + row % 2]
        rows.append({"query": LONG_TEXTS[row], "positive": documents[0], "negatives": documents[1:],
                     "scores": [len(text) / 20 for text in documents]})  # fmt: skip
    path = folder / "scored.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("keys", [{}, {"distill_kl": 0.0, "distill_mse": 1.0}])
def test_a_students_scores_come_to_be_its_teachers(keys, tiny_decoder, tmp_path, data):
    path = scored_rows(tmp_path)
    keys = {
        "teacher_vectors": [],
        "instruction": "",
        "train_file": str(path),
        "per_device_train_batch_size": 9,
        "max_steps": 20,
        **keys,
    }
    summary = run("distill", tiny_decoder, data, tmp_path / "out", learning_rate=2e-2, **keys)
    assert losses(summary)[-1] < 0.6 * losses(summary)[0]

    def agreement(folder) -> float:
        encoder = Encoder.load(folder, device="cpu", dtype="float32")
        values = []
        for row in map(json.loads, path.read_text().splitlines()):
            documents = encoder.encode_documents([row["positive"], *row["negatives"]])
            ours = documents @ encoder.encode_queries([row["query"]], instruction="")[0]
            values.append(np.corrcoef(ours, row["scores"])[0, 1])
        return float(np.mean(values))

    assert agreement(tmp_path / "out") > agreement(tiny_decoder) + 0.1


def test_the_score_of_a_student_is_its_cosine_over_the_temperature(tiny_decoder, data, tmp_path):
    keys = {
        "teacher_vectors": [],
        "instruction": "",
        "train_file": str(scored_rows(tmp_path)),
        "distill_kl": 0.0,
        "distill_mse": 1.0,
    }
    learner, prepared, _ = get_ready("distill", tiny_decoder, data, distill_temperature=0.1, **keys)
    batch = prepared.batches[0]
    queries, documents = text_vectors(learner, batch).split(batch.sizes[:2])
    expected, edge = [], 0
    for query, teacher in zip(queries, batch.teacher, strict=True):
        count = int(torch.isfinite(teacher).sum())
        ours = cosine_similarity(query[None], documents[edge : edge + count]) / 0.1
        expected.append(((ours[0] - ours[1:]) - (teacher[0] - teacher[1:count])).square().mean().item())
        edge += count
    assert prepared.module(batch)["loss"].item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_distillation_without_a_teacher(tiny_decoder, data):
    with pytest.raises(RagvecError, match='pairs.jsonl, line 1: no teacher\'s scores .*or "teacher_vectors" in the config'):
        get_ready("distill", tiny_decoder, data, teacher_vectors=[], train_file=str(data / "pairs.jsonl"))
    with pytest.raises(RagvecError, match="validation_file: teacher_vectors are those of train_file alone"):
        get_ready("distill", tiny_decoder, data, validation_file=str(data / "texts.json"))
    with pytest.raises(RagvecError, match="distill_mse and distill_kl are 0: nothing is left to train for"):
        get_ready("distill", tiny_decoder, data, teacher_vectors=[], distill_kl=0.0)
