"""Several processes train as one: equal weights in each, and the losses that one process has on the joined batch.

Two real processes over gloo, started by torchrun; with batches of 4 each they see what one process sees in batches of 8.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training import LONG_TEXTS, losses, recipe_values, run, vectors, write_data

# Trains the recipes named on the command line; each process writes a digest of its weights beside the result.
WORKER = """
import hashlib, json, sys
from ragvec.train.recipe import make_recipe
from ragvec.train import ranks, training

plain = training.run_trainer

def keeping_a_digest(prepared, recipe, **options):
    log = plain(prepared, recipe, **options)
    weights = b"".join(weight.numpy().tobytes() for weight in prepared.module.state_dict().values())
    with open(f"{recipe.output_dir}.rank{ranks.rank()}", "w") as file:
        file.write(hashlib.sha256(weights).hexdigest())
    return log

training.run_trainer = keeping_a_digest
for path in sys.argv[1:]:
    objective, values, resume = json.load(open(path))
    training.train(make_recipe(objective, values)[0], resume=resume)
"""
GRADED = {"loss": "cosent", "train_file": "graded.jsonl"}
OBJECTIVES = ("supervised", "distill", "clm", "mntp")
# Name, objective, further keys and whether it is resumed. With fsdp each process holds half of every weight.
RUNS = [
    *((objective, objective, {}, False) for objective in OBJECTIVES),
    ("cached", "supervised", {"mini_batch_tokens": 40, "ddp_timeout": 600}, False),
    ("graded", "supervised", GRADED, False),
    ("sharded", "supervised", {"fsdp": True, "save_steps": 1}, False),
    ("sharded-clm", "clm", {"fsdp": True}, False),
    ("parts", "supervised", {"fsdp": True, "save_steps": 1, "stop_after_n_steps": 2}, False),
    ("parts", "supervised", {"fsdp": True, "save_steps": 1}, True),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """As ever, but for pairs with none to two negatives, so that processes hold different numbers of them."""
    folder = write_data(tmp_path_factory.mktemp("data"))
    rows = [
        {"query": LONG_TEXTS[row], "positive": LONG_TEXTS[row + 1], "negatives": LONG_TEXTS[-1 - row :][: row % 3]}
        for row in range(24)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory, tiny_decoder, data) -> tuple[Path, str]:
    """The folder with the results of two processes, and what they printed."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "worker.py").write_text(WORKER)
    recipes = []
    for number, (name, objective, more, resume) in enumerate(RUNS):
        values = recipe_values(objective, tiny_decoder, data, folder / name, **keys(objective), **more)
        recipes.append(str(folder / f"{number}.json"))
        Path(recipes[-1]).write_text(json.dumps([objective, values, resume]))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, str(folder / "worker.py"), *recipes], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def keys(objective: str) -> dict:
    """Without dropout and, for MNTP, with every token masked: what is random differs between one process and two.

    A large epsilon and no clipping, since plain Adam would not tell a gradient from half of it.
    """
    mask = {"mlm_probability": 1.0, "data_collator_type": "all_mask"} if objective == "mntp" else {}
    sensitive = {"adam_epsilon": 1.0, "learning_rate": 0.3, "max_grad_norm": 0.0}
    return {"lora_dropout": 0.0, "lora_r": 4, "max_seq_length": 12, **sensitive, **mask}


@pytest.mark.parametrize(("name", "objective"), sorted({(name, objective) for name, objective, *_ in RUNS if name != "parts"}))
def test_two_processes_equal_one_on_the_joined_batch(name, objective, two_processes, tiny_decoder, data, tmp_path):
    folder, _ = two_processes
    more = GRADED if name == "graded" else {}
    one = run(objective, tiny_decoder, data, tmp_path / "one", per_device_train_batch_size=8, **keys(objective), **more)
    first, second = (Path(f"{folder / name}.rank{rank}").read_text() for rank in (0, 1))
    assert first == second
    two = json.loads((folder / name / "training.json").read_text())
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-4)
    np.testing.assert_allclose(vectors(folder / name), vectors(tmp_path / "one"), atol=1e-4)
    assert two["plan"]["processes"] == 2 and two["plan"]["steps"] == one["plan"]["steps"] == 3
    assert two["tokens_seen"] == one["tokens_seen"]
    assert two["plan"]["trainable"] == one["plan"]["trainable"]


def test_a_sharded_run_resumes_to_the_same_weights(two_processes):
    """Weights and optimizer state are gathered for a checkpoint and dealt out again."""
    folder, _ = two_processes
    np.testing.assert_array_equal(vectors(folder / "parts"), vectors(folder / "sharded"))


def test_one_process_alone_speaks(two_processes):
    _, printed = two_processes
    assert printed.count("processes             2") == len(RUNS)
    assert printed.count("total batch           8 examples") == len(RUNS)
    assert printed.count("step 3/3 ") == len(RUNS) - 1


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["mntp", "supervised"])
def test_the_documented_command_trains_as_one_process_does(objective, tiny_decoder, data, tmp_path):
    """`torchrun --no-python … ragvec train`, as docs/training.md has it."""
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(recipe_values(objective, tiny_decoder, data, tmp_path / "two", **keys(objective))))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python", "--nproc-per-node", "2"]
    ragvec = [sys.executable, "-c", "from ragvec.cli.main import main; main()"]
    done = subprocess.run(
        [*torchrun, *ragvec, "train", objective, str(recipe)], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one = run(objective, tiny_decoder, data, tmp_path / "one", per_device_train_batch_size=8, **keys(objective))
    two = json.loads((tmp_path / "two" / "training.json").read_text())
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-4)
    np.testing.assert_allclose(vectors(tmp_path / "two"), vectors(tmp_path / "one"), atol=1e-4)
    assert two["plan"]["processes"] == 2
