"""Nothing of a run is lost: signals, kills at random moments, full disks, losses that are not finite."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from ragvec import Encoder
from ragvec.errors import Busy, RagvecError
from ragvec.locks import locked
from ragvec.train.checkpoints import spent_before
from tests.training import losses, recipe_values, run, vectors, write_data

COMMAND = [sys.executable, "-c", "from ragvec.cli.main import main; main()", "train"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def recipe_file(folder: Path, start: Path, data: Path, **keys) -> Path:
    values = {**recipe_values("mntp", start, data, folder / "out"), "max_seq_length": 16, "save_steps": 1}
    path = folder / "recipe.json"
    path.write_text(json.dumps({**values, **keys}))
    return path


@pytest.mark.slow
def test_sigterm_finishes_the_step_and_saves(tiny_decoder, data, tmp_path):
    config = recipe_file(tmp_path, tiny_decoder, data, max_steps=100_000, save_steps=100_000)
    process = subprocess.Popen([*COMMAND, "mntp", str(config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("step 2/"):
            process.send_signal(signal.SIGTERM)
            break
    _, errors = process.communicate()
    assert process.returncode == 130 and errors.splitlines()[-1] == "interrupted: --resume goes on from the last checkpoint"
    (checkpoint,) = (tmp_path / "out" / "checkpoints").iterdir()
    assert int(checkpoint.name.removeprefix("checkpoint-")) >= 2 and (checkpoint / "optimizer.pt").is_file()


def test_a_folder_is_one_runs_alone(tiny_decoder, data, tmp_path):
    """Of two runs that begin together, and of one that is resumed while it runs still, the second is refused."""
    held = ExitStack()

    def begin_too(line: str) -> None:
        if line == "reading the data":
            (tmp_path / "out").mkdir()
            held.enter_context(locked(tmp_path / "out"))

    with held, pytest.raises(Busy, match=r"out is being written by another run: wait for it, or write to another folder"):
        run("mntp", tiny_decoder, data, tmp_path / "out", report=begin_too)
    run("mntp", tiny_decoder, data, tmp_path / "out", stop_after_n_steps=1)
    with locked(tmp_path / "out"), pytest.raises(Busy, match="is being written by another run"):
        run("mntp", tiny_decoder, data, tmp_path / "out", resume=True)
    assert run("mntp", tiny_decoder, data, tmp_path / "out", resume=True)["steps_done"] == 3


def test_a_run_that_ended_while_another_began_is_not_written_over(tiny_decoder, data, tmp_path):
    def end_before(line: str) -> None:
        if line == "reading the data":
            run("mntp", tiny_decoder, data, tmp_path / "out")

    with pytest.raises(RagvecError, match="out is not empty: pass `resume` to go on"):
        run("mntp", tiny_decoder, data, tmp_path / "out", report=end_before)


def test_a_torn_checkpoint_is_passed_over(tiny_decoder, data, tmp_path):
    """A kill while the third checkpoint was being written: the run goes on from the second, to the same losses."""
    whole = run("mntp", tiny_decoder, data, tmp_path / "whole", max_steps=5)
    run("mntp", tiny_decoder, data, tmp_path / "parts", max_steps=5, stop_after_n_steps=3, save_steps=1, save_total_limit=9)
    checkpoints = tmp_path / "parts" / "checkpoints"
    state = checkpoints / "checkpoint-3" / "trainer_state.json"
    state.write_text(state.read_text()[:100])
    shutil.copytree(checkpoints / "checkpoint-3", checkpoints / "checkpoint-4")
    (checkpoints / "checkpoint-4" / "trainer_state.json").unlink()
    lines = []
    rest = run("mntp", tiny_decoder, data, tmp_path / "parts", max_steps=5, resume=True, report=lines.append)
    assert lines[0] == f"resuming from {checkpoints / 'checkpoint-2'}"
    assert losses(rest) == losses(whole) and np.array_equal(vectors(tmp_path / "parts"), vectors(tmp_path / "whole"))


def test_killed_before_the_first_checkpoint(tiny_decoder, data, tmp_path):
    """--resume then starts from the beginning, so that a script may always pass it."""
    whole = run("mntp", tiny_decoder, data, tmp_path / "whole")
    again = run("mntp", tiny_decoder, data, tmp_path / "new", resume=True)
    assert losses(again) == losses(whole)
    shutil.rmtree(tmp_path / "new" / "checkpoints")
    lines = []
    run("mntp", tiny_decoder, data, tmp_path / "new", resume=True, report=lines.append)
    assert lines[0] == "no checkpoint was written yet: starting from the beginning"


def test_resuming_a_finished_run_writes_its_result_again(tiny_decoder, data, tmp_path):
    """… and takes no step more, though its learning rate has not run out."""
    keys = {"lr_scheduler_type": "constant"}
    first = run("mntp", tiny_decoder, data, tmp_path / "out", **keys)
    before = vectors(tmp_path / "out")
    (tmp_path / "out" / "adapter_model.safetensors").unlink()
    again = run("mntp", tiny_decoder, data, tmp_path / "out", resume=True, **keys)
    assert np.array_equal(vectors(tmp_path / "out"), before) and again["log"] == first["log"]
    seconds, tokens = spent_before(tmp_path / "out" / "checkpoints" / "checkpoint-3")
    assert again["tokens_seen"] == first["tokens_seen"] == tokens > 0 and again["seconds"] >= seconds > 0


def test_weights_alone_are_no_checkpoint_to_resume_from(tiny_decoder, data, tmp_path):
    run("mntp", tiny_decoder, data, tmp_path / "out", save_only_model=True)
    with pytest.raises(
        RagvecError, match=r"checkpoint-3 holds weights alone \(save_only_model\): no run can be resumed from it"
    ):
        run("mntp", tiny_decoder, data, tmp_path / "out", save_only_model=True, resume=True)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_before_it_harms_the_weights(where, tiny_decoder, data, tmp_path, monkeypatch):
    import torch

    from ragvec.train.objectives import contrastive

    calls, plain = [], contrastive.hard_negative_nll

    def fails_at_the_third(*arguments, **options):
        calls.append(1)
        loss = plain(*arguments, **options)
        if len(calls) < 3:
            return loss
        return loss * float("nan") if where == "loss" else loss + 0 * torch.sqrt(loss - loss)  # 0 × an infinite slope

    monkeypatch.setattr(contrastive, "hard_negative_nll", fails_at_the_third)
    with pytest.raises(RagvecError) as stop:
        run("supervised", tiny_decoder, data, tmp_path / "out", save_steps=1, max_steps=6)
    checkpoints = tmp_path / "out" / "checkpoints"
    assert str(stop.value) == (
        f"the {where} of step 3 is not finite: lower learning_rate, or raise warmup_steps; "
        f"{checkpoints / 'checkpoint-2'} is the newest good checkpoint"
    )
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-1", "checkpoint-2"]
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def test_a_full_disk_stops_with_the_reason_and_the_last_good_checkpoint(tiny_decoder, data, tmp_path):
    """From the second step on files may not grow beyond a limit that the weights fit in and their optimizer does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints = tmp_path / "parts" / "checkpoints"

    def fill(line: str) -> None:
        if line.startswith("step 3/"):
            limit = (checkpoints / "checkpoint-2" / "optimizer.pt").stat().st_size - 1000
            assert (checkpoints / "checkpoint-2" / "model.safetensors").stat().st_size < limit
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))

    whole = run("mntp", tiny_decoder, data, tmp_path / "whole", max_steps=5)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(RagvecError) as stop:
            run("mntp", tiny_decoder, data, tmp_path / "parts", max_steps=5, save_steps=1, report=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert str(stop.value).startswith("checkpoint-3 could not be written (")
    assert str(stop.value).endswith(f"then pass `resume`; {checkpoints / 'checkpoint-2'} is the newest good checkpoint")
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-1", "checkpoint-2"]
    rest = run("mntp", tiny_decoder, data, tmp_path / "parts", max_steps=5, save_steps=1, resume=True)
    assert losses(rest) == losses(whole)


# Trains in children of a process that has everything imported and nothing computed, so that a start costs little.
KILLER = """
import json, os, random, signal, sys, time
import peft, torch
from transformers.models.llama import modeling_llama
from ragvec.train.recipe import make_recipe
from ragvec.train import train

torch.set_num_threads(1)

def start(path):
    # A training child, and a pipe with a byte for each of its steps
    steps, told = os.pipe()
    child = os.fork()
    if child:
        os.close(told)
        return child, steps
    code = 1
    try:
        recipe, _ = make_recipe("mntp", json.load(open(path)))
        train(recipe, resume=True, report=lambda line: line.startswith("step ") and os.write(told, b"s"))
        code = 0
    finally:
        os._exit(code)

def finish(child, steps):
    os.close(steps)
    return os.waitpid(child, 0)[1]

whole, parts, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
started = time.monotonic()
child, steps = start(whole)
os.read(steps, 1)
to_first = time.monotonic() - started
while os.read(steps, 1):
    pass
assert finish(child, steps) == 0
draw, killed = random.Random(0), 0
for _ in range(kills):
    child, steps = start(parts)
    for _ in range(wait := draw.randrange(4)):  # none: before the first step
        os.read(steps, 1)
    time.sleep(to_first * draw.uniform(0, 0.2 if wait else 1))
    os.kill(child, signal.SIGKILL)
    killed += os.WIFSIGNALED(finish(child, steps))
assert finish(*start(parts)) == 0
print(killed)
"""


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_a_run_ends_at_the_same_weights(kills, tiny_decoder, data, tmp_path):
    recipes = []
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        keys = {"max_steps": 5 * kills, "gradient_accumulation_steps": 2}
        recipes.append(str(recipe_file(tmp_path / name, tiny_decoder, data, **keys)))
    done = subprocess.run(
        [sys.executable, "-c", KILLER, *recipes, str(kills)], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    logs = [json.loads((tmp_path / name / "out" / "training.json").read_text())["log"] for name in ("whole", "parts")]
    assert [entry["loss"] for entry in logs[1]] == [entry["loss"] for entry in logs[0]] and len(logs[0]) == 5 * kills
    assert np.array_equal(vectors(tmp_path / "parts" / "out"), vectors(tmp_path / "whole" / "out"))
    assert int(done.stdout) > kills / 2
    assert not list((tmp_path / "parts" / "out").rglob("*.tmp"))
    assert Encoder.load(tmp_path / "parts" / "out", device="cpu").settings.packed
