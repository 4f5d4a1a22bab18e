"""From a recipe and a loaded model to what the Trainer runs: data read and tokenized, batches, and the loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ragvec.corpus.files import corpus_files
from ragvec.encoder.prompt import PromptBuilder
from ragvec.errors import RagvecError
from ragvec.recipe import Recipe
from ragvec.train import ranks
from ragvec.train.data import Example, Text, instruction_for, read_examples, read_texts, split_validation
from ragvec.train.evaluation import Metric, make_metric
from ragvec.train.hub_data import dataset_files
from ragvec.train.masking import choose_mask_token, special_tokens
from ragvec.train.model import Learner, add_embedding_row
from ragvec.train.objectives import Objective, causal_batch, language_loss, masked_batch
from ragvec.train.sampler import Batches
from ragvec.train.teacher import read_teacher
from ragvec.train.texts import (
    PromptTable,
    check_terms,
    check_widths,
    contrastive_loss,
    cosent_loss,
    needs_projection,
    pair_batch,
    score_batch,
    score_distillation_loss,
    teacher_batch,
    vector_distillation_loss,
)
from ragvec.train.tokens import make_pieces


@dataclass(frozen=True, slots=True)
class Prepared:
    """A training set as batches, a validation set and a metric where there is one, and the module whose forward is the loss.

    examples, tokens  of the training set, counted once
    """

    objective: Objective
    batches: Batches
    validation: Batches | None
    metric: Metric | None
    examples: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Set:
    """One set of examples, tokenized: how to build a batch of them, how long each is, and which belong together."""

    build: Callable
    lengths: Sequence[int]
    groups: Sequence


def prepare(objective: str, recipe: Recipe, learner: Learner) -> Prepared:
    """Read and tokenize the data of a recipe. Raises RagvecError for data that can't be used."""
    if objective == "distill" and recipe.teacher_vectors:
        make, read, loss, extra = _vector_distillation(recipe, learner)
    else:
        choose = _language if objective in ("clm", "mntp") else _pairs
        make, read, loss = choose(objective, recipe, learner)
        extra = None
    training, validation = _read_sets(recipe, read)
    first = make(training)
    return Prepared(
        Objective(learner, loss, extra),
        _batches(first, recipe, ranks.world()),
        _batches(make(validation), recipe) if validation else None,
        make_metric(recipe, learner) if ranks.rank() == 0 else None,
        len(first.lengths),
        int(np.sum(first.lengths)),
    )


def training_files(recipe: Recipe) -> list[str]:
    """The files to train on: train_file, or the reference's dataset_file_path or dataset_name."""
    if recipe.train_file:
        return recipe.train_file
    if recipe.dataset_file_path:
        return [recipe.dataset_file_path]
    if _names_hub_data(recipe):
        return dataset_files(recipe.dataset_name, recipe.dataset_config_name, "train")
    raise RagvecError('no training data: add "train_file" (JSON, JSONL, CSV, TSV, TXT or Parquet)')


def _names_hub_data(recipe: Recipe) -> bool:
    return bool(recipe.dataset_name) and not (recipe.train_file or recipe.dataset_file_path)


def _read_sets(recipe: Recipe, read: Callable[[list[str]], list]) -> tuple[list, list]:
    training = read(training_files(recipe))
    if recipe.validation_file:
        return training, read(recipe.validation_file)
    if _names_hub_data(recipe) and not recipe.validation_split_percentage:
        files = dataset_files(recipe.dataset_name, recipe.dataset_config_name, "validation", optional=True)
        return training, read(files) if files else []
    return split_validation(training, recipe.validation_split_percentage, recipe.seed)


def _language(objective: str, recipe: Recipe, learner: Learner) -> tuple[Callable, Callable, Callable]:
    if objective == "mntp":
        mask_id = choose_mask_token(learner.tokenizer, recipe)
        embeddings = learner.backbone.get_input_embeddings().num_embeddings
        if mask_id >= embeddings:
            add_embedding_row(learner.whole, mask_id)
        vocabulary = max(len(learner.tokenizer), mask_id + 1)
        special = special_tokens(learner.tokenizer, mask_id, max(embeddings, vocabulary))

    def make(texts: list[Text]) -> _Set:
        pieces = make_pieces(
            learner.tokenizer, [one.text for one in texts], max_length=recipe.max_seq_length,
            cross_document=recipe.cross_document, line_by_line=recipe.line_by_line,
        )  # fmt: skip
        lengths = pieces.lengths
        if objective == "clm":
            build = causal_batch(pieces)
        else:
            build = masked_batch(pieces, recipe, mask_id=mask_id, special=special, vocabulary=vocabulary)
        return _Set(build, lengths, np.zeros(len(lengths), dtype=int))

    return make, lambda files: read_texts(recipe, files), language_loss


def _pairs(objective: str, recipe: Recipe, learner: Learner) -> tuple[Callable, Callable, Callable]:
    """SimCSE, supervised training, and distillation from scores."""
    scored = "teacher" if objective == "distill" else "graded" if recipe.loss == "cosent" else None
    check_widths(recipe, learner.backbone.get_input_embeddings().embedding_dim)
    if scored == "teacher":
        check_terms(recipe, "distill_mse", "distill_kl")

    def make(examples: list[Example]) -> _Set:
        wanted = []
        for one in examples:
            wanted.append((one.query_instruction, one.query))
            wanted += [(one.document_instruction, text) for text in (one.positive, *one.negatives)]
        table, rows = prompt_table(learner.prompts, wanted)
        triples, edge = [], 0
        for one in examples:
            mine = rows[edge : edge + 2 + len(one.negatives)]
            triples.append((mine[0], mine[1], tuple(mine[2:])))
            edge += len(mine)
        lengths = [sum(len(table.ids[row]) for row in (query, positive, *negatives)) for query, positive, negatives in triples]
        groups = [one.source if recipe.homogeneous_batches else "" for one in examples]
        if scored:
            return _Set(score_batch(table, triples, [one.scores for one in examples]), lengths, groups)
        return _Set(pair_batch(table, triples, recipe.mask_identical), lengths, groups)

    def read(files: list[str]) -> list[Example]:
        if objective == "simcse":  # a text with itself; dropout makes the difference
            lead = recipe.instruction
            return [Example(one.text, one.text, (), "", lead, lead) for one in read_texts(recipe, files)]
        return read_examples(recipe, files, scored=scored)

    loss = {"teacher": score_distillation_loss, "graded": cosent_loss, None: contrastive_loss}[scored]
    return make, read, loss(recipe)


def _vector_distillation(recipe: Recipe, learner: Learner) -> tuple[Callable, Callable, Callable, nn.Module | None]:
    files = [str(path) for name in recipe.train_file for path in corpus_files(Path(name).expanduser()).paths]
    check_terms(recipe, "distill_cosine", "distill_mse", "distill_kl")
    texts, vectors = read_teacher(recipe, files)
    student = learner.backbone.get_input_embeddings().embedding_dim
    projection = None
    if needs_projection(recipe, student, vectors.shape[1]):
        torch.manual_seed(recipe.seed)
        projection = nn.Linear(student, vectors.shape[1], bias=False).to(learner.device)

    def make(numbers: list[int]) -> _Set:
        wanted = [(instruction_for(recipe, texts[row].source), texts[row].text) for row in numbers]
        table, rows = prompt_table(learner.prompts, wanted)
        everyone = PromptTable([table.ids[row] for row in rows], [table.pool_starts[row] for row in rows])
        groups = [texts[row].source if recipe.homogeneous_batches else "" for row in numbers]
        targets = vectors if len(numbers) == len(vectors) else vectors[numbers]
        return _Set(teacher_batch(everyone, targets), [len(ids) for ids in everyone.ids], groups)

    return make, lambda _: list(range(len(texts))), vector_distillation_loss(recipe, projection), projection


def prompt_table(builder: PromptBuilder, wanted: Sequence[tuple[str, str]]) -> tuple[PromptTable, list[int]]:
    """Tokenize (instruction, text) pairs, each distinct one once: the table, and the row of each pair."""
    numbers: dict[tuple[str, str], int] = {}
    rows = [numbers.setdefault(pair, len(numbers)) for pair in wanted]
    by_instruction: dict[str, list[str]] = {}
    for instruction, text in numbers:
        by_instruction.setdefault(instruction, []).append(text)
    table = PromptTable([None] * len(numbers), [0] * len(numbers))
    for instruction, texts in by_instruction.items():
        prompts = builder.build(texts, instruction)
        for text, ids, start in zip(texts, prompts.ids, prompts.pool_starts, strict=True):
            row = numbers[instruction, text]
            table.ids[row], table.pool_starts[row] = np.array(ids, dtype=np.int32), start
    return table, rows


def _batches(examples: _Set, recipe: Recipe, world: int = 1) -> Batches:
    return Batches(
        examples.build,
        examples.lengths,
        groups=examples.groups,
        batch_size=recipe.per_device_train_batch_size,
        batch_tokens=recipe.batch_tokens,
        accumulation=recipe.gradient_accumulation_steps,
        seed=recipe.seed,
        world=world,
    )
