"""One training run from a recipe to a loadable folder, as a list of steps."""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError

from ragvec import __version__
from ragvec.encoder.weights import choose_device, quiet
from ragvec.errors import RagvecError
from ragvec.files import write_text
from ragvec.recipe import Recipe
from ragvec.train import ranks
from ragvec.train.checkpoints import CHECKPOINTS, newest_checkpoint, remove_torn_checkpoints
from ragvec.train.model import Learner, add_trainable_parts, load_learner
from ragvec.train.plan import Plan, make_plan
from ragvec.train.prepare import Prepared, prepare
from ragvec.train.ranks import start_ranks
from ragvec.train.save import save_result
from ragvec.train.trainer import run_trainer

RECIPE_FILE = "recipe.json"
SUMMARY_FILE = "training.json"
# Keys that may change between a run and its resumption.
_FREE = {"logging_steps", "save_steps", "eval_steps", "save_total_limit", "overwrite_output_dir", "save_merged", "save_dtype",
         "num_train_epochs", "max_steps", "stop_after_n_steps"}  # fmt: skip


def train(objective: str, recipe: Recipe, *, resume: bool = False, report: Callable[[str], None] = print,
          show_progress: bool = False) -> dict:  # fmt: skip
    """Train a model and write the result to the recipe's output_dir.

    objective      clm, mntp, simcse, supervised or distill
    resume         go on from the newest checkpoint of the same recipe, or from the start if none was written yet
    report         is told the plan, then a line for every logged step
    returns        the summary that training.json holds: losses, seconds, tokens per second, versions, recipe
    Raises RagvecError for what the user can mend; KeyboardInterrupt after Ctrl-C, with a checkpoint written.
    """
    start_ranks(choose_device(recipe.device))
    report, show_progress = (report, show_progress) if ranks.rank() == 0 else (_tell_nobody, False)
    if ranks.rank() == 0:
        _claim(objective, recipe, resume)
    ranks.wait_for_all()
    folder, checkpoint = Path(recipe.output_dir), newest_checkpoint(recipe) if resume else None
    if resume:
        report(f"resuming from {checkpoint}" if checkpoint else "no checkpoint was written yet: starting from the beginning")
    learner, prepared, plan = _get_ready(objective, recipe)
    for line in plan.lines():
        report(line)
    torch.manual_seed(recipe.seed)
    started = time.perf_counter()
    log = run_trainer(prepared, recipe, steps=plan.steps, checkpoint=checkpoint, report=report, show_progress=show_progress)
    seconds, tokens = time.perf_counter() - started, round(ranks.total(prepared.objective.tokens_seen))
    summary = _summary(objective, recipe, plan, log, seconds, tokens)
    if ranks.rank() == 0:
        _write(learner, objective, recipe, folder, summary)
    ranks.wait_for_all()
    return summary


def plan_run(objective: str, recipe: Recipe) -> Plan:
    """What a run would do: the model is loaded, the data are read, nothing is trained or written."""
    return _get_ready(objective, recipe)[-1]


def _get_ready(objective: str, recipe: Recipe) -> tuple[Learner, Prepared, Plan]:
    torch.manual_seed(recipe.seed)
    with quiet(show_progress=False):
        learner = load_learner(objective, recipe)
        add_trainable_parts(learner, objective, recipe)
    prepared = prepare(objective, recipe, learner)
    plan = make_plan(
        recipe,
        examples=prepared.examples,
        tokens=prepared.tokens,
        batches=len(prepared.batches) // ranks.world(),
        module=prepared.objective,
        processes=ranks.world(),
    )
    return learner, prepared, plan


def _tell_nobody(line: str) -> None:
    """The report of every process but the first."""


def _write(learner: Learner, objective: str, recipe: Recipe, folder: Path, summary: dict) -> None:
    try:
        save_result(learner, objective, recipe, folder)
        write_text(folder / SUMMARY_FILE, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    except (OSError, SafetensorError) as error:
        raise RagvecError(
            f"the result can't be written to {folder} ({error}): free some disk space, then pass --resume, "
            "which goes on from the last checkpoint"
        ) from error


def _claim(objective: str, recipe: Recipe, resume: bool) -> None:
    """Make the output folder this run's own, or check that a resumed run is the one that began there."""
    folder = Path(recipe.output_dir)
    record = {"objective": objective, **recipe.as_json()}
    if folder.exists() and not folder.is_dir():
        raise RagvecError(f"output_dir {folder} is a file: choose a folder")
    if resume and (folder / RECIPE_FILE).is_file():
        _same_recipe(folder / RECIPE_FILE, record)
        remove_torn_checkpoints(recipe)
        return
    if folder.is_dir() and any(folder.iterdir()):
        if resume:
            raise RagvecError(f"output_dir {folder} holds no {RECIPE_FILE}: no run began there, choose another folder")
        if not recipe.overwrite_output_dir:
            raise RagvecError(f'output_dir {folder} is not empty: pass --resume to go on, or set "overwrite_output_dir": true')
        _remove_checkpoints(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RECIPE_FILE, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise RagvecError(f"output_dir {folder} can't be written: {error.strerror}") from error


def _same_recipe(path: Path, record: dict) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RagvecError(f"{path} is not readable ({error}): the run can't be resumed, start it anew") from error
    before = {**Recipe().as_json(), **before}  # an older ragvec knew fewer keys
    for name, value in record.items():
        if name not in _FREE and before[name] != value:
            raise RagvecError(f"--resume: {name} was {before[name]!r} and is {value!r}: restore it, or start the run anew")


def _remove_checkpoints(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _summary(objective: str, recipe: Recipe, plan: Plan, log: list[dict], seconds: float, tokens: int) -> dict:
    import peft
    import transformers

    losses = [entry["loss"] for entry in log if "loss" in entry]
    return {
        "objective": objective,
        "plan": asdict(plan),
        "seconds": round(seconds, 1),
        "tokens_seen": tokens,
        "tokens_per_second": round(tokens / max(seconds, 1e-9)),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "log": log,
        "recipe": recipe.as_json(),
        "versions": {
            "ragvec": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    }
