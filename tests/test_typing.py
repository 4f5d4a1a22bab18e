"""What type checkers see: the public names are the classes they stand for, though they load late."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SNIPPET = """
import ragvec
from ragvec.train import train

reveal_type(ragvec.Encoder.load)
reveal_type(ragvec.Index.open("folder"))
reveal_type(ragvec.Retriever)
reveal_type(ragvec.RagvecError("no").status)
reveal_type(train)
"""
# Libraries are left out: it is ragvec's own names that must resolve, and torch alone would take a minute.
CONFIG = """
[mypy]
ignore_missing_imports = true
[mypy-torch.*,transformers.*,numpy.*,pyarrow.*,faiss.*,peft.*,accelerate.*,safetensors.*,tqdm.*,pydantic.*]
follow_imports = skip
"""


def test_public_names_resolve(tmp_path: Path):
    (tmp_path / "snippet.py").write_text(SNIPPET)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", str(tmp_path / "cache"), "snippet.py"]
    found = {**os.environ, "MYPYPATH": str(ROOT)}  # an editable installation is a hook, which mypy does not follow
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=found)
    revealed = [line.split('Revealed type is "')[1] for line in out.stdout.splitlines() if "Revealed type" in line]
    assert len(revealed) == 5, out.stdout + out.stderr
    assert revealed[0].startswith("def (source: str |") and "-> ragvec.encoder.encoder.Encoder" in revealed[0]
    assert revealed[1].startswith("ragvec.index.index.Index")
    assert "-> ragvec.retrieve.retriever.Retriever" in revealed[2]
    assert revealed[3].startswith("int") or revealed[3].startswith("builtins.int")
    assert revealed[4].startswith("def (recipe: ragvec.train.recipe.Recipe,")
