"""Fixtures that every test may use: tiny models made on the spot, and where the optional reference material lies."""

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # several test processes share the cores; before torch reads it
    cores = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("RAGVEC_SHARED", REPOSITORY.parent / "shared"))


def shared(name: str) -> Path:
    """A path in the optional reference material; the test is skipped where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"reference material {name} is not here (set RAGVEC_SHARED)")
    return path


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random 2-layer Llama decoder (hidden size 32) and a byte-level BPE tokenizer with bos and eos."""
    from tests.tiny import save_tiny_decoder

    return save_tiny_decoder(tmp_path_factory.mktemp("tiny-decoder"))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
