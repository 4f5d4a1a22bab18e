"""Figures as people and programs read them: a table, Markdown, JSON, values by query, a chart."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragvec.errors import RagvecError, WrongUsage
from ragvec.evaluate.compare import Comparison
from ragvec.evaluate.result import Evaluation
from ragvec.files import replacing, write_text

CHANCE = 0.05
_DIGITS = 4
_INSTRUCTION_SHOWN = 40


def row_names(evaluations: Sequence[Evaluation]) -> list[str]:
    """A name for each evaluation, longer where the short ones coincide."""
    names = [evaluation.system for evaluation in evaluations]
    for detail in (_passages_of, _instruction_of, lambda evaluation: evaluation.fingerprint[:8]):
        doubled = {name for name in names if names.count(name) > 1}
        details = [detail(evaluation) for evaluation in evaluations]
        names = [f"{name} {more}" if name in doubled and more else name for name, more in zip(names, details, strict=True)]
    return [f"{name} #{names[: row + 1].count(name)}" if names.count(name) > 1 else name for row, name in enumerate(names)]


def table(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison] = ()) -> str:
    """What was measured on what, a row of figures for each system, and how the systems compare."""
    columns = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation.figures))
    names = row_names(evaluations)
    width = max(len(name) for name in names)
    lines = [heading(evaluations[0]), f"{'':<{width}}  " + "  ".join(f"{name:>8}" for name in columns)]
    for name, evaluation in zip(names, evaluations, strict=True):
        cells = (f"{_figure(evaluation, column):>{max(8, len(column))}}" for column in columns)
        lines.append(f"{name:<{width}}  " + "  ".join(cells))
    return "\n".join([*lines, *(sentence(comparison) for comparison in comparisons)])


def heading(evaluation: Evaluation) -> str:
    """`scifact, test: 5,183 documents, 300 queries`."""
    name = ", ".join(part for part in (evaluation.dataset, evaluation.split) if part)
    told = ((what.replace("_", " "), value) for what, value in evaluation.counts.items())
    counts = ", ".join(f"{value:,} {what}" for what, value in told if value or not what.startswith("truncated"))
    return f"{name}: {counts}"


def verdict(best: Comparison) -> str:
    """Which system does best, in one line, and whether the next is behind by more than chance."""
    sure = "" if best.p_value < CHANCE else ", which may be chance"
    tested = f"p = {best.p_value:.3g}, {best.test}{sure}"
    return f"best by {best.metric}: {best.system}, {best.difference:.4f} above {best.reference} ({tested})"


def sentence(comparison: Comparison) -> str:
    """How two systems compare, in one line."""
    return (
        f"{comparison.system} against {comparison.reference}: {comparison.metric} {comparison.difference:+.4f} "
        f"[{comparison.low:+.4f}, {comparison.high:+.4f}], p = {comparison.p_value:.3g} ({comparison.test}); "
        f"better on {comparison.wins:,}, equal on {comparison.ties:,}, worse on {comparison.losses:,}"
    )


def record(
    evaluation: Evaluation, baselines: Sequence[Evaluation] = (), comparison: Comparison | None = None
) -> dict[str, Any]:
    """One system as a JSON object: its figures, the baselines' beside them, and how it compares with the first system."""
    beside = (
        {name: baseline.figures for name, baseline in zip(row_names(baselines), baselines, strict=True)} if baselines else {}
    )
    compared = {"comparison": comparison._asdict()} if comparison else {}
    return {**evaluation.as_record(), **({"baselines": beside} if beside else {}), **compared}


def markdown(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison] = ()) -> str:
    """The table and what made it, as Markdown."""
    columns = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation.figures))
    lines = [f"# {heading(evaluations[0])}", "", f"| system | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    names = row_names(evaluations)
    for name, evaluation in zip(names, evaluations, strict=True):
        lines.append(f"| {_cell(name)} | {' | '.join(_figure(evaluation, column) for column in columns)} |")
    if comparisons:
        lines += ["", *(f"- {sentence(comparison)}" for comparison in comparisons)]
    lines += ["", "| system | encoder | fingerprint | mode | instruction |", "|---|---|---|---|---|"]
    for name, evaluation in zip(names, evaluations, strict=True):
        told = (name, evaluation.encoder, evaluation.fingerprint[:12], evaluation.mode or "", evaluation.instruction)
        lines.append(f"| {' | '.join(_cell(value) for value in told)} |")
    return "\n".join(lines) + "\n"


def write_report(path: Path, evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison] = ()) -> None:
    """Write a report, Markdown (.md) or JSON (.json), whole or not at all. Raises RagvecError for another ending."""
    if path.suffix == ".md":
        text = markdown(evaluations, comparisons)
    elif path.suffix == ".json":
        named = zip(row_names(evaluations), evaluations, strict=True)
        systems = [{"system": name, **evaluation.as_record(), "values": evaluation.values} for name, evaluation in named]
        found = {"systems": systems, "comparisons": [comparison._asdict() for comparison in comparisons]}
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    else:
        raise WrongUsage(f"a report is .md or .json, not {path.name}")
    _write(path, text)


def write_values(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write every system's figures by query (or text) as a table: system, id, and a column for each metric; tab-separated."""
    named = [(name, one) for name, one in zip(row_names(evaluations), evaluations, strict=True) if one.values]
    if not named:
        raise RagvecError(f"{evaluations[0].task} has no values by query")
    columns = list(next(iter(named[0][1].values.values())))
    lines = ["\t".join(["system", "id", *columns])]
    for name, evaluation in named:
        for key, values in evaluation.values.items():
            lines.append("\t".join([name, key, *(repr(values[column]) for column in columns)]))
    _write(path, "\n".join(lines) + "\n")


def write_chart(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Draw the figures as bars, one group a metric, one colour a system, and write them as PNG (or SVG, PDF by the ending).

    Needs matplotlib, ragvec's extra `eval`. Raises RagvecError where it can't be written.
    """
    from matplotlib.figure import Figure

    columns = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation.figures))
    names = row_names(evaluations)
    figure = Figure(figsize=(max(6.0, 1.6 * len(columns) + 0.3 * len(columns) * len(names)), 4.0), layout="constrained")
    axes = figure.subplots()
    thickness = 0.8 / len(names)
    for number, (name, evaluation) in enumerate(zip(names, evaluations, strict=True)):
        places = [column + (number - (len(names) - 1) / 2) * thickness for column in range(len(columns))]
        bars = axes.bar(places, [evaluation.figures.get(column, 0.0) for column in columns], thickness, label=name)
        axes.bar_label(bars, fmt="%.3f", fontsize=7)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_ylim(0, 1.08)
    axes.set_title(heading(evaluations[0]), fontsize=9)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    try:
        with replacing(path) as file:
            figure.savefig(file, format=path.suffix.removeprefix(".") or "png", dpi=150)
    except (OSError, ValueError) as error:
        raise RagvecError(f"{path} cannot be drawn: {error}") from error


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise RagvecError(f"{path} cannot be written: {error.strerror}") from error


def _figure(evaluation: Evaluation, column: str) -> str:
    return f"{evaluation.figures[column]:.{_DIGITS}f}" if column in evaluation.figures else "-"


def _passages_of(evaluation: Evaluation) -> str:
    """Into what passages the corpus was cut: systems that differ in it alone have it in their names."""
    tokens, overlap = (evaluation.settings.get(name) for name in ("passage_tokens", "overlap"))
    return f"@{tokens}{f'+{overlap}' if overlap else ''}" if tokens else ""


def _instruction_of(evaluation: Evaluation) -> str:
    text = evaluation.instruction
    return f"“{text if len(text) <= _INSTRUCTION_SHOWN else text[: _INSTRUCTION_SHOWN - 1] + '…'}”"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
