"""What the Trainer trains: a module whose forward is the loss of a batch."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ragvec.errors import WrongInput
from ragvec.train.model import Learner
from ragvec.train.shard import share_like, whole_state


class RowsOfBatch(Protocol):
    """What every objective's batches hold: the token ids of texts that lie end to end."""

    @property
    def ids(self) -> list[list[int]]: ...


class LossModule(nn.Module):
    """An objective's loss as a module: its weights are those that are trained, its forward runs in the learner's precision."""

    _keys_to_ignore_on_save = None  # the Trainer asks for it when it loads a checkpoint

    def __init__(self, learner: Learner, loss: Callable[[Learner, Any], Tensor], extra: nn.Module | None = None) -> None:
        """extra: further weights that the loss trains (the distillation's projection)."""
        super().__init__()
        self.model = learner.whole or learner.backbone
        self.extra = extra
        self.learner, self._loss = learner, loss
        self.tokens_seen = 0
        self.losses_are_finite: bool | Tensor = True  # looked at once a step: to ask a GPU is to wait for it
        self.gathered: dict[str, Tensor] | None = None  # what state_dict gives, of a sharded model

    def gather(self) -> None:
        """Gather the trained weights of a model sharded over processes, for state_dict; all of them call this together."""
        self.gathered = None
        self.gathered = whole_state(self.state_dict())

    def forward(self, batch: RowsOfBatch) -> dict[str, Tensor]:
        """The loss of a batch under the key "loss"."""
        self.tokens_seen += sum(map(len, batch.ids))
        half = self.learner.dtype is not torch.float32
        with torch.autocast(self.learner.device.type, dtype=self.learner.dtype if half else None, enabled=half):
            loss = self._loss(self.learner, batch)
        self.losses_are_finite = self.losses_are_finite & torch.isfinite(loss.detach())
        return {"loss": loss}

    def state_dict(self, **_: Any) -> dict[str, Tensor]:  # type: ignore[override]  # the Trainer asks with keywords alone
        """The trained weights alone: a checkpoint need not repeat what is frozen, nor a tied weight."""
        if self.gathered is not None:
            return self.gathered
        return {name: weight.detach() for name, weight in self.named_parameters() if weight.requires_grad}

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Load what state_dict gave. Raises RagvecError for weights that are not the ones trained here."""
        other = state_dict.keys() ^ self.state_dict().keys()
        if other:
            raise WrongInput(f"the checkpoint is of another model or recipe ({min(other)}): start the run anew")
        weights = dict(self.named_parameters())
        shares = {name: share_like(value, weights[name]) for name, value in state_dict.items()}
        return super().load_state_dict(shares, strict=False, assign=assign)
