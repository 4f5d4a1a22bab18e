"""The figures as they come: results.json whole after each, and results.md made of it."""

import json
from pathlib import Path
from typing import Any


class Figures:
    """The results in a folder, shared by the processes that add to them one after another."""

    def __init__(self, folder: Path) -> None:
        self.json, self.markdown, self.log = folder / "results.json", folder / "results.md", folder / "log.txt"

    def put(self, section: str, figures: dict[str, Any]) -> None:
        """Add figures to a section: a dict is a row of its table, anything else a line above."""
        everything = self.read()
        everything.setdefault(section, {}).update(figures)
        new = self.json.with_suffix(".new")
        new.write_text(json.dumps(everything, indent=1, default=str), encoding="utf-8")
        new.replace(self.json)
        self.markdown.write_text(self.table(), encoding="utf-8")
        print(section, json.dumps(figures, default=str)[:600], flush=True)

    def failed(self, section: str, row: str, error: BaseException) -> None:
        """What kept a figure from being measured takes its place."""
        line = (str(error).strip() or "no reason given").splitlines()[0]
        self.put(section, {row: {"not measured": f"{type(error).__name__}: {line}"[:200]}})

    def step(self, name: str, said: str) -> None:
        """How a step ended."""
        self.put("steps", {name: said})

    def read(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = json.loads(self.json.read_text(encoding="utf-8")) if self.json.exists() else {}
        return found

    def table(self) -> str:
        """All figures as Markdown."""
        lines: list[str] = []
        for section, figures in self.read().items():
            lines += [f"## {section}", ""]
            lines += [f"- {name}: {shown(one)}" for name, one in figures.items() if not isinstance(one, dict)]
            rows = {name: one for name, one in figures.items() if isinstance(one, dict)}
            if rows:
                columns = list(dict.fromkeys(key for one in rows.values() for key in one))
                lines += ["", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
                lines += [
                    f"| {name} | {' | '.join(shown(one.get(key, '')) for key in columns)} |" for name, one in rows.items()
                ]
            lines.append("")
        return "\n".join(lines)


def shown(value: object) -> str:
    """A figure for people: four digits, thousands apart."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
