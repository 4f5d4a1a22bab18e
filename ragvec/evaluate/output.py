"""The files an evaluation leaves behind, checked before hours are spent and written when it is done."""

from dataclasses import dataclass
from pathlib import Path

from ragvec.errors import RagvecError
from ragvec.evaluate.evaluation_plan import Outcome
from ragvec.evaluate.report import write_chart, write_report, write_values
from ragvec.evaluate.trec import write_run

_ENDINGS = {"report": (".md", ".json"), "chart": (".png", ".svg", ".pdf")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Where to write what; None = not. Raises RagvecError for an ending or a folder that can't be, or a missing matplotlib.

    save_run  the first system's hits; per_query: every system's figures; report and chart: of systems and baselines
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
                raise RagvecError(f"a {name} ends in {' or '.join(endings)}, {path.name} does not")
        if self.chart is not None:
            from importlib.util import find_spec

            if find_spec("matplotlib") is None:
                raise RagvecError("a chart needs matplotlib: pip install 'ragvec[eval]'")

    def write(self, outcome: Outcome) -> None:
        """Write every file that was asked for, each whole or not at all."""
        systems = [*outcome.systems, *outcome.baselines]
        if self.save_run is not None:
            first = outcome.systems[0]
            if first.run is None:
                raise RagvecError(f"{first.task} gives no run: leave `save_run` out")
            write_run(self.save_run, first.run, first.system)
        if self.per_query is not None:
            write_values(self.per_query, systems)
        if self.report is not None:
            write_report(self.report, systems, outcome.comparisons)
        if self.chart is not None:
            write_chart(self.chart, systems)
