"""The contrastive loss, which SimCSE and supervised training share, and which pairs of a batch are no negatives."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ragvec.train.losses import hard_negative_nll, likely_false_negatives
from ragvec.train.model import Learner
from ragvec.train.objectives.texts import TextBatch, text_vectors, widths_of
from ragvec.train.ranks import gather_rows, joined
from ragvec.train.recipe import Recipe


def contrastive_loss(recipe: Recipe) -> Callable[[Learner, TextBatch], Tensor]:
    """The loss of SimCSE and of supervised training: a query against all positives and hard negatives of its batch.

    With matryoshka_dims the mean over the vectors cut to each of these dimensions and the whole ones.
    """

    def loss(learner: Learner, batch: TextBatch) -> Tensor:
        vectors = text_vectors(learner, batch, recipe.mini_batch_tokens)
        queries, positives, negatives = (gather_rows(part) for part in vectors.split(batch.sizes))
        excluded = _excluded(recipe, learner, (queries, positives, negatives), batch)
        losses = [
            hard_negative_nll(*(part[:, :width] for part in (queries, positives, negatives)), scale=recipe.loss_scale,
                              excluded=excluded)
            for width in widths_of(recipe, vectors)
        ]  # fmt: skip
        return joined(torch.stack(losses).mean())

    return loss


def _excluded(
    recipe: Recipe, learner: Learner, vectors: Sequence[Tensor], batch: TextBatch
) -> Callable[[slice], Tensor] | None:
    """What tells for some of the queries which pairs are no negatives; None = all are."""
    numbers, margin = None, recipe.false_negative_margin
    if batch.guide is not None:
        vectors = [gather_rows(part) for part in learner.send(batch.guide).split(batch.sizes)]
        margin = margin or 0.0  # the guide judges, and not the vectors that are learned
    if batch.numbers is not None:
        numbers = [gather_rows(part) for part in learner.send(batch.numbers).split(batch.sizes)]
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
