"""Supervised training: an encoder learns from pairs with hard negatives, or from pairs with degrees of likeness."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ragvec.errors import WrongUsage
from ragvec.train.data import Example, read_examples, reading_of
from ragvec.train.losses import cosent
from ragvec.train.model import Learner, load_encoder
from ragvec.train.objectives.contrastive import contrastive_loss
from ragvec.train.objectives.objective import Lesson, Objective, Teaching
from ragvec.train.objectives.texts import (
    TextBatch,
    check_widths,
    pair_examples,
    score_examples,
    scored_pairs,
    text_vectors,
    widths_of,
)
from ragvec.train.ranks import gather_rows, joined
from ragvec.train.recipe import Recipe


def teach(recipe: Recipe, learner: Learner) -> Teaching:
    """The loss that the recipe names: contrastive, or cosent on graded pairs."""
    check_widths(recipe, learner)
    reading, graded = reading_of(recipe), recipe.loss == "cosent"
    read = partial(read_examples, recipe, learner.settings, scored="graded" if graded else None, reading=reading)
    if graded and recipe.guide is not None:
        raise WrongUsage("guide: graded pairs (loss cosent) have no negatives to leave out: take it out")
    if graded:
        examples = partial(score_examples, recipe, learner, lesson=in_order)
        return Teaching(read, examples, cosent_loss(recipe), reading)
    return Teaching(read, partial(pair_examples, recipe, learner), contrastive_loss(recipe), reading)


def in_order(examples: Sequence[Example]) -> Lesson:
    """Graded pairs teach their order: a batch needs two that differ in their scores."""

    def found(rows: Sequence[int]) -> bool:
        return len({score for row in rows for score in examples[row].scores}) > 1

    remedy = (
        "raise per_device_train_batch_size, or set homogeneous_batches to false; if all scores are equal, they teach nothing"
    )
    return Lesson(found, "two pairs with different scores", remedy)


def describe(recipe: Recipe) -> str:
    """What was taught, in the words of a model card."""
    if recipe.loss == "cosent":
        return "supervised learning on graded pairs (CoSENT)"
    return "contrastive learning on pairs with hard negatives"


def cosent_loss(recipe: Recipe) -> Callable[[Learner, TextBatch], Tensor]:
    """The ranking loss of graded pairs: each against all of its batch, those of other processes included.

    With matryoshka_dims the mean over the vectors cut to each of these dimensions and the whole ones.
    """

    def loss(learner: Learner, batch: TextBatch) -> Tensor:
        vectors = text_vectors(learner, batch, recipe.mini_batch_tokens)
        scores, _, _, queries, documents = scored_pairs(learner, vectors, batch)
        widths = widths_of(recipe, vectors)
        cosines = torch.stack([cosine_similarity(queries[:, :width], documents[:, :width]) for width in widths], dim=1)
        return joined(cosent(gather_rows(cosines), gather_rows(scores), scale=recipe.loss_scale))

    return loss


SUPERVISED = Objective(load=load_encoder, teach=teach, describe=describe)
