"""From a recipe and a loaded model to what the Trainer runs: data read and tokenized, batches, and the loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ragvec.errors import WrongInput, WrongUsage
from ragvec.train import ranks
from ragvec.train.data import Batches, Reading, dataset_files, split_validation
from ragvec.train.evaluation import Metric, make_metric
from ragvec.train.loss_module import LossModule
from ragvec.train.model import Learner
from ragvec.train.objectives import ExampleSet, objective_of
from ragvec.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Prepared:
    """A training set as batches, a validation set and a metric where there is one, and the module whose forward is the loss.

    examples, tokens  of the training set, counted once; queries, documents: the instructions that it is read after
    negatives         hard ones of the training set; None where there is no such thing
    remarks           lines for the plan, each under its name: what was not read, what teaches nothing
    """

    module: LossModule
    batches: Batches
    validation: Batches | None
    metric: Metric | None
    examples: int
    tokens: int
    queries: tuple[str, ...]
    documents: tuple[str, ...]
    negatives: int | None
    remarks: tuple[tuple[str, str], ...]


def prepare(recipe: Recipe, learner: Learner) -> Prepared:
    """Read and tokenize the data of a recipe. Raises RagvecError for data that can't be used, or teach nothing."""
    teaching = objective_of(recipe).teach(recipe, learner)
    training, validation = _read_sets(recipe, teaching.read)
    first = teaching.examples(training)
    own = bool(recipe.instructions) or teaching.reading.prompts
    if own and recipe.instruction is None and len(first.queries) == 1:
        learner.settings = replace(learner.settings, query_instruction=first.queries[0])  # the one that was trained
    if teaching.reading.prompts and recipe.document_instruction is None and len(first.documents) == 1:
        learner.settings = replace(learner.settings, document_instruction=first.documents[0])
    teaching.reading.close()
    batches = _batches(first, recipe, accumulation=recipe.gradient_accumulation_steps, world=ranks.world())
    return Prepared(
        LossModule(learner, teaching.loss, teaching.extra),
        batches,
        validation=_batches(teaching.examples(validation), recipe, every=True) if validation else None,
        metric=make_metric(recipe, learner) if ranks.is_main_process() else None,
        examples=len(first.lengths),
        tokens=int(np.sum(first.lengths)),
        queries=first.queries,
        documents=first.documents,
        negatives=first.negatives,
        remarks=(*_idle(first, batches), *_unread(teaching.reading), *_unknown(recipe, training)),
    )


def _idle(examples: ExampleSet[Any], batches: Batches) -> list[tuple[str, str]]:
    """What the plan says of batches of the first epoch that teach nothing. Raises WrongInput if none teaches anything."""
    lesson = examples.lesson
    if lesson is None:
        return []
    joint = batches.joint_rows
    without = sum(not lesson.found(rows) for rows in joint)
    if without == len(joint):
        raise WrongInput(f"no batch holds {lesson.what}, so nothing would be learned: {lesson.remedy}")
    told = f"{without:,} of {len(joint):,} batches of the first epoch hold no {lesson.what.removeprefix('a ')}: {lesson.remedy}"
    return [("nothing learned", told)] if without else []


def _unread(reading: Reading) -> list[tuple[str, str]]:
    """What the plan says of columns that are not read, and of rows left out."""
    columns = [("columns not read", ", ".join(reading.unread))] if reading.unread else []
    return columns + ([("rows left out", f"{reading.skipped:,}, the first: {reading.first}")] if reading.skipped else [])


def _unknown(recipe: Recipe, training: Sequence[Any]) -> list[tuple[str, str]]:
    """What the plan says of data sets that the recipe names, and no example is of."""
    named = {*recipe.instructions, *recipe.symmetric}
    there = {one.source for one in training} if named else set()
    if not (absent := sorted(named - there)):
        return []
    return [
        ("no such data set", f"{', '.join(absent)} (instructions, symmetric): the examples are of {', '.join(sorted(there))}")
    ]


def training_files(recipe: Recipe) -> list[str]:
    """The files to train on: train_file, or the reference's dataset_file_path or dataset_name."""
    if recipe.train_file:
        return recipe.train_file
    if recipe.dataset_file_path:
        return [recipe.dataset_file_path]
    if name := _hub_data(recipe):
        return dataset_files(name, recipe.dataset_config_name, "train", offline=recipe.offline)
    raise WrongUsage('no training data: add "train_file" (JSON, JSONL, CSV, TSV, TXT, Parquet or Arrow)')


def _hub_data(recipe: Recipe) -> str | None:
    """The data set on the hub that a recipe trains on, if it names no file."""
    return None if recipe.train_file or recipe.dataset_file_path else recipe.dataset_name


def _read_sets(recipe: Recipe, read: Callable[[Sequence[str]], Sequence[Any]]) -> tuple[Sequence[Any], Sequence[Any]]:
    training = read(training_files(recipe))
    if recipe.validation_file:
        return training, read(recipe.validation_file)
    if (name := _hub_data(recipe)) and not recipe.validation_split_percentage:
        files = dataset_files(name, recipe.dataset_config_name, "validation", optional=True, offline=recipe.offline)
        return training, read(files) if files else []
    return split_validation(training, recipe.validation_split_percentage, recipe.seed)


def _batches(
    examples: ExampleSet[Any], recipe: Recipe, *, accumulation: int = 1, world: int = 1, every: bool = False
) -> Batches:
    return Batches(
        examples.build,
        examples.lengths,
        groups=examples.groups,
        batch_size=recipe.per_device_train_batch_size,
        batch_tokens=recipe.batch_tokens,
        accumulation=accumulation,
        seed=recipe.seed,
        world=world,
        every=every,
    )
