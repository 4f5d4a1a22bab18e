"""What happens around the steps of a run: lines and bar, validation, stops, and no step on a broken gradient."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils import get_total_norm
from transformers import TrainerCallback

from ragvec.errors import RagvecError
from ragvec.progress import duration, progress_bar
from ragvec.train import ranks
from ragvec.train.checkpoints import SPENT, Entry, newest_checkpoint
from ragvec.train.data.batches import Batches
from ragvec.train.evaluation import Best, keep_if_best, measure
from ragvec.train.loss_module import LossModule
from ragvec.train.prepare import Prepared
from ragvec.train.recipe import Recipe
from ragvec.train.shard import WholeOptimizerState, whole

_BETWEEN_LINES = 60  # seconds, unless the recipe counts steps


class Watch(TrainerCallback):
    """The Trainer's callback. A signal sets `interrupted`: the step under way ends, a checkpoint is written, training stops."""

    log: Callable[[dict[str, float]], None]  # the Trainer's, set once there is one
    optimizer_state: WholeOptimizerState | None = None  # of a model sharded over processes

    def __init__(self, prepared: Prepared, recipe: Recipe, *, steps: int, report: Callable[[str], None], show: bool,
                 on_save: Callable[[list[Entry]], None], seconds: Callable[[], float]) -> None:  # fmt: skip
        """steps: of the whole run; report is told lines, show: a progress bar too; on_save is given the log.

        seconds  tells how long the run has taken, the parts before a resumption included
        """
        self._seconds = seconds
        self._module, self._validation, self._metric = prepared.module, prepared.validation, prepared.metric
        self._evaluates = prepared.validation is not None or recipe.eval_dataset is not None
        self._on_save = on_save
        self._recipe, self._steps, self._report, self._show = recipe, steps, report, show
        self._clock, self._tokens = 0.0, 0.0
        self._began, self._first, self._told = 0.0, 0, 0.0  # when this process began, at which step; when it last said a loss
        self._bar = progress_bar("training", total=steps, unit="steps", show=False)  # until the training begins
        self.interrupted = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar = progress_bar("training", total=self._steps, unit="steps", show=self._show)
        self._bar.update(state.global_step)
        self._clock, self._tokens = time.perf_counter(), ranks.total(self._module.tokens_seen)
        self._began, self._first = self._clock, state.global_step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        gradients = [weight.grad for weight in self._module.parameters() if weight.grad is not None]
        if torch.isfinite(whole(get_total_norm(gradients))) & self._module.losses_are_finite:  # one question to a GPU, not two
            return
        checkpoint = newest_checkpoint(self._recipe) if not self._recipe.save_only_model else None
        what = "gradient" if self._module.losses_are_finite else "loss"
        raise RagvecError(
            f"the {what} of step {state.global_step + 1:,} is not finite: lower learning_rate, or raise warmup_steps; "
            + (f"{checkpoint} is the newest good checkpoint" if checkpoint else "no checkpoint was written yet")
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.update(1)
        if self._evaluates and state.global_step % self._recipe.eval_steps == 0:
            self._evaluate(state, control)
        stop = self._recipe.stop_after_n_steps
        self.interrupted = ranks.total(self.interrupted) > 0  # processes hear of a signal at different steps
        if self.interrupted or (stop is not None and state.global_step >= stop):
            control.should_training_stop = control.should_save = True
        control.should_log = control.should_log or self._line_is_due(state.global_step)
        if control.should_save:
            seen = round(ranks.total(self._module.tokens_seen))
            state.log_history.append({SPENT: round(self._seconds(), 1), "tokens_seen": seen, "step": state.global_step})
        if control.should_save and self.optimizer_state is not None:
            self._module.gather()
            self.optimizer_state.gather()

    def _line_is_due(self, step: int) -> bool:
        """After the first step of all, or of this process, and the last; between them as the recipe counts, or each minute."""
        if step in (1, self._first + 1) or step >= self._steps:
            return True
        if self._recipe.logging_steps is not None:
            return step % self._recipe.logging_steps == 0
        # the first process' clock counts for all: what is logged is gathered from each
        late = ranks.is_main_process() and time.perf_counter() - self._told >= _BETWEEN_LINES
        return ranks.total(late) > 0

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        logs = state.log_history[-1]
        if "loss" not in logs:
            return
        now, seen = time.perf_counter(), ranks.total(self._module.tokens_seen)
        logs["tokens_per_second"] = round((seen - self._tokens) / max(now - self._clock, 1e-9))
        self._clock, self._tokens, self._told = now, seen, now
        step = state.global_step
        left = (now - self._began) / max(step - self._first, 1) * (self._steps - step)
        self._say(
            f"step {step:,}/{self._steps:,}  loss {logs['loss']:.4f}  "
            f"learning rate {logs['learning_rate']:.2e}  {logs['tokens_per_second']:,} tokens/s"
            + (f"  {duration(left)} left" if step < self._steps else "")
        )

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        due = state.global_step % self._recipe.eval_steps != 0  # otherwise the last step did it
        if self._evaluates and due and not self.interrupted:
            self._evaluate(state, control)
        self._bar.close()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.optimizer_state is not None:
            self._module.gathered = None  # written: what was sharded to fit is held whole no longer
            self.optimizer_state.let_go()
        self._on_save(only_figures(state.log_history))

    def _evaluate(self, state: Any, control: Any) -> None:
        started, found, told = time.perf_counter(), {}, []
        self._bar.set_postfix_str("evaluating")
        if self._validation is not None:
            found["eval_loss"] = mean_loss(self._module, self._validation)
            told.append(f"validation loss {found['eval_loss']:.4f}")
        if self._metric is not None:
            value = measure(self._metric, self._module.learner)
            found[self._metric.name] = value
            told.append(f"{self._metric.name} {value:.4f}")
            best = Best(state.global_step, self._metric.name, value)
            if keep_if_best(self._recipe, self._module.state_dict(), best):
                told.append("(the best so far)")
        ranks.wait_for_all()
        due = control.should_log
        self.log(found)
        control.should_log = due  # logging this has not logged the step's loss
        self._bar.set_postfix_str("")
        self._say(f"step {state.global_step:,}/{self._steps:,}  {'  '.join(told)}")
        self._clock += time.perf_counter() - started

    def _say(self, line: str) -> None:
        self._bar.clear()
        self._report(line)
        self._bar.refresh()


def only_figures(history: list[Entry]) -> list[Entry]:
    """The Trainer's log without the entries about the time that the run took."""
    return [entry for entry in history if "train_runtime" not in entry and SPENT not in entry]


@torch.no_grad()
def mean_loss(module: LossModule, batches: Batches) -> float:
    """The mean loss over the examples of a validation set, without dropout.

    A contrastive loss is that of a batch's queries among its own documents, so it grows with the batches: those of one data set
    are of one size, give or take one.
    """
    seen, training = module.tokens_seen, module.training
    module.eval()
    losses = [module(batches[number])["loss"] for number in range(len(batches))]  # all queued before the first is waited for
    module.train(training)
    module.tokens_seen = seen
    numbers: list[float] = torch.stack(losses).tolist()
    weights = [len(rows) for rows in batches.joint_rows]
    return sum(weight * number for weight, number in zip(weights, numbers, strict=True)) / sum(weights)
