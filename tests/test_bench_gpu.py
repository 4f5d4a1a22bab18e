"""The bench for a GPU, dry: its steps on the CPU with tiny shapes, its limits, its tables."""

import json
import math
import os
import sys
import zipfile
from pathlib import Path

import pytest

from tests.bench import encode
from tests.bench.gpu import __main__ as command
from tests.bench.gpu import search, serving, training
from tests.bench.gpu.bench import Bench
from tests.bench.gpu.figures import Figures, shown
from tests.test_index import run_python


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "work").mkdir()
    return Bench(Figures(tmp_path), tmp_path / "work", dry=True)


def rows(bench: Bench, section: str) -> dict[str, dict]:
    """The rows of a section's table."""
    return {name: one for name, one in bench.figures.read()[section].items() if isinstance(one, dict)}


def test_one_query_is_measured_both_ways(bench):
    serving.serve_8b(bench)
    found = rows(bench, "serving, 8b")
    assert set(found) == {f"{size} texts, {way}" for size in (1, 8) for way in ("plain", "graphs")}
    assert all(0 < one["median ms"] <= one["longest ms"] for one in found.values())
    told = bench.figures.read()["serving, 8b"]
    assert told["graphs work"] is True and told["1 texts, least cosine of the two"] == pytest.approx(1, abs=1e-5)


def test_training_steps_have_a_loss_and_a_speed(bench):
    training.train_1b(bench)
    found = rows(bench, "training, 1.3b, LoRA 16")
    assert set(found) == {"mntp", "mntp, padded", "supervised", "supervised, padded"}
    assert all(one["tokens/s"] > 0 and 0 < one["MFU"] < 1 and math.isfinite(one["loss"]) for one in found.values())


def test_each_kind_of_index_finds_its_own_vectors(bench):
    search.search(bench)
    found = rows(bench, "FAISS")
    assert set(found) == set(search.DRY_KEYS)
    assert all(one["searched on"] == "CPU" and one["find themselves"] > 0.95 for one in found.values())


def test_figures_are_whole_after_each_and_a_failure_is_one(tmp_path):
    figures = Figures(tmp_path)
    figures.put("encoding", {"seconds to compile": 3, "ragvec": {"tokens/s": 12345.6, "MFU": 0.56789}})
    figures.failed("encoding", "loop", ValueError("no\nroom"))
    assert json.loads(figures.json.read_text())["encoding"]["loop"] == {"not measured": "ValueError: no"}
    table = [
        "## encoding", "", "- seconds to compile: 3", "", "| | tokens/s | MFU | not measured |", "|---|---|---|---|",
        "| ragvec | 12,346 | 0.5679 |  |", "| loop |  |  | ValueError: no |", "",
    ]  # fmt: skip
    assert figures.markdown.read_text() == figures.table() == "\n".join(table)
    assert (shown(True), shown(1234), shown(0.5)) == ("True", "1,234", "0.5")


def test_a_step_has_a_limit_and_its_end_is_told(tmp_path, capsys):
    figures = Figures(tmp_path)
    fine = [sys.executable, "-c", "print('done')"]
    assert command.run_step(figures, "fine", fine, 60, {})
    assert not command.run_step(figures, "wrong", [sys.executable, "-c", "raise SystemExit(3)"], 60, {})
    assert command.run_step(figures, "long", ["sleep", "60"], 0.5, {})
    told = figures.read()["steps"]
    assert told["fine"].startswith("ok, ") and told["wrong"].startswith("exit code 3: see log.txt, ")
    assert told["long"].startswith("stopped at its limit, ")
    assert "===== wrong, 60 s at most" in figures.log.read_text() and "done" in figures.log.read_text()


def test_what_is_left_goes_to_the_last_command(tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(
        command, "run_step", lambda figures, name, words, seconds, _: ran.append((name, words, seconds)) or True
    )
    options = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--minutes", "1"]
    assert command.main([*options, "--only", "check,encode8b", "--then", "train {left}"]) == 0
    (check, words, most), (encode8b, _, rest), (then, last, _) = ran
    assert (check, encode8b, then) == ("check", "encode8b", "then")
    assert words[1:4] == ["-m", "tests.bench.gpu.step", "check"] and most <= 60 and rest <= 60
    assert last[:2] == ["bash", "-c"] and 5 <= int(last[2].removeprefix("train ")) <= 45
    assert command.main([*options[:-1], "0.1", "--only", "check", "--then", "train {left}"]) == 0
    told = Figures(tmp_path / "out").read()["steps"]
    assert told["check"].startswith("left out: ") and told["then"].startswith("left out: ") and len(ran) == 3
    with pytest.raises(SystemExit):
        command.main([*options, "--only", "chekc"])
    assert "no step 'chekc': choose from check, encode8b" in capsys.readouterr().err


def test_what_a_bare_machine_lacks_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "NEEDED", ("torch", "not_there_at_all"))
    assert command.main(["--out", str(tmp_path / "out"), "--work", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "not here: not_there_at_all. Install them, or give --wheels a folder with their wheels\n"


def test_wheels_are_installed_into_the_work_folder_and_come_first(tmp_path, monkeypatch, capsys):
    (tmp_path / "wheels").mkdir()
    options = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--wheels", str(tmp_path / "wheels")]
    assert command.main(options) == 1
    assert capsys.readouterr().err == f"--wheels {tmp_path / 'wheels'}: no wheel (*.whl) lies there\n"
    with zipfile.ZipFile(tmp_path / "wheels" / "lacked-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("lacked.py", "there = 1\n")
        info = "lacked-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: lacked\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setattr(command, "NEEDED", ("lacked",))
    monkeypatch.setattr(sys, "path", [*sys.path])
    ran = []
    monkeypatch.setattr(command, "run_step", lambda *given: ran.append(given[-1]["PYTHONPATH"]) or True)
    assert command.main([*options, "--only", "check"]) == 0
    assert ran[0].split(os.pathsep)[:2] == [str(command.ROOT), str(tmp_path / "work" / "site")]


@pytest.mark.slow
def test_what_fails_in_a_step_costs_no_other_its_table(tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    work.mkdir()
    (work / "model-1.3b").write_text("a file where the second model would be put")
    assert command.main(["--out", str(out), "--work", str(work), "--dry", "--only", "bulk,faiss"]) == 1
    told = Figures(out).read()
    assert told["steps"]["bulk"].startswith("exit code ") and told["steps"]["faiss"].startswith("ok, ")
    assert told["bulk"]["bundled"]["passages"] == 24 and told["FAISS"]
    assert "| bundled | 24 |" in Figures(out).markdown.read_text()


def test_a_checkout_is_enough():
    """Without an installation's mapping of the folders cli and data."""
    out = run_python("""
        import sys
        from importlib.util import find_spec
        sys.meta_path = [finder for finder in sys.meta_path if "ditable" not in repr(finder)]
        assert find_spec("ragvec.data") is None
        from tests.bench.gpu.bench import make_importable
        make_importable()
        from ragvec.cli.main import main
        from ragvec.data import data_path
        print(data_path("encoder").is_dir())
    """).stdout
    assert out == "True\n"


def test_the_token_budget_is_found_before_anything_is_timed(tiny_decoder):
    encoder = encode.Encoder.load(tiny_decoder, device="cpu", dtype="float32")
    assert encoder._budget.is_open
    assert encode.find_budget(encoder, ["a few words"]) == encode.FEWEST_TRIALS + 1  # too few texts to try any on
    given = encode.Encoder.load(tiny_decoder, device="cpu", dtype="float32", batch_tokens=512)
    assert encode.find_budget(given, ["a few words"]) == 0


@pytest.mark.slow
def test_every_step_runs_dry(tmp_path):
    assert command.main(["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--dry"]) == 0
    told = Figures(tmp_path / "out").read()
    assert set(told["steps"]) == set(command.STEPS) and all(said.startswith("ok, ") for said in told["steps"].values())
    assert all(one["right"] for one in told["parity with float32 on the CPU"].values())
    for section in ("encoding, 8b", "encoding, 1.3b"):
        assert told[section]["ragvec, 32k tokens a batch"]["tokens/s"] > 0
        assert told[section]["transformers loop, 32 texts, padded"]["tokens/s"] > 0
    assert {name: one["passages"] for name, one in told["bulk"].items()} == {"bundled": 24, "1.3b": 24}
