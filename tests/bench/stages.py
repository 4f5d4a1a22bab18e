"""What each stage of the recipe does to a real pretrained decoder, as a table in the manner of LLM2Vec's.

    python -m tests.bench.stages                             on the 260,000-parameter Llama of the reference material
    python -m tests.bench.stages --model FOLDER --mask _     on another decoder
    python -m tests.bench.stages --steps 200                 shorter stages
    python -m tests.bench.stages --folder STAGES             keep the encoders; what is there already is not made again

Causal attention with weighted mean pooling, bidirectional attention as it is, after MNTP, after MNTP and SimCSE, after MNTP and
supervised training. Measured on STS-B (test), SciFact (test; its training queries are among the pairs) and Banking77. Needs the
reference material (../shared, or RAGVEC_SHARED).
"""

import argparse
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import orjson

from ragvec import Encoder
from ragvec.evaluate import evaluate
from ragvec.train import train
from ragvec.train.recipe import make_recipe
from tests.conftest import SHARED

MAX_LENGTH = 256  # tokens of a text that are read when figures are measured
SETS = (
    ("sts/stsb-en.test.tsv", "spearman"),
    ("retrieval/scifact", "nDCG@10"),
    ("classification/banking77.test.tsv", "accuracy"),
)


def main() -> None:
    """Train the stages one upon another and print a row for each as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SHARED / "lm" / "stories260K-hf")
    parser.add_argument("--mask", default="~", help="the piece that hides a token in MNTP")
    parser.add_argument("--steps", type=int, default=300, help="of each stage")
    parser.add_argument("--folder", type=Path, help="where the stages' encoders are kept; a run cut short goes on there")
    options = parser.parse_args()
    print("| | STS-B | SciFact nDCG@10 | Banking77 accuracy | training |")
    print("|---|---|---|---|---|")
    with nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        write_texts(folder)
        measure("causal, weighted mean", options.model, folder / "causal.json", attention="causal", pooling="weighted_mean")
        measure("bidirectional, mean", options.model, folder / "bidirectional.json")
        common = {"max_steps": options.steps, "batch_tokens": 4096, "logging_steps": 20, "save_steps": 50, "seed": 1}
        stage("+ MNTP", "mntp", options.model, folder / "mntp", train_file=str(folder / "paragraphs.jsonl"), learning_rate=2e-3,
              mask_token=options.mask, mlm_probability=0.2, max_seq_length=256, warmup_steps=50, **common)  # fmt: skip
        stage("+ MNTP + SimCSE", "simcse", folder / "mntp", folder / "simcse", train_file=str(folder / "sentences.jsonl"),
              learning_rate=1e-3, max_seq_length=128, warmup_steps=50, **common)  # fmt: skip
        stage("+ MNTP + supervised", "supervised", folder / "mntp", folder / "supervised", learning_rate=5e-4,
              train_file=str(SHARED / "data" / "pairs" / "en_train.jsonl.gz"), corpus_root=str(SHARED / "data"),
              max_seq_length=256, max_negatives=1, warmup_steps=50, loss_scale=20.0, instruction="", **common)  # fmt: skip


def write_texts(folder: Path) -> None:
    """WikiText-2's paragraphs, and their sentences, as JSONL."""
    lines = (SHARED / "data" / "text" / "wikitext-2" / "wiki.train.tokens").read_text(encoding="utf-8").splitlines()
    paragraphs = [line.strip().replace(" @-@ ", "-").replace(" @,@ ", ",") for line in lines if len(line) > 100]
    sentences = [one.strip() for paragraph in paragraphs for one in paragraph.split(" . ") if len(one) > 30]
    for name, texts in (("paragraphs", paragraphs), ("sentences", sentences)):
        (folder / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))


def stage(label: str, objective: str, start: Path, output: Path, **keys: Any) -> None:
    """Train one stage, or go on with it, and measure what came of it."""
    recipe, _ = make_recipe(objective, {"model_name_or_path": str(start), "output_dir": str(output), **keys})
    if not (output / "README.md").exists():  # the model card is written last
        train(recipe, resume=output.exists(), report=lambda line: None)
    summary = json.loads((output / "training.json").read_text())
    note = f"loss {summary['first_loss']:.2f} → {summary['last_loss']:.2f} in {summary['seconds']:.0f} s"
    measure(label, output, output.with_suffix(".json"), note)


def measure(label: str, source: Path, kept: Path, note: str = "", **options: Any) -> None:
    """Print the row of one encoder; its figures are kept in a file."""
    if not kept.exists():
        encoder = Encoder.load(source, max_length=MAX_LENGTH, **options)
        figures = [evaluate(SHARED / "data" / name, encoder, instruction="").figures[metric] for name, metric in SETS]
        kept.write_text(json.dumps(figures))
    figures = json.loads(kept.read_text())
    print(f"| {label} | {' | '.join(f'{figure:.3f}' for figure in figures)} | {note} |", flush=True)


if __name__ == "__main__":
    main()
