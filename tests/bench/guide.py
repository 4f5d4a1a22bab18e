"""What a guide for the negatives brings: the same encoder trained with and without one, from the same seeds.

    python -m tests.bench.guide --model MINILM --folder WORK                 the model's own frozen self is the guide
    python -m tests.bench.guide --model FOLDER --guide OTHER --folder WORK

40 steps of 64 pairs of one data set each (NFCorpus, Banking77) without hard negatives, texts of 32 tokens: batches in which a
query meets other answers to it. Measured on NFCorpus' test queries over 800 documents and on 800 texts of Banking77, texts of
64 tokens. Needs the reference material (../shared, or RAGVEC_SHARED).
"""

import argparse
from pathlib import Path

import orjson

from ragvec import Encoder
from ragvec.evaluate import evaluate
from ragvec.files import replacing
from ragvec.train import train
from ragvec.train.recipe import make_recipe
from tests.bench.samples import sample_of
from tests.bench.stages import DATA, supervised_pairs

SOURCES = ("nfcorpus", "banking77")
SETS = {"retrieval/nfcorpus": ("nDCG@10", 1600), "classification/banking77.test.tsv": ("accuracy", 800)}
KEYS = {
    "per_device_train_batch_size": 64, "max_steps": 40, "max_seq_length": 32, "max_negatives": 0, "instruction": "",
    "learning_rate": 3e-4, "warmup_steps": 4, "loss_scale": 20.0, "lora_dropout": 0.0, "overwrite_output_dir": True,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the encoder that is trained")
    parser.add_argument("--guide", type=Path, help="default: the model as it is before")
    parser.add_argument("--folder", type=Path, required=True, help="for pairs, samples and results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with replacing(options.folder / "pairs.jsonl") as file:
        file.writelines(orjson.dumps(row) + b"\n" for row in supervised_pairs() if row["source"] in SOURCES)
    print(f"before          {figures(options.model, options.folder)}", flush=True)
    for seed in options.seeds:
        for name, keys in {"without": {}, "with": {"guide": str(options.guide or options.model)}}.items():
            output = options.folder / f"{name}-{seed}"
            recipe, _ = make_recipe("supervised", {
                **KEYS, **keys, "model_name_or_path": str(options.model), "train_file": str(options.folder / "pairs.jsonl"),
                "corpus_root": str(DATA), "output_dir": str(output), "seed": seed,
            })  # fmt: skip
            train(recipe, report=lambda line: None)
            print(f"seed {seed}, {name:8s} {figures(output, options.folder)}", flush=True)


def figures(model: Path, folder: Path) -> str:
    """An encoder's figure on each set, its place before it."""
    encoder, told = Encoder.load(model, max_length=64, dtype="bfloat16"), []
    for place, (metric, size) in SETS.items():
        found = evaluate(sample_of(DATA / place, folder / "samples" / place, size), encoder, instruction="").figures[metric]
        told.append(f"{Path(place).name} {found:.4f}")
    return ", ".join(told)


if __name__ == "__main__":
    main()
