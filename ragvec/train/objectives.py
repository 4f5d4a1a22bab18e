"""The objectives as functions: how a batch is made from examples, and how the loss is computed from a batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ragvec.errors import RagvecError
from ragvec.losses import distillation, hard_negative_nll, likely_false_negatives
from ragvec.pooling import pool
from ragvec.recipe import Recipe
from ragvec.train.masking import IGNORED, mask_tokens
from ragvec.train.model import Learner
from ragvec.train.ranks import gather_rows, joined, weighted
from ragvec.train.tokens import Pieces


@dataclass(frozen=True, slots=True)
class LanguageBatch:
    """Segments of text; the state at predict_from[i] (a position in the packed row) predicts the token labels[i]."""

    ids: list[list[int]]
    predict_from: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Prompts of texts, shortest first; vectors[place] puts their vectors back in order.

    sizes       how many of them, in order, are queries, positives and negatives
    documents   numbers of the positives' and negatives' texts, so that equal ones are told; None = it is not asked
    teacher     (n, dim) vectors to imitate, where the objective is distillation
    """

    ids: list[list[int]]
    pool_starts: list[int]
    place: Tensor
    sizes: tuple[int, int, int] = (0, 0, 0)
    documents: Tensor | None = None
    teacher: Tensor | None = None


@dataclass(frozen=True, slots=True)
class PromptTable:
    """Tokenized prompts of every distinct text of a training set."""

    ids: list[np.ndarray]
    pool_starts: list[int]


class Objective(nn.Module):
    """What the Trainer trains: a module whose forward is the loss of a batch, computed in the learner's precision."""

    _keys_to_ignore_on_save = None  # the Trainer asks for it when it loads a checkpoint

    def __init__(self, learner: Learner, loss: Callable[[Learner, object], Tensor], extra: nn.Module | None = None) -> None:
        """extra: further weights that the loss trains (the distillation's projection)."""
        super().__init__()
        self.model = learner.whole or learner.backbone
        self.extra = extra
        self._learner, self._loss = learner, loss
        self.tokens_seen = 0
        self.losses_are_finite = True

    def forward(self, batch: LanguageBatch | TextBatch) -> dict[str, Tensor]:
        """The loss of a batch under the key "loss"."""
        self.tokens_seen += sum(map(len, batch.ids))
        half = self._learner.dtype is not torch.float32
        with torch.autocast(self._learner.device.type, dtype=self._learner.dtype if half else None, enabled=half):
            loss = self._loss(self._learner, batch)
        self.losses_are_finite = self.losses_are_finite and bool(torch.isfinite(loss))
        return {"loss": loss}

    def state_dict(self, **_) -> dict[str, Tensor]:
        """The trained weights alone: a checkpoint need not repeat what is frozen, nor a tied weight."""
        return {name: weight.detach() for name, weight in self.named_parameters() if weight.requires_grad}

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):
        """Load what state_dict gave. Raises RagvecError for weights that are not the ones trained here."""
        other = state_dict.keys() ^ self.state_dict().keys()
        if other:
            raise RagvecError(f"the checkpoint is of another model or recipe ({min(other)}): start the run anew")
        return super().load_state_dict(state_dict, strict=False, assign=assign)


def language_loss(learner: Learner, batch: LanguageBatch) -> Tensor:
    """Cross-entropy of the tokens to be predicted; only their positions pass through the head."""
    hidden = learner.hidden(batch.ids)
    loss = learner.predict_loss(hidden[batch.predict_from.to(hidden.device)], batch.labels.to(hidden.device))
    return weighted(loss, len(batch.labels))


def contrastive_loss(recipe: Recipe) -> Callable[[Learner, TextBatch], Tensor]:
    """The loss of SimCSE and of supervised training: a query against all positives and hard negatives of its batch."""

    def loss(learner: Learner, batch: TextBatch) -> Tensor:
        queries, positives, negatives = (gather_rows(part) for part in text_vectors(learner, batch).split(batch.sizes))
        excluded = None
        if batch.documents is not None:
            documents = batch.documents.to(queries.device).split(batch.sizes[1:])
            excluded = identical_to_positive(*(gather_rows(part) for part in documents))
        if recipe.false_negative_margin is not None:
            likely = likely_false_negatives(queries, positives, negatives, margin=recipe.false_negative_margin)
            excluded = likely if excluded is None else likely | excluded
        return joined(hard_negative_nll(queries, positives, negatives, scale=recipe.loss_scale, excluded=excluded))

    return loss


def identical_to_positive(positives: Tensor, negatives: Tensor) -> Tensor:
    """Which documents are word for word a query's own positive, (n, n + m) bool, from the numbers of their texts."""
    return positives[:, None] == torch.cat([positives, negatives])[None]


def distillation_loss(recipe: Recipe, projection: nn.Module | None) -> Callable[[Learner, TextBatch], Tensor]:
    """The loss of distillation; projection maps the student's vectors to the teacher's dimension where they differ."""

    def loss(learner: Learner, batch: TextBatch) -> Tensor:
        student = text_vectors(learner, batch)
        if projection is not None:
            student = projection(student)
        terms = {"cosine": recipe.distill_cosine, "mse": recipe.distill_mse, "kl": recipe.distill_kl}
        student, teacher = gather_rows(student), gather_rows(batch.teacher.to(student.device))
        return joined(distillation(student, teacher, **terms, temperature=recipe.distill_temperature))

    return loss


def text_vectors(learner: Learner, batch: TextBatch) -> Tensor:
    """Pooled vectors (n, dim) float32 of a batch's texts, in their own order. What is pooled are real tokens only."""
    hidden = learner.hidden(batch.ids)
    with torch.autocast(hidden.device.type, enabled=False):
        vectors = pool(hidden, [len(text) for text in batch.ids], batch.pool_starts, learner.settings.pooling)
    return vectors[batch.place.to(vectors.device)]


def causal_batch(pieces: Pieces) -> Callable[[list[int], torch.Generator], LanguageBatch]:
    """Batches for causal language modelling: every token of a segment but the first is predicted."""

    def build(rows: list[int], _: torch.Generator) -> LanguageBatch:
        segments = _segments(pieces, rows)
        flat = torch.from_numpy(np.concatenate(segments)).long()
        predicted = torch.ones(len(flat), dtype=torch.bool)
        predicted[_firsts(segments)] = False
        return _language_batch(segments, flat, torch.where(predicted, flat, IGNORED))

    return build


def masked_batch(
    pieces: Pieces, recipe: Recipe, *, mask_id: int, special: Tensor, vocabulary: int
) -> Callable[[list[int], torch.Generator], LanguageBatch]:
    """Batches for masked next token prediction: the state before a chosen token predicts it.

    special  (vocabulary or more,) bool table of the ids that are never chosen
    """

    def build(rows: list[int], generator: torch.Generator) -> LanguageBatch:
        segments = _segments(pieces, rows)
        flat = torch.from_numpy(np.concatenate(segments)).long()
        ids, labels = mask_tokens(
            flat, special[flat], probability=recipe.mlm_probability, mask_id=mask_id, vocabulary=vocabulary,
            all_mask=recipe.data_collator_type == "all_mask", generator=generator,
        )  # fmt: skip
        labels[_firsts(segments)] = IGNORED  # nothing of its own text stands before a first token
        return _language_batch(segments, ids, labels)

    return build


def pair_batch(table: PromptTable, examples: Sequence[tuple[int, int, tuple[int, ...]]], mask_identical: bool):
    """Batches of queries, positives and negatives, given as rows of a prompt table."""

    def build(rows: list[int], _: torch.Generator) -> TextBatch:
        chosen = [examples[row] for row in rows]
        queries, positives = [one[0] for one in chosen], [one[1] for one in chosen]
        negatives = [negative for one in chosen for negative in one[2]]
        documents = torch.tensor([*positives, *negatives]) if mask_identical else None
        return _text_batch(table, [*queries, *positives, *negatives],
                           sizes=(len(queries), len(positives), len(negatives)), documents=documents)  # fmt: skip

    return build


def teacher_batch(table: PromptTable, teacher: np.ndarray):
    """Batches of texts with the teacher's vectors."""

    def build(rows: list[int], _: torch.Generator) -> TextBatch:
        return _text_batch(table, rows, teacher=torch.from_numpy(np.asarray(teacher[rows], dtype=np.float32)))

    return build


def _segments(pieces: Pieces, rows: list[int]) -> list[np.ndarray]:
    """The segments of some examples, equal lengths side by side so that attention computes them in one call."""
    return sorted((segment for row in rows for segment in pieces.segments_of(row)), key=len)


def _firsts(segments: list[np.ndarray]) -> Tensor:
    lengths = torch.tensor([len(segment) for segment in segments])
    return lengths.cumsum(0) - lengths


def _language_batch(segments: list[np.ndarray], ids: Tensor, labels: Tensor) -> LanguageBatch:
    chosen = (labels != IGNORED).nonzero()[:, 0]
    flat, edges = ids.tolist(), np.cumsum([0, *map(len, segments)])
    texts = [flat[begin:end] for begin, end in zip(edges[:-1], edges[1:], strict=True)]
    return LanguageBatch(texts, chosen - 1, labels[chosen])


def _text_batch(table: PromptTable, rows: list[int], **more) -> TextBatch:
    order = sorted(range(len(rows)), key=lambda place: len(table.ids[rows[place]]))
    place = torch.empty(len(rows), dtype=torch.long)
    place[order] = torch.arange(len(rows))
    ids = [table.ids[rows[one]].tolist() for one in order]
    return TextBatch(ids, [table.pool_starts[rows[one]] for one in order], place, **more)


def check_dimensions(recipe: Recipe, student: int, teacher: int) -> bool:
    """Whether a projection is needed; raises RagvecError if no term of the loss is left."""
    if not (recipe.distill_cosine or recipe.distill_mse or recipe.distill_kl):
        raise RagvecError("distill_cosine, distill_mse and distill_kl are all 0: nothing is left to train for")
    return student != teacher and bool(recipe.distill_cosine or recipe.distill_mse)
