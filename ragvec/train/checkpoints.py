"""Checkpoints of a run: which are whole, which is the newest, and what to say when one could not be written."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from ragvec.errors import Damaged, RagvecError
from ragvec.files import TEMPORARY_SUFFIX, read_described
from ragvec.train.recipe import Recipe

CHECKPOINTS = "checkpoints"
BEST = "best.safetensors"  # the weights that did best when they were measured, beside the checkpoints
SPENT = "seconds"  # an entry of the log with this key says what the run had taken when a checkpoint was due
_OWN = ("result", "recipe.json", "training.json", "training.png", "README.md", BEST)  # written by way of others
_TEMPORARY = re.compile(rf"({'|'.join(map(re.escape, _OWN))}|checkpoint-\d+)\.\d+{re.escape(TEMPORARY_SUFFIX)}")
_NAME = re.compile(r"checkpoint-(\d+)")
_WRITTEN_LAST = "trainer_state.json"
_NEEDED = "optimizer.pt"  # absent with save_only_model
Entry = dict[str, Any]  # of the Trainer's log: a step and what was measured at it


def newest_checkpoint(recipe: Recipe) -> Path | None:
    """The newest whole checkpoint below the output folder, or None.

    Raises RagvecError if it holds weights alone (save_only_model): a run can't go on from those.
    """
    whole = [path for path in _checkpoints(recipe) if _is_whole(path)]
    if whole and not (whole[-1] / _NEEDED).is_file():
        raise RagvecError(f"{whole[-1]} holds weights alone (save_only_model): no run can be resumed from it, start it anew")
    return whole[-1] if whole else None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What the Trainer noted of a whole checkpoint: global_step, log_history …"""
    state: dict[str, Any] = json.loads(read_described(checkpoint / _WRITTEN_LAST))
    return state


def spent_before(checkpoint: Path | None) -> tuple[float, int]:
    """Seconds and tokens that a run had taken up to a checkpoint."""
    log: list[Entry] = read_state(checkpoint)["log_history"] if checkpoint else []
    for entry in reversed(log):
        if SPENT in entry:
            return float(entry[SPENT]), int(entry["tokens_seen"])
    return 0.0, 0


def remove_torn_checkpoints(recipe: Recipe) -> list[str]:
    """Delete checkpoints that a kill or a full disk cut short; returns their names."""
    torn = [path for path in _checkpoints(recipe) if not _is_whole(path)]
    for path in torn:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in torn]


def remove_leftovers(recipe: Recipe) -> None:
    """Delete what a killed run left half-written in its output folder: torn checkpoints and temporary files."""
    remove_torn_checkpoints(recipe)
    folder = Path(recipe.output_dir)
    for path in [*folder.glob(f"*{TEMPORARY_SUFFIX}"), *(folder / CHECKPOINTS).glob(f"*{TEMPORARY_SUFFIX}")]:
        if not _TEMPORARY.fullmatch(path.name):
            continue  # the user's own
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove_checkpoints(recipe: Recipe) -> None:
    """Delete the checkpoints of another run, whole or torn, and its best weights, and nothing else."""
    (Path(recipe.output_dir) / CHECKPOINTS / BEST).unlink(missing_ok=True)
    for path in _checkpoints(recipe):
        shutil.rmtree(path, ignore_errors=True)


def _checkpoints(recipe: Recipe) -> list[Path]:
    """Checkpoint folders in the order of their steps."""
    folder = Path(recipe.output_dir) / CHECKPOINTS
    steps = {
        path: _NAME.fullmatch(path.name) for path in folder.glob("checkpoint-*") if path.is_dir() and not path.is_symlink()
    }
    numbered = {path: int(match.group(1)) for path, match in steps.items() if match}
    return sorted(numbered, key=lambda path: numbered[path])


def _is_whole(path: Path) -> bool:
    try:
        return isinstance(read_state(path), dict)
    except (OSError, ValueError, RecursionError, Damaged):
        return False
