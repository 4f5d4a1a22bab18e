"""The notebook in examples/ runs as it is, and shows what stands in it: numbers differ a little between machines."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.endpoints import Call, stubbing

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "first_search.ipynb"
_NUMBER = re.compile(r"\d+(\.\d+)?")


def outputs(notebook: Any) -> list[list[str]]:
    """What each cell of code shows, as HTML where it is a table."""
    shown = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown.append([_text(output) for output in cell.outputs])
    return shown


def _text(output: Any) -> str:
    data = output.get("data", {})
    return str(data.get("text/html") or data.get("text/plain") or output.get("text", ""))


@pytest.mark.filterwarnings("ignore")  # of the kernel's own libraries
def test_the_notebook_runs_and_shows_what_it_shows(tmp_path, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    stored = outputs(notebook)
    assert len(stored) == 4 and all(stored)
    assert all("<table" in shown[-1] for shown in stored[:3]) and "[1]" in stored[3][-1]

    def chat(call: Call) -> None:
        call.stream("28 days ", "[1].")

    with stubbing(chat) as stub:
        monkeypatch.setenv("OPENAI_BASE_URL", stub.url)
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    now = outputs(notebook)
    for before, after in zip(stored[:3], now[:3], strict=True):
        assert [_NUMBER.sub("0", text) for text in after] == [_NUMBER.sub("0", text) for text in before]
    assert "28 days [1]." in now[3][0] and "Leave" in now[3][0]
