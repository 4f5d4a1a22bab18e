"""What an objective is: how its model is loaded, how it teaches, and what becomes of the result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ragvec.train.model import Learner
from ragvec.train.recipe import Recipe

B = TypeVar("B")
BatchBuilder = Callable[[list[int], torch.Generator], B]  # example numbers, and random numbers of the batch's own


@dataclass(frozen=True, slots=True)
class ExampleSet(Generic[B]):
    """One set of examples, tokenized: how to build a batch of them, how long each is, and which belong together.

    queries, documents  the distinct instructions that they are read after; none where the objective knows no instruction
    """

    build: BatchBuilder[B]
    lengths: Sequence[int] | np.ndarray
    groups: Sequence[Any] | np.ndarray
    queries: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()


class Teaching(NamedTuple):
    """An objective at work on a recipe and its model.

    read      the examples of files
    examples  those made ready for batches: tokenized
    loss      of a batch
    extra     further weights that the loss trains (the distillation's projection)
    """

    read: Callable[[Sequence[str]], Sequence[Any]]
    examples: Callable[[Sequence[Any]], ExampleSet[Any]]
    loss: Callable[[Learner, Any], Tensor]
    extra: nn.Module | None = None


def _nothing(learner: Learner, recipe: Recipe) -> None:
    """What most objectives change in a model before it is trained."""


class Objective(NamedTuple):
    """Everything that tells one objective from another; each is one module of this package.

    load           the model that a recipe starts from
    teach          data read, batches and loss, for a recipe and its learner
    describe       what was taught, in the words of a model card
    adjust         what is changed in the model before it is trained
    trains_head    whether a recipe trains the language model's head
    makes_decoder  the result is a decoder, not an encoder
    """

    load: Callable[[Recipe, torch.device, torch.dtype], Learner]
    teach: Callable[[Recipe, Learner], Teaching]
    describe: Callable[[Recipe], str]
    adjust: Callable[[Learner, Recipe], None] = _nothing
    trains_head: Callable[[Recipe], bool] = lambda recipe: False
    makes_decoder: bool = False
