"""One training run from a recipe to a loadable folder, as a list of steps."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ragvec.checked import check_value
from ragvec.encoder.weights import quiet
from ragvec.errors import RagvecError, first_line
from ragvec.files import is_own_folder, read_described, write_json
from ragvec.locks import locked
from ragvec.train import ranks
from ragvec.train.checkpoints import CHECKPOINTS, Entry, newest_checkpoint, remove_checkpoints, remove_leftovers, spent_before
from ragvec.train.evaluation import best_so_far, best_weights
from ragvec.train.model import Learner
from ragvec.train.prepare import Prepared, prepare
from ragvec.train.recipe import Recipe
from ragvec.train.record import BATCH, Record, batches_before, make_summary, write_card
from ragvec.train.save import save_result
from ragvec.train.trainable import add_trainable_parts, join_ranks, load_learner
from ragvec.train.trainer import reporters, run_trainer
from ragvec.train.training_plan import TrainingPlan, make_plan

RECIPE_FILE = "recipe.json"
# Keys that may change between a run and its resumption.
_FREE = {"logging_steps", "save_steps", "eval_steps", "save_total_limit", "overwrite_output_dir", "save_merged", "save_dtype",
         "num_train_epochs", "max_steps", "stop_after_n_steps", "report_to", "offline"}  # fmt: skip


def train(recipe: Recipe, *, resume: bool = False, report: Callable[[str], None] = print,
          show_progress: bool = False) -> dict[str, Any]:  # fmt: skip
    """Train a model and write the result to the recipe's output_dir.

    resume         go on from the newest checkpoint of the same recipe, or from the start if none was written yet
    report         is told what takes long before it begins, the plan, and a line for every logged step
    returns        the summary that training.json holds: losses, seconds, tokens per second, versions, recipe
    Raises RagvecError for what the user can mend; KeyboardInterrupt after Ctrl-C, with a checkpoint written.
    """
    join_ranks(recipe)
    report, show_progress = (report, show_progress) if ranks.is_main_process() else (_tell_nobody, False)
    with ExitStack() as held:
        return _train(recipe, held, resume=resume, report=report, show_progress=show_progress)


def _train(
    recipe: Recipe, held: ExitStack, *, resume: bool, report: Callable[[str], None], show_progress: bool
) -> dict[str, Any]:
    """The run; held: what ends with it."""
    is_held = _hold(recipe, held)
    _check_folder(recipe, resume)
    checkpoint = newest_checkpoint(recipe) if resume else None
    if resume:
        report(f"resuming from {checkpoint}" if checkpoint else "no checkpoint was written yet: starting from the beginning")
    learner, prepared, plan = _get_ready(recipe, report)
    ranks.wait_for_all()
    if ranks.is_main_process():
        if not is_held and _hold(recipe, held, make=True):
            _check_folder(recipe, resume)  # another run may have come first, and ended
        _claim(recipe, resume)
    ranks.wait_for_all()
    for line in plan.lines():
        report(line)
    torch.manual_seed(recipe.seed)
    before, tokens_before = spent_before(checkpoint)
    prepared.module.tokens_seen = tokens_before if ranks.is_main_process() else 0
    started, record = time.perf_counter() - before, Record(Path(recipe.output_dir))

    def spent() -> float:
        return time.perf_counter() - started

    def summarize(log: list[Entry]) -> dict[str, Any]:
        seconds, tokens = spent(), round(ranks.total(prepared.module.tokens_seen))
        best = best_so_far(recipe) if recipe.eval_dataset else None
        return make_summary(recipe, plan, log, seconds=seconds, tokens=tokens, best=best)

    log = run_trainer(prepared, recipe, steps=plan.steps, checkpoint=checkpoint, report=report, show_progress=show_progress,
                      on_save=lambda log: record.write(summarize(log)), seconds=spent)  # fmt: skip
    summary = summarize(log)
    if ranks.is_main_process():
        if summary["best"]:
            report("the best weights are those of step {step:,}: {metric} {value:.4f}".format(**summary["best"]))
            prepared.module.load_state_dict(best_weights(recipe))
        report(f"writing the result to {recipe.output_dir}")
        _write(learner, recipe, record, summary)
    ranks.wait_for_all()
    return summary


def plan_run(recipe: Recipe, *, report: Callable[[str], None] | None = None) -> TrainingPlan:
    """What a run would do: the model is loaded, the data are read, nothing is trained or written.

    report  is told what takes long before it begins
    """
    return _get_ready(recipe, report or _tell_nobody)[-1]


def _get_ready(recipe: Recipe, report: Callable[[str], None]) -> tuple[Learner, Prepared, TrainingPlan]:
    reporters(recipe)
    torch.manual_seed(recipe.seed)
    report(f"loading {recipe.model_name_or_path or recipe.config_name}")
    with quiet(show_progress=False):
        learner = load_learner(recipe)
        add_trainable_parts(learner, recipe)
    report("reading the data")
    prepared = prepare(recipe, learner)
    plan = make_plan(recipe, prepared, processes=ranks.world())
    return learner, prepared, plan


def _tell_nobody(line: str) -> None:
    """The report of every process but the first, and of who wants none."""


def _write(learner: Learner, recipe: Recipe, record: Record, summary: dict[str, Any]) -> None:
    folder = record.folder
    try:
        save_result(learner, recipe, folder)
        record.write(summary, last=True)
        write_card(folder, summary, recipe)
    except (OSError, SafetensorError) as error:
        raise RagvecError(
            f"the result can't be written to {folder} ({error}): free some disk space, then pass `resume`, "
            "which goes on from the last checkpoint"
        ) from error


def _check_folder(recipe: Recipe, resume: bool) -> None:
    """Raise RagvecError if the output folder is not this run's to write into. Nothing is changed yet."""
    folder = Path(recipe.output_dir)
    try:
        if folder.exists() and not folder.is_dir():
            raise RagvecError(f"output_dir {folder} is a file: choose a folder")
        is_own_folder(folder / CHECKPOINTS)  # those of earlier runs are removed: not somewhere else
    except (OSError, ValueError) as error:
        raise RagvecError(
            f"output_dir {recipe.output_dir!r:.200} can't be a folder ({first_line(error)}): choose another"
        ) from error
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if resume and (folder / RECIPE_FILE).is_file():
        _same_recipe(folder / RECIPE_FILE, recipe)
    elif resume:
        raise RagvecError(f"output_dir {folder} holds no {RECIPE_FILE}: no run began there, choose another folder")
    elif not recipe.overwrite_output_dir:
        raise RagvecError(f'output_dir {folder} is not empty: pass `resume` to go on, or set "overwrite_output_dir": true')


def _hold(recipe: Recipe, held: ExitStack, *, make: bool = False) -> bool:
    """Hold the output folder for this run alone, where there is one, or once it is made; says whether it is held.

    Raises Busy if another run has it.
    """
    folder = Path(recipe.output_dir)
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        if not ranks.is_main_process() or not folder.is_dir():
            return False
        held.enter_context(locked(folder))
    except (OSError, ValueError) as error:
        raise RagvecError(f"output_dir {recipe.output_dir!r:.200} can't be written: {first_line(error)}") from error
    return True


def _claim(recipe: Recipe, resume: bool) -> None:
    """Make the output folder this run's own: checkpoints of another run, or torn ones, are removed."""
    folder = Path(recipe.output_dir)
    if resume and (folder / RECIPE_FILE).is_file():
        remove_leftovers(recipe)
        return
    try:
        remove_checkpoints(recipe)
        write_json(folder / RECIPE_FILE, recipe.as_json())
    except OSError as error:
        raise RagvecError(f"output_dir {folder} can't be written: {error.strerror}") from error


def _same_recipe(path: Path, recipe: Recipe) -> None:
    try:
        before = check_value("it", json.loads(read_described(path)), dict[str, Any])
    except (OSError, ValueError, RecursionError) as error:
        raise RagvecError(f"{path} is not readable ({error}): the run can't be resumed, start it anew") from error
    before = {**Recipe(objective=recipe.objective).as_json(), **before}  # an older ragvec knew fewer keys
    trained = batches_before(path.parent)
    if trained is not None and recipe.batch_tokens is None:
        before[BATCH], processes = trained
        if processes != ranks.world():
            _check_joint_batch(before[BATCH], processes, recipe)
            before[BATCH] = recipe.per_device_train_batch_size
    for name, value in recipe.as_json().items():
        if name not in _FREE and before[name] != value:
            raise RagvecError(f"`resume`: {name} was {before[name]!r} and is {value!r}: restore it, or start the run anew")


def _check_joint_batch(size: int, processes: int, recipe: Recipe) -> None:
    """Raise RagvecError unless as many processes as there are now, with batches of the recipe's size, see the batches that
    others saw with theirs: then the run goes on as if nothing had changed."""
    joint, world = size * processes, ranks.world()
    if recipe.per_device_train_batch_size * world != joint:
        advice = (
            f"set {BATCH} to {joint // world}" if joint % world == 0 else f"start a number of processes that divides {joint}"
        )
        raise RagvecError(
            f"`resume`: {processes} processes with {BATCH} {size} have trained on {joint} at once, {world} with "
            f"{recipe.per_device_train_batch_size} would on {recipe.per_device_train_batch_size * world}: {advice}"
        )
