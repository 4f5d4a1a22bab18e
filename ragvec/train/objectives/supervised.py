"""Supervised training: an encoder learns from pairs with hard negatives, or from pairs with degrees of likeness."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ragvec.train.data import read_examples
from ragvec.train.losses import cosent
from ragvec.train.model import Learner, load_encoder
from ragvec.train.objectives.contrastive import contrastive_loss
from ragvec.train.objectives.objective import Objective, Teaching
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
    if recipe.loss == "cosent":
        read = partial(read_examples, recipe, learner.settings, scored="graded")
        return Teaching(read, partial(score_examples, recipe, learner), cosent_loss(recipe))
    return Teaching(
        partial(read_examples, recipe, learner.settings), partial(pair_examples, recipe, learner), contrastive_loss(recipe)
    )


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
