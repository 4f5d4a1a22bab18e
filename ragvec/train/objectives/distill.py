"""Distillation: an encoder learns to imitate a teacher's vectors, or a teacher's scores of queries and their candidates."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ragvec.corpus.files import corpus_files
from ragvec.errors import WrongUsage
from ragvec.train.data import Example, Text, instruction_for, read_examples, read_teacher, reading_of
from ragvec.train.losses import distillation, score_distillation
from ragvec.train.model import Learner, load_encoder
from ragvec.train.objectives.objective import BatchBuilder, ExampleSet, Lesson, Objective, Teaching
from ragvec.train.objectives.texts import (
    PromptTable,
    TextBatch,
    check_widths,
    group_of,
    prompt_table,
    score_examples,
    scored_pairs,
    teacher_of,
    text_batch,
    text_vectors,
)
from ragvec.train.ranks import gather_rows, joined, weighted
from ragvec.train.recipe import Recipe


def teach(recipe: Recipe, learner: Learner) -> Teaching:
    """From vectors where the recipe names some, else from the scores that the pairs carry."""
    if recipe.teacher_vectors:
        return _from_vectors(recipe, learner)
    check_widths(recipe, learner)
    check_terms(recipe, "distill_mse", "distill_kl")
    reading = reading_of(recipe)
    read = partial(read_examples, recipe, learner.settings, scored="teacher", reading=reading)
    examples = partial(score_examples, recipe, learner, lesson=a_choice)
    return Teaching(read, examples, score_distillation_loss(recipe), reading)


def a_choice(examples: Sequence[Example]) -> Lesson:
    """A teacher's scores teach what to choose: a query needs two candidates that are not the same text."""

    def found(rows: Sequence[int]) -> bool:
        return any({*one.negatives} - {one.positive} for one in map(examples.__getitem__, rows))

    return Lesson(found, "a query with two different candidates", "add negatives, and a score for each")


def a_comparison(recipe: Recipe, texts: Sequence[Text]) -> Lesson | None:
    """Similarities to the batch's other texts (the term distill_kl alone) say something if there are two others."""
    if recipe.distill_cosine or recipe.distill_mse:
        return None

    def found(rows: Sequence[int]) -> bool:
        return len(rows) > 2 and len({texts[row].text for row in rows}) > 1

    remedy = "raise per_device_train_batch_size to 3 at least, or let distill_cosine or distill_mse count, too"
    return Lesson(found, "three texts to compare", remedy)


def _from_vectors(recipe: Recipe, learner: Learner) -> Teaching:
    files = [str(path) for name in recipe.train_file for path in corpus_files(Path(name).expanduser()).paths]
    check_terms(recipe, "distill_cosine", "distill_mse", "distill_kl")
    if recipe.validation_file:
        raise WrongUsage(
            "validation_file: teacher_vectors are those of train_file alone: set validation_split_percentage instead"
        )
    reading = reading_of(recipe)
    texts, vectors = read_teacher(recipe, files, reading=reading)
    student, projection = learner.width, None
    if needs_projection(recipe, student, vectors.shape[1]):
        torch.manual_seed(recipe.seed)
        projection = nn.Linear(student, vectors.shape[1], bias=False).to(learner.device)

    # a teacher's vectors are those of documents, unless the recipe says that the texts are queries
    usual = learner.settings.document_instruction if recipe.instruction is None else recipe.instruction

    def examples(numbers: Sequence[int]) -> ExampleSet[TextBatch]:
        wanted = [(instruction_for(recipe, texts[row].source, usual), texts[row].text) for row in numbers]
        table, rows = prompt_table(learner.prompt_builder, wanted)
        everyone = table.of(rows)
        groups = [group_of(recipe, texts[row].source) for row in numbers]
        targets = vectors if len(numbers) == len(vectors) else vectors[list(numbers)]
        lengths, read_after = [len(ids) for ids in everyone.ids], tuple(sorted({instruction for instruction, _ in wanted}))
        as_queries = recipe.instruction is not None
        return ExampleSet(
            teacher_batch(everyone, targets),
            lengths,
            groups,
            queries=read_after if as_queries else (),
            documents=() if as_queries else read_after,
            lesson=a_comparison(recipe, [texts[row] for row in numbers]),
        )

    def read(files: Sequence[str]) -> list[int]:
        return list(range(len(texts)))

    return Teaching(read, examples, vector_distillation_loss(recipe, projection), reading, extra=projection)


def teacher_batch(table: PromptTable, teacher: np.ndarray) -> BatchBuilder[TextBatch]:
    """Batches of texts with the teacher's vectors."""

    def build(rows: list[int], _: torch.Generator) -> TextBatch:
        return text_batch(table, rows, teacher=torch.from_numpy(np.asarray(teacher[rows], dtype=np.float32)))

    return build


def vector_distillation_loss(recipe: Recipe, projection: nn.Module | None) -> Callable[[Learner, TextBatch], Tensor]:
    """Imitating a teacher's vectors; projection maps the student's to the teacher's dimension where they differ."""

    def loss(learner: Learner, batch: TextBatch) -> Tensor:
        student = text_vectors(learner, batch, recipe.mini_batch_tokens)
        if projection is not None:
            student = projection(student)
        student, teacher = gather_rows(student), gather_rows(learner.send(teacher_of(batch)))
        weights = {"cosine": recipe.distill_cosine, "mse": recipe.distill_mse, "kl": recipe.distill_kl}
        return joined(distillation(student, teacher, **weights, temperature=recipe.distill_temperature))

    return loss


def score_distillation_loss(recipe: Recipe) -> Callable[[Learner, TextBatch], Tensor]:
    """Imitating a teacher's scores of each query's own positive and negatives: a student scores by cosine / temperature."""

    def loss(learner: Learner, batch: TextBatch) -> Tensor:
        vectors = text_vectors(learner, batch, recipe.mini_batch_tokens)
        pairs, teacher = scored_pairs(learner, vectors, batch), learner.send(teacher_of(batch))
        student = torch.full_like(teacher, float("-inf"))
        cosines = cosine_similarity(pairs.queries, pairs.documents)
        student[pairs.rows, pairs.columns] = cosines / recipe.distill_temperature
        return weighted(score_distillation(student, teacher, mse=recipe.distill_mse, kl=recipe.distill_kl), len(teacher))

    return loss


def check_terms(recipe: Recipe, *names: str) -> None:
    """Raise WrongInput if every one of these weights of the loss is 0."""
    if not any(getattr(recipe, name) for name in names):
        raise WrongUsage(f"{' and '.join(names)} are 0: nothing is left to train for")


def needs_projection(recipe: Recipe, student: int, teacher: int) -> bool:
    """Whether student and teacher vectors of these dimensions need one to be compared."""
    return student != teacher and bool(recipe.distill_cosine or recipe.distill_mse)


DISTILL = Objective(load=load_encoder, teach=teach, describe=lambda recipe: "distillation from a teacher")
