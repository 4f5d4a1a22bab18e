"""The run itself, on the Hugging Face Trainer: optimiser, checkpoints, logging, evaluation, interruption."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from ragvec.encoder.weights import quiet
from ragvec.errors import RagvecError
from ragvec.progress import progress_bar
from ragvec.recipe import Recipe
from ragvec.train.objectives import Objective
from ragvec.train.prepare import Prepared
from ragvec.train.sampler import Batches

CHECKPOINTS = "checkpoints"


def run_trainer(prepared: Prepared, recipe: Recipe, *, steps: int, resume: bool, report: Callable[[str], None],
                show_progress: bool) -> list[dict]:  # fmt: skip
    """Train, and return the log: a dict for each logged step.

    Raises KeyboardInterrupt after SIGINT, once the step under way is finished and its checkpoint is written.
    """
    objective = prepared.objective
    arguments = _arguments(recipe, objective)
    watch = _Watch(prepared, recipe, steps, report, show_progress)
    trainer = Trainer(
        model=objective,
        args=arguments,
        train_dataset=prepared.batches,
        data_collator=lambda entries: {"batch": entries[0]},  # an entry is a whole batch already
        optimizers=(make_optimizer(objective, recipe), None),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    objective.train()
    with quiet(show_progress=False), _graceful_interrupt(watch):
        trainer.train(resume_from_checkpoint=last_checkpoint(recipe) if resume else None)
    if watch.interrupted:
        raise KeyboardInterrupt
    return [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]


def make_optimizer(objective: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; vectors (norms, biases) are not decayed, token embeddings may have a learning rate of their own."""
    embeddings = {id(part.weight) for part in objective.modules() if isinstance(part, nn.Embedding)}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for weight in objective.parameters():
        if weight.requires_grad:
            groups.setdefault((id(weight) in embeddings, weight.ndim >= 2), []).append(weight)
    if not groups:
        raise RagvecError("nothing is left to train: everything is frozen")
    own_rate = recipe.embedding_learning_rate
    return torch.optim.AdamW(
        [
            {
                "params": weights,
                "lr": own_rate if embedding and own_rate is not None else recipe.learning_rate,
                "weight_decay": recipe.weight_decay if decays else 0.0,
            }
            for (embedding, decays), weights in groups.items()
        ],
        betas=(recipe.adam_beta1, recipe.adam_beta2),
        eps=recipe.adam_epsilon,
        fused=True,
    )


def last_checkpoint(recipe: Recipe) -> str:
    """The newest checkpoint below the output folder. Raises RagvecError if there is none."""
    folder = Path(recipe.output_dir) / CHECKPOINTS
    found = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if found is None:
        raise RagvecError(f"{folder} holds no checkpoint to resume from: leave --resume out")
    return found


@torch.no_grad()
def mean_loss(objective: Objective, batches: Batches) -> float:
    """The mean loss over a validation set, without dropout."""
    seen, training = objective.tokens_seen, objective.training
    objective.eval()
    losses = [objective(batches[number])["loss"].item() for number in range(len(batches))]
    objective.train(training)
    objective.tokens_seen = seen
    return sum(losses) / len(losses)


def _arguments(recipe: Recipe, objective: Objective) -> TrainingArguments:
    warmup = recipe.warmup_steps or recipe.warmup_ratio  # below 1 the Trainer reads it as a share of all steps
    arguments = TrainingArguments(
        output_dir=str(Path(recipe.output_dir) / CHECKPOINTS),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        num_train_epochs=recipe.num_train_epochs,
        max_steps=recipe.max_steps,
        learning_rate=recipe.learning_rate,
        warmup_steps=warmup,
        lr_scheduler_type=recipe.lr_scheduler_type,
        max_grad_norm=recipe.max_grad_norm,
        logging_steps=recipe.logging_steps,
        save_steps=recipe.save_steps,
        save_total_limit=recipe.save_total_limit,
        save_only_model=recipe.save_only_model,
        seed=recipe.seed,
        use_cpu=next(objective.parameters()).device.type == "cpu",
        train_sampling_strategy="sequential",  # the batches are shuffled already
        remove_unused_columns=False,
        label_names=[],
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one process: on several GPUs the Trainer would replicate the model by threads
    return arguments


class _Watch(TrainerCallback):
    """Counts tokens, prints a line now and then, evaluates, and stops where it should."""

    def __init__(self, prepared: Prepared, recipe: Recipe, steps: int, report: Callable[[str], None], show: bool) -> None:
        self._prepared, self._recipe, self._steps, self._report, self._show = prepared, recipe, steps, report, show
        self._clock, self._tokens = 0.0, 0
        self._bar = None
        self.interrupted = False

    def on_train_begin(self, args, state, control, **_) -> None:
        self._bar = progress_bar("training", total=self._steps, unit="steps", show=self._show)
        self._bar.update(state.global_step)
        self._clock, self._tokens = time.perf_counter(), self._prepared.objective.tokens_seen

    def on_step_end(self, args, state, control, **_) -> None:
        self._bar.update(1)
        if self._prepared.validation is not None and state.global_step % self._recipe.eval_steps == 0:
            self._evaluate(state)
        stop = self._recipe.stop_after_n_steps
        if stop is not None and state.global_step >= stop:
            control.should_training_stop = control.should_save = True
        if self.interrupted:
            control.should_training_stop = control.should_save = True

    def on_log(self, args, state, control, logs=None, **_) -> None:
        if "loss" not in logs:
            return
        logs = state.log_history[-1]
        now, seen = time.perf_counter(), self._prepared.objective.tokens_seen
        logs["tokens_per_second"] = round((seen - self._tokens) / max(now - self._clock, 1e-9))
        self._clock, self._tokens = now, seen
        self._say(
            f"step {state.global_step:,}/{self._steps:,}  loss {logs['loss']:.4f}  "
            f"learning rate {logs['learning_rate']:.2e}  {logs['tokens_per_second']:,} tokens/s"
        )

    def on_train_end(self, args, state, control, **_) -> None:
        due = state.global_step % self._recipe.eval_steps != 0  # otherwise the last step did it
        if self._prepared.validation is not None and due and not self.interrupted:
            self._evaluate(state)
        self._bar.close()

    def _evaluate(self, state) -> None:
        started = time.perf_counter()
        loss = mean_loss(self._prepared.objective, self._prepared.validation)
        state.log_history.append({"step": state.global_step, "eval_loss": loss})
        self._say(f"step {state.global_step:,}/{self._steps:,}  validation loss {loss:.4f}")
        self._clock += time.perf_counter() - started

    def _say(self, line: str) -> None:
        self._bar.clear()
        self._report(line)
        self._bar.refresh()


@contextmanager
def _graceful_interrupt(watch: _Watch) -> Iterator[None]:
    """Let the first Ctrl-C finish the step and save a checkpoint; the second ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number, frame) -> None:
        if watch.interrupted:
            raise KeyboardInterrupt
        watch.interrupted = True

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
