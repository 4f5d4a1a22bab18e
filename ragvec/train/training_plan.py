"""What a run will do, counted before it starts."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from ragvec.train.model import Learner
from ragvec.train.prepare import Prepared
from ragvec.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The numbers of a run. A step is one optimiser update; total_batch counts examples (or tokens) per step.

    queries, documents  the instructions that they are read after, searched_with: the one that the result puts before a query;
                        all empty for an objective that knows none
    negatives           hard ones of all examples; None where there is no such thing
    device, precision   where the run computes, and in what
    remarks             further lines, each under its name
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
    negatives: int | None = None
    device: str = ""
    precision: str = ""
    remarks: tuple[tuple[str, str], ...] = ()

    def lines(self) -> list[str]:
        """The plan as it is printed."""
        devices = [_line("processes", f"{self.processes}")] if self.processes > 1 else []
        share = f" ({self.trainable / self.parameters:.2%} of {self.parameters:,})" if self.parameters else ""
        return [
            _line("examples", f"{self.examples:,} ({self.tokens:,} tokens)"),
            _line("epochs", f"{self.epochs:g}"),
            _line("batch per device", self.batch),
            *devices,
            _line("accumulation", f"{self.accumulation}"),
            _line("total batch", self.total_batch),
            _line("steps", f"{self.steps:,}"),
            _line("trainable parameters", f"{self.trainable:,}{share}"),
            *self._instructions(),
            *([] if self.negatives is None else [_line("hard negatives", self._negatives())]),
            *(_line(name, told) for name, told in self.remarks),
            _line("device", f"{self.device}, {self.precision}"),
            _line("expected time", "is told with the first step, and with every line from then on"),
        ]

    def _negatives(self) -> str:
        each = f"{self.negatives:,} ({(self.negatives or 0) / self.examples:.1f} an example)"
        return each if self.negatives else "none: the other texts of a batch are all that a query is told from"

    def _instructions(self) -> list[str]:
        lines = [_line("queries after", _named(self.queries))] if self.queries else []
        lines += [_line("documents after", _named(self.documents))] if self.documents else []
        if lines and self.searched_with not in self.queries:
            lines.append(_line("searched with", f"{_named((self.searched_with,))}, which no query was trained with"))
        return lines


def make_plan(recipe: Recipe, prepared: Prepared, *, processes: int = 1) -> TrainingPlan:
    """Count a run of so many processes."""
    module, learner = prepared.module, prepared.module.learner
    batches = len(prepared.batches) // processes  # of each, a multiple of the accumulation steps
    steps_per_epoch = max(math.ceil(batches / recipe.gradient_accumulation_steps), 1)
    planned = steps = recipe.max_steps if recipe.max_steps > 0 else math.ceil(recipe.num_train_epochs * steps_per_epoch)
    if recipe.stop_after_n_steps is not None:
        steps = min(steps, recipe.stop_after_n_steps)
    size, unit = recipe.per_device_train_batch_size, "examples"
    if recipe.batch_tokens is not None:
        size, unit = recipe.batch_tokens, "tokens at most"
    return TrainingPlan(
        examples=prepared.examples,
        tokens=prepared.tokens,
        epochs=recipe.num_train_epochs if recipe.max_steps <= 0 else recipe.max_steps / steps_per_epoch,
        batch=f"{size:,} {unit}",
        accumulation=recipe.gradient_accumulation_steps,
        total_batch=f"{size * recipe.gradient_accumulation_steps * processes:,} {unit}",
        steps=steps,
        trainable=count_parameters(module, trainable=True),
        parameters=count_parameters(module),
        processes=processes,
        queries=prepared.queries,
        documents=prepared.documents,
        searched_with=learner.settings.query_instruction,
        negatives=prepared.negatives,
        device=str(learner.device),
        precision=_precision(learner, module),
        remarks=(*_warmup(recipe, planned, steps), *prepared.remarks),
    )


def _line(name: str, told: str) -> str:
    return f"{name:<22}{told}"


def _warmup(recipe: Recipe, planned: int, steps: int) -> list[tuple[str, str]]:
    """What the plan says of a learning rate that is never reached. planned: steps of the schedule, steps: of this run."""
    warmup = math.ceil(planned * recipe.warmup_ratio) if not recipe.warmup_steps else recipe.warmup_steps
    warmup = warmup if warmup >= 1 else math.ceil(planned * warmup)  # below 1 the Trainer reads it as a share
    if warmup < steps or recipe.lr_scheduler_type == "constant" or not warmup:
        return []
    reached = recipe.learning_rate * (steps - 1) / warmup  # the last step's
    told = f"{warmup:,g} steps of {steps:,}: the learning rate never passes {reached:.2g} of {recipe.learning_rate:.2g}"
    return [("warmup", f"{told}; lower warmup_steps")]


def _precision(learner: Learner, module: nn.Module) -> str:
    """In what a run multiplies, and in what it keeps the weights that it trains."""
    kept = {weight.dtype for weight in module.parameters() if weight.requires_grad} - {learner.dtype}
    apart = f", what is trained stays in {', '.join(sorted(map(_dtype_name, kept)))}" if kept else ""
    return f"{_dtype_name(learner.dtype)}{apart}"


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _named(instructions: tuple[str, ...]) -> str:
    if len(instructions) > 1:
        return f"{len(instructions)} instructions, by data set: {instructions[0]!r}, …"
    return repr(instructions[0]) if instructions[0] else "no instruction"


def count_parameters(module: nn.Module, *, trainable: bool = False) -> int:
    """How many weights a module has, each counted once; trainable: those alone that training changes."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad or not trainable)
