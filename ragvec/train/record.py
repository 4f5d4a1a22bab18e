"""What a run leaves beside its weights: training.json, a plot of its losses and figures, and a model card."""

import json
import platform
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ragvec import __version__
from ragvec.checked import check_value
from ragvec.encoder.settings import SETTINGS_FILE, read_settings
from ragvec.encoder.sources import ADAPTER_FILE, adapter_needs, names_hub
from ragvec.files import read_described, replacing, write_json, write_text
from ragvec.train import ranks
from ragvec.train.checkpoints import Entry
from ragvec.train.evaluation import Best
from ragvec.train.objectives import objective_of
from ragvec.train.recipe import Recipe, explicit_defaults
from ragvec.train.training_plan import TrainingPlan

SUMMARY_FILE, PLOT_FILE, CARD_FILE = "training.json", "training.png", "README.md"
BATCH = "per_device_train_batch_size"  # may change with the number of processes, so that all together stay the same
_SECONDS_BETWEEN_PLOTS = 30
_UNINTERESTING = {
    "output_dir",
    "offline",
    "overwrite_output_dir",
    "logging_steps",
    "save_steps",
    "save_total_limit",
    "eval_steps",
}
_NOT_CURVES = {"loss", "eval_loss", "step", "epoch", "learning_rate", "grad_norm", "tokens_per_second"}


def make_summary(recipe: Recipe, plan: TrainingPlan, log: list[Entry], *, seconds: float, tokens: int,
                 best: Best | None) -> dict[str, Any]:  # fmt: skip
    """What training.json holds: losses, figures, seconds, tokens per second, recipe, versions."""
    import peft
    import transformers

    losses = [entry["loss"] for entry in log if "loss" in entry]
    return {
        "objective": recipe.objective,
        "plan": asdict(plan),
        "steps_done": log[-1]["step"] if log else 0,
        "seconds": round(seconds, 1),
        "tokens_seen": tokens,
        "tokens_per_second": round(tokens / max(seconds, 1e-9)),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "best": best._asdict() if best else None,
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


def batches_before(folder: Path) -> tuple[int, int] | None:
    """The batch size of each process of a run, and how many processes there were, when its summary was written last.

    None where there is no summary yet, or it can't be read.
    """
    try:
        summary = json.loads(read_described(folder / SUMMARY_FILE))
        size = check_value(BATCH, summary["recipe"][BATCH], int)
        return size, check_value("processes", summary["plan"]["processes"], int)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


class Record:
    """training.json and training.png beside the checkpoints, brought up to date as the run goes on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._drawn = time.monotonic()

    def write(self, summary: dict[str, Any], *, last: bool = False) -> None:
        """Write the summary, and the plot if the run is over or the plot is old. The first of several processes does it."""
        if not ranks.is_main_process():
            return
        write_json(self.folder / SUMMARY_FILE, summary)
        if last or time.monotonic() - self._drawn > _SECONDS_BETWEEN_PLOTS:
            write_plot(self.folder, summary)
            self._drawn = time.monotonic()


def write_plot(folder: Path, summary: dict[str, Any]) -> bool:
    """Draw losses and figures over the steps as training.png; says whether it could: matplotlib is optional."""
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.subplots()
    for key, label in (("loss", "training loss"), ("eval_loss", "validation loss")):
        _curve(axes, summary["log"], key, label)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    figures = sorted({key for entry in summary["log"] for key in entry} - _NOT_CURVES)
    if figures:
        right = axes.twinx()
        for number, key in enumerate(figures):
            _curve(right, summary["log"], key, key, color=f"C{2 + number}", marker="o")
        right.set_ylabel(", ".join(figures))
    axes.set_title(f"{summary['objective']}: {Path(summary['recipe']['output_dir']).name}", fontsize=9)
    if any(one.get_lines() for one in figure.axes):  # before the first step that is logged there are none
        figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    with replacing(folder / PLOT_FILE) as file:
        figure.savefig(file, format="png", dpi=120)
    return True


def _curve(axes: Any, log: list[Entry], key: str, label: str, **style: str) -> None:
    points = [(entry["step"], entry[key]) for entry in log if key in entry]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, **style)


def write_card(folder: Path, summary: dict[str, Any], recipe: Recipe) -> None:
    """Write a model card: what was trained from what, on what, how, and with which figures."""
    plan, base, is_decoder = summary["plan"], recipe.model_name_or_path, objective_of(recipe).makes_decoder
    name = Path(recipe.output_dir).name
    is_local = base is not None and Path(base).expanduser().exists()
    head = ["---", "library_name: ragvec", "tags:", "- ragvec", "- llm2vec", "- feature-extraction"]
    if told := _base_on_hub(folder, base if not is_local else None):
        head.append(f"base_model: {told}")
    used, values = explicit_defaults(recipe.objective), recipe.as_json()
    chosen = {key: values[key] for key in used if values[key] != used[key] and key not in _UNINTERESTING}
    figures = [f"| {key} | {value} |" for key, value in _figures(summary).items()]
    start = Path(base).name if base and is_local else base or "random weights"
    lines = [
        *head, "---", "", f"# {name}", "",
        f"{'A decoder' if is_decoder else 'A text encoder'} trained with ragvec {summary['versions']['ragvec']}: "
        f"{objective_of(recipe).describe(recipe)}, starting from {start}.", "",
        "| | |", "|---|---|",
        f"| examples | {plan['examples']:,} ({plan['tokens']:,} tokens) |", f"| steps | {summary['steps_done']:,} |",
        f"| total batch | {plan['total_batch']} |", f"| trained weights | {plan['trainable']:,} of {plan['parameters']:,} |",
        *figures, "",
        "![losses and figures over the steps](training.png)" if (folder / PLOT_FILE).exists() else "", "",
        "What the recipe says beyond its defaults (all of it is in `recipe.json`, the log in `training.json`):", "",
        "```json", json.dumps(chosen, indent=2, ensure_ascii=False), "```",
    ]  # fmt: skip
    if (folder / ADAPTER_FILE).is_file():
        lines += ["", _what_it_needs(folder)]
    if not is_decoder:
        lines += ["", "```python", "from ragvec import Encoder", "",
                  f'Encoder.load("{name}").encode_queries(["how do plants make food?"])', "```"]  # fmt: skip
    write_text(folder / CARD_FILE, "\n".join(lines) + "\n")


def _base_on_hub(folder: Path, start: str | None) -> str | None:
    """The hub's model that a run started from, or that the folder it started from says it was made of."""
    if start or not (folder / SETTINGS_FILE).is_file():
        return start
    named = read_settings(folder).base_model
    return named if names_hub(named, folder) else None


def _what_it_needs(folder: Path) -> str:
    needed = ", ".join(f"`{name}`" for name in adapter_needs(folder))
    return (
        f"This folder holds an adapter alone. What it was trained upon ({needed}; paths "
        "count from here) is loaded, too: move them together. `ragvec export FOLDER --to ragvec -o WHOLE` makes a folder that "
        "needs no other."
    )


def _figures(summary: dict[str, Any]) -> dict[str, str]:
    found = {}
    if summary["last_loss"] is not None:
        found["loss, first and last"] = f"{summary['first_loss']:.4f}, {summary['last_loss']:.4f}"
    if summary["best"]:
        best = summary["best"]
        found[f"{best['metric']} on {Path(summary['recipe']['eval_dataset']).name}"] = (
            f"{best['value']:.4f} (step {best['step']:,}, whose weights these are)"
        )
    found["speed"] = f"{summary['tokens_per_second']:,} tokens/s"
    return found
