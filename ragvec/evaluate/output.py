"""The files an evaluation leaves behind, checked before hours are spent and written when it is done."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ragvec.errors import RagvecError, WrongUsage
from ragvec.evaluate.evaluation_plan import Outcome
from ragvec.evaluate.report import row_names, write_chart, write_report, write_values
from ragvec.evaluate.result import Evaluation
from ragvec.evaluate.trec import write_run

_ENDINGS = {"report": (".md", ".json"), "chart": (".png", ".svg", ".pdf")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Where to write what; None = not. Raises RagvecError for an ending or a folder that can't be, or a missing matplotlib.

    save_run    the systems' hits, in the files that `run_files` names; baselines have none
    per_query   every system's figures; report and chart: of systems and baselines
    """

    save_run: Path | None = None
    per_query: Path | None = None
    report: Path | None = None
    chart: Path | None = None

    def __post_init__(self) -> None:
        for path in filter(None, (self.save_run, self.per_query, self.report, self.chart)):
            if not path.absolute().parent.is_dir():
                raise RagvecError(f"{path} cannot be written: its folder does not exist")
        for name, endings in _ENDINGS.items():
            path = getattr(self, name)
            if path is not None and path.suffix not in endings:
                raise WrongUsage(f"a {name} ends in {' or '.join(endings)}, {path.name} does not")
        if self.chart is not None:
            from importlib.util import find_spec

            if find_spec("matplotlib") is None:
                raise RagvecError("a chart needs matplotlib: pip install 'ragvec[eval]'")

    def write(self, outcome: Outcome) -> None:
        """Write every file that was asked for, each whole or not at all."""
        systems = [*outcome.systems, *outcome.baselines]
        if self.save_run is not None:
            for path, system in zip(run_files(self.save_run, outcome.systems), outcome.systems, strict=True):
                if system.run is None:
                    raise WrongUsage(f"{system.task} gives no run: leave `save_run` out")
                write_run(path, system.run, system.system)
        if self.per_query is not None:
            write_values(self.per_query, systems)
        if self.report is not None:
            write_report(self.report, systems, outcome.comparisons)
        if self.chart is not None:
            write_chart(self.chart, systems)


def run_files(path: Path, systems: Sequence[Evaluation]) -> list[Path]:
    """A file for each system's hits: the path itself for a single one, hits-minilm-hybrid.run beside hits.run for several."""
    if len(systems) == 1:
        return [path]
    words = [re.sub(r"[^\w.]+", "-", name).strip("-") for name in row_names(systems)]
    taken = [word.casefold() for word in words]  # some disks know no letter case
    named = [f"{word}-{row + 1}" if taken.count(word.casefold()) > 1 else word for row, word in enumerate(words)]
    return [path.with_name(f"{path.stem}-{word}{path.suffix}") for word in named]
