"""What a run will do, counted before it starts."""

import math
from dataclasses import dataclass

from torch import nn

from ragvec.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The numbers of a run. A step is one optimiser update; total_batch counts examples (or tokens) per step.

    queries, documents  the instructions that they are read after, searched_with: the one that the result puts before a query;
                        all empty for an objective that knows none
    """

    examples: int
    tokens: int
    epochs: float
    batch: str
    accumulation: int
    total_batch: str
    steps: int
    trainable: int
    parameters: int
    processes: int = 1
    queries: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    searched_with: str = ""

    def lines(self) -> list[str]:
        """The plan as it is printed."""
        devices = [f"processes             {self.processes}"] if self.processes > 1 else []
        share = f" ({self.trainable / self.parameters:.2%} of {self.parameters:,})" if self.parameters else ""
        return [
            f"examples              {self.examples:,} ({self.tokens:,} tokens)",
            f"epochs                {self.epochs:g}",
            f"batch per device      {self.batch}",
            *devices,
            f"accumulation          {self.accumulation}",
            f"total batch           {self.total_batch}",
            f"steps                 {self.steps:,}",
            f"trainable parameters  {self.trainable:,}{share}",
            *self._instructions(),
        ]

    def _instructions(self) -> list[str]:
        lines = [f"queries after         {_named(self.queries)}"] if self.queries else []
        lines += [f"documents after       {_named(self.documents)}"] if self.documents else []
        if lines and self.searched_with not in self.queries:
            lines.append(f"searched with         {_named((self.searched_with,))}, which no query was trained with")
        return lines


def make_plan(
    recipe: Recipe,
    *,
    examples: int,
    tokens: int,
    batches: int,
    module: nn.Module,
    processes: int = 1,
    queries: tuple[str, ...] = (),
    documents: tuple[str, ...] = (),
    searched_with: str = "",
) -> TrainingPlan:
    """Count a run.

    batches  per epoch of each process, a multiple of the accumulation steps; processes: how many train together
    The others are TrainingPlan's.
    """
    steps_per_epoch = max(math.ceil(batches / recipe.gradient_accumulation_steps), 1)
    steps = recipe.max_steps if recipe.max_steps > 0 else math.ceil(recipe.num_train_epochs * steps_per_epoch)
    if recipe.stop_after_n_steps is not None:
        steps = min(steps, recipe.stop_after_n_steps)
    size, unit = recipe.per_device_train_batch_size, "examples"
    if recipe.batch_tokens is not None:
        size, unit = recipe.batch_tokens, "tokens at most"
    return TrainingPlan(
        examples=examples,
        tokens=tokens,
        epochs=recipe.num_train_epochs if recipe.max_steps <= 0 else recipe.max_steps / steps_per_epoch,
        batch=f"{size:,} {unit}",
        accumulation=recipe.gradient_accumulation_steps,
        total_batch=f"{size * recipe.gradient_accumulation_steps * processes:,} {unit}",
        steps=steps,
        trainable=count_parameters(module, trainable=True),
        parameters=count_parameters(module),
        processes=processes,
        queries=queries,
        documents=documents,
        searched_with=searched_with,
    )


def _named(instructions: tuple[str, ...]) -> str:
    if len(instructions) > 1:
        return f"{len(instructions)} instructions, by data set: {instructions[0]!r}, …"
    return repr(instructions[0]) if instructions[0] else "no instruction"


def count_parameters(module: nn.Module, *, trainable: bool = False) -> int:
    """How many weights a module has, each counted once; trainable: those alone that training changes."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad or not trainable)
