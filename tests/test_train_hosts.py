"""Training over two hosts: network namespaces with an address each, torchrun over gloo between them, one shared folder.

A run is stopped on two hosts and goes on in one process, and the other way round; either way its losses, and what it makes of
texts, are those of one process that was never stopped.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ragvec.errors import RagvecError
from tests.hosts import on, two_hosts
from tests.test_train_ranks import data, keys  # noqa: F401
from tests.training import losses, recipe_values, run, vectors

PORT = 29400
PATIENCE_S = 3600  # on a machine that has other work
RAGVEC = [sys.executable, "-c", "from ragvec.cli.main import main; main()"]


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[str]]:
    with two_hosts() as names:
        yield names


def train_on_both(hosts: list[str], objective: str, recipe: Path, *more: str) -> None:
    """`ragvec train` by torchrun on each host, one process each."""
    started = [
        subprocess.Popen(
            on(name, sys.executable, "-m", "torch.distributed.run", "--no-python", "--nnodes", "2", "--node-rank", str(rank),
               "--nproc-per-node", "1", "--master-addr", "10.77.0.1", "--master-port", str(PORT),
               *RAGVEC, "train", objective, str(recipe), *more),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GLOO_SOCKET_IFNAME": "wire"},
        )
        for rank, name in enumerate(hosts)
    ]  # fmt: skip
    try:
        printed = [process.communicate(timeout=PATIENCE_S)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(printed)
    assert "processes             2" in printed[0] and "step 3" not in printed[1]


def recipe_file(folder: Path, name: str, values: dict) -> Path:
    path = folder / name
    path.write_text(json.dumps(values))
    return path


@pytest.fixture(scope="module")
def one(tiny_decoder, data, tmp_path_factory) -> tuple[dict, np.ndarray]:
    """One process that was never stopped: its summary, and its vectors."""
    folder = tmp_path_factory.mktemp("one")
    summary = run("supervised", tiny_decoder, data, folder, per_device_train_batch_size=8, **keys("supervised"))
    return summary, vectors(folder)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"fsdp": True}], ids=["replicated", "fsdp"])
def test_two_hosts_stop_and_one_process_goes_on_and_back(more, hosts, one, tiny_decoder, data, tmp_path):
    shared = {**keys("supervised"), **more, "save_steps": 1}

    def values(output: str, size: int, **further) -> dict:
        sized = {"per_device_train_batch_size": size, **shared, **further}
        return recipe_values("supervised", tiny_decoder, data, tmp_path / output, **sized)

    train_on_both(hosts, "supervised", recipe_file(tmp_path, "whole.json", values("whole", 4)))
    train_on_both(hosts, "supervised", recipe_file(tmp_path, "begun.json", values("down", 4, stop_after_n_steps=1)))
    with pytest.raises(RagvecError, match="2 processes .* have trained on 8 at once, 1 with 4 would on 4: set .* to 8"):
        run("supervised", tiny_decoder, data, tmp_path / "down", resume=True, per_device_train_batch_size=4, **shared)
    run("supervised", tiny_decoder, data, tmp_path / "down", resume=True, per_device_train_batch_size=8, **shared)
    run("supervised", tiny_decoder, data, tmp_path / "up", per_device_train_batch_size=8, stop_after_n_steps=1, **shared)
    train_on_both(hosts, "supervised", recipe_file(tmp_path, "up.json", values("up", 4)), "--resume")

    alone, expected = one
    for name, processes in (("whole", 2), ("down", 1), ("up", 2)):
        summary = json.loads((tmp_path / name / "training.json").read_text())
        assert summary["plan"]["processes"] == processes and summary["plan"]["steps"] == 3
        np.testing.assert_allclose(losses(summary), losses(alone), rtol=1e-4)
        np.testing.assert_allclose(vectors(tmp_path / name), expected, atol=1e-4)
