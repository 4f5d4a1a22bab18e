"""What the Trainer trains, and the objectives that predict tokens: how a batch is made, how the loss is computed from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ragvec.errors import RagvecError
from ragvec.recipe import Recipe
from ragvec.train.masking import IGNORED, mask_tokens
from ragvec.train.model import Learner
from ragvec.train.ranks import weighted
from ragvec.train.shard import share_like, whole
from ragvec.train.texts import TextBatch
from ragvec.train.tokens import Pieces


@dataclass(frozen=True, slots=True)
class LanguageBatch:
    """Segments of text; the state at predict_from[i] (a position in the packed row) predicts the token labels[i]."""

    ids: list[list[int]]
    predict_from: Tensor
    labels: Tensor


class Objective(nn.Module):
    """What the Trainer trains: a module whose forward is the loss of a batch, computed in the learner's precision."""

    _keys_to_ignore_on_save = None  # the Trainer asks for it when it loads a checkpoint

    def __init__(self, learner: Learner, loss: Callable[[Learner, object], Tensor], extra: nn.Module | None = None) -> None:
        """extra: further weights that the loss trains (the distillation's projection)."""
        super().__init__()
        self.model = learner.whole or learner.backbone
        self.extra = extra
        self.learner, self._loss = learner, loss
        self.tokens_seen = 0
        self.losses_are_finite: bool | Tensor = True  # looked at once a step: to ask a GPU is to wait for it
        self.gathered: dict[str, Tensor] | None = None  # what state_dict gives, of a model dealt out

    def gather(self) -> None:
        """Gather the trained weights of a model dealt out over processes, for state_dict; all of them call this together."""
        self.gathered = None
        self.gathered = whole(self.state_dict())

    def forward(self, batch: LanguageBatch | TextBatch) -> dict[str, Tensor]:
        """The loss of a batch under the key "loss"."""
        self.tokens_seen += sum(map(len, batch.ids))
        half = self.learner.dtype is not torch.float32
        with torch.autocast(self.learner.device.type, dtype=self.learner.dtype if half else None, enabled=half):
            loss = self._loss(self.learner, batch)
        self.losses_are_finite = self.losses_are_finite & torch.isfinite(loss.detach())
        return {"loss": loss}

    def state_dict(self, **_) -> dict[str, Tensor]:
        """The trained weights alone: a checkpoint need not repeat what is frozen, nor a tied weight."""
        if self.gathered is not None:
            return self.gathered
        return {name: weight.detach() for name, weight in self.named_parameters() if weight.requires_grad}

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):
        """Load what state_dict gave. Raises RagvecError for weights that are not the ones trained here."""
        other = state_dict.keys() ^ self.state_dict().keys()
        if other:
            raise RagvecError(f"the checkpoint is of another model or recipe ({min(other)}): start the run anew")
        weights = dict(self.named_parameters())
        shares = {name: share_like(value, weights[name]) for name, value in state_dict.items()}
        return super().load_state_dict(shares, strict=False, assign=assign)


def language_loss(learner: Learner, batch: LanguageBatch) -> Tensor:
    """Cross-entropy of the tokens to be predicted; only their positions pass through the head."""
    hidden = learner.hidden(batch.ids)
    loss = learner.predict_loss(hidden[batch.predict_from.to(hidden.device)], batch.labels.to(hidden.device))
    return weighted(loss, len(batch.labels))


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
