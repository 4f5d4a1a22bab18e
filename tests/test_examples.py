"""The programs in examples/ run as they are, and say what they promise."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SAID = {
    "search.py": ["how do plants make food? -> photosynthesis", "wavelengths -> sky", "글자 -> hangul"],
    "shards.py": ["137 passages, vectors of shape (137, 384)", "most alike: "],
    "train.py": ["steps                 10", "before 0."],
    "prompt.py": ["[1] How plants make food", "Question: how do plants make food?", "sources: photosynthesis"],
}


@pytest.mark.parametrize("name", [path.name for path in sorted(EXAMPLES.glob("*.py"))])
def test_example(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    out = capsys.readouterr().out
    for said in SAID[name]:
        assert said in out
    if name == "train.py":
        before, after = (float(word.split()[1]) for word in out.splitlines()[-1].split(", "))
        assert after > before + 0.05  # the question came nearer to its answer
