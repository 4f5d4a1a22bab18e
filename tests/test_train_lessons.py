"""Runs that would learn nothing are refused, and the plan says what of the data is not read or teaches nothing."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from ragvec.errors import RagvecError
from ragvec.train import plan_run
from ragvec.train.data.reading import Columns, Reading
from ragvec.train.objectives.contrastive import no_negatives
from ragvec.train.objectives.texts import Triple, holds_negative
from ragvec.train.recipe import make_recipe
from ragvec.train.training_plan import TrainingPlan
from tests.tiny import make_tokenizer
from tests.training import recipe_values, run, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def plan(objective: str, start, data: Path, rows: Sequence[dict] | None = None, **keys) -> TrainingPlan:
    """The plan of a run, on these rows where there are some."""
    if rows is not None:
        (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        keys = {"train_file": "rows.jsonl", **keys}
    return plan_run(make_recipe(objective, recipe_values(objective, start, data, data / "out", **keys))[0])


PAIR, OTHER = {"query": "what is a fox", "positive": "a quick animal"}, {"query": "where is it", "positive": "over there"}
NO_NEGATIVE = r"no batch holds a negative, so nothing would be learned: raise per_device_train_batch_size"


@pytest.mark.parametrize(
    ("objective", "rows", "keys", "message"),
    [
        ("supervised", [PAIR, OTHER], {"per_device_train_batch_size": 1}, NO_NEGATIVE),
        ("supervised", [PAIR], {}, NO_NEGATIVE),
        ("supervised", [PAIR] * 8, {}, NO_NEGATIVE),
        ("supervised", [PAIR] * 8, {"mask_identical": False}, NO_NEGATIVE),
        ("supervised", [PAIR, {**PAIR, "positive": "a mammal"}], {}, NO_NEGATIVE),  # both answer the one query
        ("supervised", [{**PAIR, "negatives": ["a quick animal", "what is a fox"]}], {}, "no batch holds a negative"),
        ("supervised", [{**PAIR, "source": "a"}, {**OTHER, "source": "b"}], {}, "set homogeneous_batches to false"),
        ("simcse", [{"text": "a fox"}], {}, NO_NEGATIVE),
        ("simcse", [{"text": "a fox"}] * 8, {}, NO_NEGATIVE),
        ("simcse", None, {"per_device_train_batch_size": 1}, NO_NEGATIVE),
        ("supervised", [{**PAIR, "score": 3}, {**OTHER, "score": 3}], {"loss": "cosent"},
         "no batch holds two pairs with different scores"),
        ("supervised", [{**PAIR, "score": 3}, {**OTHER, "score": 1}], {"loss": "cosent", "per_device_train_batch_size": 1},
         "no batch holds two pairs with different scores"),
        ("distill", [{**PAIR, "negatives": ["a quick animal"], "scores": [1, 0]}], {"teacher_vectors": [], "instruction": ""},
         "no batch holds a query with two different candidates"),
        ("distill", None, {"distill_cosine": 0.0, "per_device_train_batch_size": 2}, "no batch holds three texts to compare"),
        ("mntp", [{"text": ""}, {"text": "x"}], {"line_by_line": True}, "no batch holds a token to predict"),
        ("clm", [{"text": "x"}], {"max_seq_length": 1}, "no batch holds a token to predict"),
    ],
)  # fmt: skip
def test_what_teaches_nothing_is_refused(objective, rows, keys, message, tiny_decoder, data, tmp_path):
    if objective in ("mntp", "clm"):  # a tokenizer that puts nothing before a text: "x" is one token
        tokenizer = make_tokenizer()
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A")
        tokenizer.save_pretrained(tmp_path / "no_bos")
        keys = {**keys, "tokenizer_name": str(tmp_path / "no_bos")}
    with pytest.raises(RagvecError, match=message):
        plan(objective, tiny_decoder, data, rows, **keys)
    assert not (data / "out").exists()


@pytest.mark.parametrize(
    ("objective", "rows", "keys"),
    [
        ("supervised", [PAIR, OTHER], {}),
        ("supervised", [{**PAIR, "negative": "no"}], {"per_device_train_batch_size": 1}),
        ("supervised", [{**PAIR, "score": 3}, {**OTHER, "score": 1}], {"loss": "cosent"}),
        ("distill", None, {"per_device_train_batch_size": 1}),
        ("distill", None, {"distill_cosine": 0.0, "per_device_train_batch_size": 3}),
    ],
)
def test_what_teaches_something_is_not(objective, rows, keys, tiny_decoder, data):
    assert "nothing learned" not in dict(plan(objective, tiny_decoder, data, rows, **keys).remarks)


def test_batches_without_a_negative_are_counted(tiny_decoder, data):
    """Four of each data set in batches of two; one data set is the same row again and again."""
    rows = [{**PAIR, "source": "same"}] * 4 + [{"query": f"q{row}", "positive": f"p{row}", "source": "x"} for row in range(4)]
    made = plan("supervised", tiny_decoder, data, rows, per_device_train_batch_size=2)
    told = dict(made.remarks)["nothing learned"]
    assert told.startswith("2 of 4 batches of the first epoch hold no negative: raise per_device_train_batch_size")


@pytest.mark.parametrize("mask_identical", [True, False])
def test_a_batch_holds_a_negative_where_the_loss_counts_one(mask_identical):
    """Small batches of few texts, so that every way in which texts coincide comes up."""
    random, seen = np.random.default_rng(0), set()
    for _ in range(400):
        count, texts = random.integers(1, 4), random.integers(2, 6)
        drawn = [random.integers(texts, size=2 + random.integers(3)).tolist() for _ in range(count)]
        rows = [Triple(query, positive, tuple(negatives)) for query, positive, *negatives in drawn]
        negatives = [one for row in rows for one in row.negatives]
        numbers = [torch.tensor(part) for part in ([row.query for row in rows], [row.positive for row in rows], negatives)]
        own = torch.eye(len(rows), len(rows) + len(negatives), dtype=torch.bool)
        documents = torch.cat(numbers[1:]).long()
        excluded = no_negatives(*(part.long() for part in numbers)) if mask_identical else documents == numbers[1][:, None]
        counted = bool((~(excluded | own)).any())
        numbered = range(texts) if mask_identical else None
        assert holds_negative(rows, range(len(rows)), texts=numbered) is counted, rows
        seen.add(counted)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("objective", "keys", "message"),
    [
        ("mntp", {"mlm_probability": 0}, "mlm_probability is 0, must be above 0"),
        ("supervised", {"learning_rate": 0}, "learning_rate is 0, must be above 0"),
        ("supervised", {"loss_scale": 0.0}, r"loss_scale is 0\.0, must be above 0"),
        ("supervised", {"freeze": ["layers"]}, "every weight of the result is frozen, nothing would be learned"),
        ("mntp", {"lora_r": 0, "train_lm_head": True, "freeze": ["model."]}, "every weight of the result is frozen"),
        ("distill", {"lora_r": 0, "freeze": ["layers", "norm"], "freeze_embeddings": True}, "every weight of the result"),
    ],
)
def test_a_recipe_that_changes_nothing_is_refused(objective, keys, message, tiny_decoder, data):
    with pytest.raises(RagvecError, match=message):
        plan(objective, tiny_decoder, data, **keys)


@pytest.mark.parametrize(
    ("objective", "rows", "keys", "told"),
    [
        ("supervised", [{**PAIR, "hard_negatives": ["a"], "query_id": 1}, OTHER], {},
         "'hard_negatives' (did you mean 'negatives'?), 'query_id'"),
        ("supervised", [{**PAIR, "negs": ["a"]}, OTHER], {}, "'negs' (did you mean 'neg'?)"),
        ("supervised", [{**PAIR, "negative": "a", "negs": ["a"]}, OTHER], {}, "'negs'"),  # there are some already
        ("supervised", [{**PAIR, "negatives": ["a", "b"], "scores": [1, 2, 3]}, OTHER], {}, "'scores'"),
        ("supervised", [{**PAIR, "score": 1, "scores_of": 2}, {**OTHER, "score": 2}], {"loss": "cosent"}, "'scores_of'"),
        ("supervised", [{**PAIR, "nothing": None}, OTHER], {}, None),
        ("supervised", [{"anchor": "q", "positive": "p", "negative_1": "a", "negative_2": "b", "negative_x": "c"}], {},
         "'negative_x'"),
        ("supervised", [{"sentence1": "q", "sentence2": "p", "label": 1}, OTHER], {}, None),
        ("distill", [{**PAIR, "neg": ["a"], "pos_scores": [2], "neg_scores": [1], "score": 3}],
         {"teacher_vectors": [], "instruction": ""},
         "'score'"),
        ("simcse", [{"text": "a", "title": "T", "source": "x"}, {"text": "b", "body": "c"}], {}, "'title', 'body'"),
        ("mntp", [{"abstract": "a b c", "text": "d"}], {"text_field": "abstract"}, "'text'"),
    ],
)  # fmt: skip
def test_columns_that_are_not_read_are_named(objective, rows, keys, told, tiny_decoder, data):
    assert dict(plan(objective, tiny_decoder, data, rows, **keys).remarks).get("columns not read") == told


def test_a_data_set_that_no_example_is_of_is_named(tiny_decoder, data):
    """What the recipe says of it would be left out in silence."""
    rows = [{**PAIR, "source": "nli"}, {**OTHER, "source": "quora"}]
    keys = {"instructions": {"nli": "a:", "qoura": "b:"}, "symmetric": ["sts"], "homogeneous_batches": False}
    told = dict(plan("supervised", tiny_decoder, data, rows, **keys).remarks)["no such data set"]
    assert told == "qoura, sts (instructions, symmetric): the examples are of nli, quora"


def test_rows_with_ever_other_columns_are_remembered_within_limits():
    reading = Reading()
    for row in range(5000):
        reading.note({f"column\n{row}": 1}, lambda names: Columns(frozenset()))
    assert len(reading.unread) == 9 and reading.unread[0] == r"'column\n0'" and reading.unread[-1] == "and 992 more"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"warmup_steps": 300}, "300 steps of 3: the learning rate never passes 6.7e-05 of 0.01; lower warmup_steps"),
        ({"warmup_steps": 3}, "3 steps of 3: the learning rate never passes 0.0067 of 0.01; lower warmup_steps"),
        ({"warmup_steps": 2}, None),
        ({"warmup_ratio": 0.5, "max_steps": 8, "stop_after_n_steps": 4},
         "4 steps of 4: the learning rate never passes 0.0075 of 0.01; lower warmup_steps"),
        ({"warmup_ratio": 0.5, "max_steps": 8}, None),
        ({"warmup_steps": 300, "lr_scheduler_type": "constant"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_a_learning_rate_that_is_never_reached_is_said(keys, told, tiny_decoder, data, tmp_path):
    made = plan("supervised", tiny_decoder, data, **keys)
    assert dict(made.remarks).get("warmup") == told
    if told and "stop_after_n_steps" not in keys:
        log = run("supervised", tiny_decoder, data, tmp_path / "out", **keys)["log"]
        assert f"{max(entry['learning_rate'] for entry in log):.2g}" in told


def test_the_plan_counts_negatives_and_names_device_and_precision(tiny_decoder, data):
    made = plan("supervised", tiny_decoder, data)
    assert (made.negatives, made.device, made.precision) == (18, "cpu", "float32")
    assert "hard negatives        18 (1.0 an example)" in made.lines()
    assert "device                cpu, float32" in made.lines()
    half = plan("simcse", tiny_decoder, data, torch_dtype="bfloat16")
    assert half.precision == "bfloat16, what is trained stays in float32"
    assert "hard negatives        none: the other texts of a batch are all that a query is told from" in half.lines()
    assert plan("mntp", tiny_decoder, data).negatives is None


def test_the_first_minute_has_a_line_and_a_minute_another(tiny_decoder, data, tmp_path, monkeypatch):
    """The clock moves 25 s a look; the lines are of the first step, of each minute and of the last."""
    from ragvec.train import watch

    now = iter(range(0, 100_000, 25))
    monkeypatch.setattr(watch.time, "perf_counter", lambda: float(next(now)))
    every = run("simcse", tiny_decoder, data, tmp_path / "a", logging_steps=None, max_steps=9)["log"]
    steps = [entry["step"] for entry in every if "loss" in entry]
    assert steps[0] == 1 and steps[-1] == 9 and 3 <= len(steps) < 9
    counted = run("simcse", tiny_decoder, data, tmp_path / "b", logging_steps=4, max_steps=9)["log"]
    assert [entry["step"] for entry in counted if "loss" in entry] == [1, 4, 8, 9]
