"""What the training tests share: a small data set, and runs on tiny models."""

import json
from pathlib import Path

import numpy as np

from ragvec import Encoder
from ragvec.train import train
from ragvec.train.recipe import make_recipe
from tests.tiny import TEXTS

LONG_TEXTS = [f"{text} {number} {other}" for number, text in enumerate(TEXTS) for other in TEXTS]


def write_data(folder: Path) -> Path:
    """36 texts (texts.json), their teacher's vectors of 8 dimensions (texts.npy), 18 pairs with a negative each (pairs.jsonl),
    24 pairs that are the more alike the more words they share (graded.jsonl)."""
    (folder / "texts.json").write_text(json.dumps([{"text": text} for text in LONG_TEXTS]))
    rows = [{"query": LONG_TEXTS[row], "positive": LONG_TEXTS[row + 1], "negative": LONG_TEXTS[-row]} for row in range(18)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    graded = [(LONG_TEXTS[row], LONG_TEXTS[(5 * row + 1) % 36]) for row in range(24)]
    rows = [{"sentence1": one, "sentence2": two, "score": len({*one.split()} & {*two.split()})} for one, two in graded]
    (folder / "graded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    np.save(folder / "texts.npy", np.random.default_rng(0).normal(size=(36, 8)).astype(np.float32))
    return folder


def recipe_values(objective: str, start, data: Path, output, **keys) -> dict:
    """A recipe of three steps on that data, with some keys changed; train_file may be named as it lies there."""
    values = {
        "model_name_or_path": str(start), "output_dir": str(output), "torch_dtype": "float32", "device": "cpu",
        "per_device_train_batch_size": 4, "max_seq_length": 48, "max_steps": 3, "logging_steps": 1, "learning_rate": 1e-2,
        "warmup_steps": 0,
        **({"instruction": ""} if objective == "supervised" else {}),  # the usual one has more tokens than fit here
        "train_file": str(data / ("pairs.jsonl" if objective == "supervised" else "texts.json")),
        **({"teacher_vectors": str(data / "texts.npy")} if objective == "distill" else {}),
        **keys,
    }  # fmt: skip
    return {**values, "train_file": str(data / values["train_file"])}


def run(objective: str, start, data: Path, output, *, resume: bool = False, report=lambda line: None, **keys) -> dict:
    """Train with some keys changed; returns the summary."""
    made, _ = make_recipe(objective, recipe_values(objective, start, data, output, **keys))
    return train(made, resume=resume, report=report)


def losses(summary: dict) -> list[float]:
    """The loss of every logged step."""
    return [entry["loss"] for entry in summary["log"] if "loss" in entry]


def vectors(folder, **options) -> np.ndarray:
    """What the encoder in a folder makes of the test texts."""
    return Encoder.load(folder, device="cpu", dtype="float32", **options).encode_documents(TEXTS)
