"""Objectives on whole texts: batches of prompts, their vectors, and the contrastive and distillation losses over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ragvec.encoder.pooling import pool
from ragvec.errors import RagvecError
from ragvec.recipe import Recipe
from ragvec.train.cached import in_runs
from ragvec.train.losses import cosent, distillation, hard_negative_nll, likely_false_negatives, score_distillation
from ragvec.train.model import Learner
from ragvec.train.ranks import gather_rows, joined, weighted


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Prompts of texts, shortest first; vectors[place] puts their vectors back in order.

    sizes     how many of them, in order, are queries, positives and negatives
    numbers   of the texts, so that equal ones are told; None = it is not asked
    teacher   what to learn: vectors (n, dim), or scores (queries, most candidates of one), −inf where it has fewer
    """

    ids: list[list[int]]
    pool_starts: list[int]
    place: Tensor
    sizes: tuple[int, int, int] = (0, 0, 0)
    numbers: Tensor | None = None
    teacher: Tensor | None = None


@dataclass(frozen=True, slots=True)
class PromptTable:
    """Tokenized prompts of every distinct text of a training set."""

    ids: list[np.ndarray]
    pool_starts: list[int]


def contrastive_loss(recipe: Recipe) -> Callable[[Learner, TextBatch], Tensor]:
    """The loss of SimCSE and of supervised training: a query against all positives and hard negatives of its batch.

    With matryoshka_dims the mean over the vectors cut to each of these dimensions and the whole ones.
    """

    def loss(learner: Learner, batch: TextBatch) -> Tensor:
        vectors = text_vectors(learner, batch, recipe.mini_batch_tokens)
        queries, positives, negatives = (gather_rows(part) for part in vectors.split(batch.sizes))
        excluded = _excluded(recipe, (queries, positives, negatives), batch)
        widths = {*recipe.matryoshka_dims, vectors.shape[1]}
        losses = [
            hard_negative_nll(*(part[:, :width] for part in (queries, positives, negatives)), scale=recipe.loss_scale,
                              excluded=excluded)
            for width in sorted(widths)
        ]  # fmt: skip
        return joined(torch.stack(losses).mean())

    return loss


def _excluded(recipe: Recipe, vectors: Sequence[Tensor], batch: TextBatch) -> Callable[[slice], Tensor] | None:
    """What tells for some of the queries which pairs are no negatives; None = all are."""
    numbers, margin = None, recipe.false_negative_margin
    if batch.numbers is not None:
        numbers = [gather_rows(part) for part in batch.numbers.to(vectors[0].device).split(batch.sizes)]
    if margin is None:
        return None if numbers is None else lambda rows: no_negatives(*numbers, rows=rows)

    def excluded(rows: slice) -> Tensor:
        likely = likely_false_negatives(*vectors, margin=margin, rows=rows)
        return likely if numbers is None else likely | no_negatives(*numbers, rows=rows)

    return excluded


def no_negatives(queries: Tensor, positives: Tensor, negatives: Tensor, *, rows: slice = slice(None)) -> Tensor:
    """Which documents are no negatives to some of the queries, (rows, n + m) bool, from the numbers of their texts.

    Word for word its positive, or the query itself, or the positive of an equal query.
    """
    documents = torch.cat([positives, negatives])[None]
    excluded = (documents == positives[rows, None]) | (documents == queries[rows, None])
    excluded[:, : len(positives)] |= queries[rows, None] == queries[None]
    return excluded


def vector_distillation_loss(recipe: Recipe, projection: nn.Module | None) -> Callable[[Learner, TextBatch], Tensor]:
    """Imitating a teacher's vectors; projection maps the student's to the teacher's dimension where they differ."""

    def loss(learner: Learner, batch: TextBatch) -> Tensor:
        student = text_vectors(learner, batch, recipe.mini_batch_tokens)
        if projection is not None:
            student = projection(student)
        terms = {"cosine": recipe.distill_cosine, "mse": recipe.distill_mse, "kl": recipe.distill_kl}
        student, teacher = gather_rows(student), gather_rows(batch.teacher.to(student.device))
        return joined(distillation(student, teacher, **terms, temperature=recipe.distill_temperature))

    return loss


def cosent_loss(recipe: Recipe) -> Callable[[Learner, TextBatch], Tensor]:
    """The ranking loss of graded pairs: each against all of its batch, those of other processes included.

    With matryoshka_dims the mean over the vectors cut to each of these dimensions and the whole ones.
    """

    def loss(learner: Learner, batch: TextBatch) -> Tensor:
        vectors = text_vectors(learner, batch, recipe.mini_batch_tokens)
        scores, queries, documents = _scored_pairs(vectors, batch)
        widths = sorted({*recipe.matryoshka_dims, vectors.shape[1]})
        cosines = torch.stack([cosine_similarity(queries[:, :width], documents[:, :width]) for width in widths], dim=1)
        return joined(cosent(gather_rows(cosines), gather_rows(scores), scale=recipe.loss_scale))

    return loss


def score_distillation_loss(recipe: Recipe) -> Callable[[Learner, TextBatch], Tensor]:
    """Imitating a teacher's scores of each query's own positive and negatives: a student scores by cosine / temperature."""

    def loss(learner: Learner, batch: TextBatch) -> Tensor:
        vectors = text_vectors(learner, batch, recipe.mini_batch_tokens)
        _, queries, documents = _scored_pairs(vectors, batch)
        teacher = batch.teacher.to(vectors.device)
        student = torch.full_like(teacher, float("-inf"))
        student[torch.isfinite(teacher)] = cosine_similarity(queries, documents) / recipe.distill_temperature
        return weighted(score_distillation(student, teacher, mse=recipe.distill_mse, kl=recipe.distill_kl), len(teacher))

    return loss


def _scored_pairs(vectors: Tensor, batch: TextBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Every score of a batch (n,), and the vectors of the two texts that it is about, (n, dim) each."""
    teacher = batch.teacher.to(vectors.device)
    there = torch.isfinite(teacher)
    queries, documents = vectors.split((batch.sizes[0], len(vectors) - batch.sizes[0]))
    return teacher[there], queries[there.nonzero()[:, 0]], documents


def text_vectors(learner: Learner, batch: TextBatch, mini_batch_tokens: int | None = None) -> Tensor:
    """Pooled vectors (n, dim) float32 of a batch's texts, in their own order. What is pooled are real tokens only.

    mini_batch_tokens  compute runs of texts of so many tokens at most, and each anew on the way back: activations of one
                       run exist at once, and the gradients are those of the whole batch
    """
    if mini_batch_tokens is None:
        vectors = _pooled(learner, batch.ids, batch.pool_starts)
    else:
        runs = _runs([len(text) for text in batch.ids], mini_batch_tokens)
        vectors = in_runs(lambda run: _pooled(learner, batch.ids[run], batch.pool_starts[run]), runs, learner.backbone)
    return vectors[batch.place.to(vectors.device)]


def _pooled(learner: Learner, ids: list[list[int]], pool_starts: list[int]) -> Tensor:
    hidden = learner.hidden(ids)
    with torch.autocast(hidden.device.type, enabled=False):
        return pool(hidden, [len(text) for text in ids], pool_starts, learner.settings.pooling)


def _runs(lengths: Sequence[int], most: int) -> list[slice]:
    """Neighbouring texts of so many tokens at most; a longer text stands alone."""
    edges, room = [0], most
    for place, length in enumerate(lengths):
        if length > room and place > edges[-1]:
            edges.append(place)
            room = most
        room -= length
    return [slice(begin, end) for begin, end in zip(edges, [*edges[1:], len(lengths)], strict=True)]


def pair_batch(table: PromptTable, examples: Sequence[tuple[int, int, tuple[int, ...]]], mask_identical: bool):
    """Batches of queries, positives and negatives, given as rows of a prompt table."""

    def build(rows: list[int], _: torch.Generator) -> TextBatch:
        chosen = [examples[row] for row in rows]
        queries, positives = [one[0] for one in chosen], [one[1] for one in chosen]
        negatives = [negative for one in chosen for negative in one[2]]
        everyone = [*queries, *positives, *negatives]
        numbers = torch.tensor(everyone) if mask_identical else None
        return _text_batch(table, everyone, sizes=(len(queries), len(positives), len(negatives)), numbers=numbers)

    return build


def teacher_batch(table: PromptTable, teacher: np.ndarray):
    """Batches of texts with the teacher's vectors."""

    def build(rows: list[int], _: torch.Generator) -> TextBatch:
        return _text_batch(table, rows, teacher=torch.from_numpy(np.asarray(teacher[rows], dtype=np.float32)))

    return build


def score_batch(table: PromptTable, examples: Sequence[tuple[int, int, tuple[int, ...]]], scores: Sequence[tuple[float, ...]]):
    """Batches of queries with their candidates (positive first) and the teacher's scores of these."""

    def build(rows: list[int], _: torch.Generator) -> TextBatch:
        chosen = [examples[row] for row in rows]
        candidates = [document for one in chosen for document in (one[1], *one[2])]
        teacher = torch.full((len(rows), max(len(scores[row]) for row in rows)), float("-inf"))
        for place, row in enumerate(rows):
            teacher[place, : len(scores[row])] = torch.tensor(scores[row])
        queries = [one[0] for one in chosen]
        return _text_batch(table, [*queries, *candidates], sizes=(len(rows), len(candidates), 0), teacher=teacher)

    return build


def _text_batch(table: PromptTable, rows: list[int], **more) -> TextBatch:
    order = sorted(range(len(rows)), key=lambda place: len(table.ids[rows[place]]))
    place = torch.empty(len(rows), dtype=torch.long)
    place[order] = torch.arange(len(rows))
    ids = [table.ids[rows[one]].tolist() for one in order]
    return TextBatch(ids, [table.pool_starts[rows[one]] for one in order], place, **more)


def check_widths(recipe: Recipe, width: int) -> None:
    """Raise RagvecError if matryoshka_dims names dimensions that the model's vectors don't have."""
    wrong = [dim for dim in recipe.matryoshka_dims if not 1 <= dim <= width]
    if wrong:
        raise RagvecError(f"matryoshka_dims: {wrong[0]} is outside 1 … {width}, the dimension of the model's vectors")


def check_terms(recipe: Recipe, *names: str) -> None:
    """Raise RagvecError if every one of these weights of the loss is 0."""
    if not any(getattr(recipe, name) for name in names):
        raise RagvecError(f"{' and '.join(names)} are 0: nothing is left to train for")


def needs_projection(recipe: Recipe, student: int, teacher: int) -> bool:
    """Whether student and teacher vectors of these dimensions need one to be compared."""
    return student != teacher and bool(recipe.distill_cosine or recipe.distill_mse)
