"""Tune an encoder to a few pairs of question and answer, and see what it learnt."""

import json
import tempfile
from pathlib import Path

from ragvec import Encoder
from ragvec.data import data_path
from ragvec.train import train
from ragvec.train.recipe import make_recipe

PAIRS = [
    {"query": "order status", "positive": "Track your parcel under My Account.", "negative": "Orders are placed in the shop."},
    {
        "query": "money back",
        "positive": "A refund is on your card in five days.",
        "negative": "Money can be sent by post.",
    },
    {"query": "forgot my password", "positive": "Reset the login by e-mail.", "negative": "A password has twelve characters."},
]
QUESTION, ANSWER = PAIRS[1]["query"], PAIRS[1]["positive"]


def cosine(encoder: Encoder) -> float:
    """How near the second question is to its answer."""
    return float(encoder.encode_queries([QUESTION])[0] @ encoder.encode_documents([ANSWER])[0])


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, PAIRS)))
    recipe, _ = make_recipe(
        "supervised",
        {
            "model_name_or_path": str(data_path("encoder")),
            "train_file": str(folder / "pairs.jsonl"),
            "output_dir": str(folder / "tuned"),
            "lora_r": 8,
            "per_device_train_batch_size": 3,
            "max_steps": 10,
            "warmup_steps": 0,
            "learning_rate": 1e-3,
        },
    )
    train(recipe)
    print(f"before {cosine(Encoder.load()):.2f}, after {cosine(Encoder.load(folder / 'tuned')):.2f}")
