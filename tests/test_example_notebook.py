"""The notebook in examples/ runs as it is, and shows what stands in it; numbers differ a little between machines.

Written anew by `jupyter nbconvert --to notebook --execute --inplace examples/first_search.ipynb`.
"""

import ast
import json
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.endpoints import stubbing

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "first_search.ipynb"
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
_NUMBER = re.compile(r"\b[0-9a-f]{32}\b|\d+(\.\d+)?")  # fingerprints and figures


def stored(cell: dict[str, Any]) -> str:
    """What stands below a cell: HTML where it is a table, else what was printed."""
    shown = [output.get("text") or output.get("data", {}).get("text/html") for output in cell["outputs"]]
    return "".join("".join(lines) for lines in shown)


def carried_out(cell: dict[str, Any], names: dict[str, Any]) -> str:
    """What a cell shows: what it prints, and its last line's value as a notebook shows it."""
    lines = ast.parse("".join(cell["source"])).body
    last = lines.pop() if isinstance(lines[-1], ast.Expr) else None
    with redirect_stdout(StringIO()) as printed:
        exec(compile(ast.Module(lines, []), str(NOTEBOOK), "exec"), names)
        value = eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names) if last else None
    return printed.getvalue() + (value._repr_html_() if value is not None else "")


@pytest.mark.parametrize("asked", [False, True], ids=["no endpoint", "an endpoint"])
def test_the_notebook_shows_what_stands_in_it(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    names: dict[str, Any] = {}
    *tables, answer = CELLS
    for cell in tables:
        assert "<table" in stored(cell)
        assert _NUMBER.sub("0", carried_out(cell, names)) == _NUMBER.sub("0", stored(cell))
    with stubbing(lambda call: call.stream("28 days ", "[1].")) as stub:
        if asked:
            monkeypatch.setenv("OPENAI_BASE_URL", stub.url)
        said = carried_out(answer, names)
    assert ("28 days [1]." in said and "Leave" in said) if asked else said.startswith("set OPENAI_BASE_URL")
