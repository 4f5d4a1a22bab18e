"""The paper's ladder on a real pretrained decoder: what each stage of the recipe does, as a table in the manner of LLM2Vec's.

    python -m tests.bench.stages --model FOLDER --folder STAGES               every stage, one after another
    python -m tests.bench.stages --model FOLDER --folder STAGES --only mntp   one stage and those that it starts from
    python -m tests.bench.stages --folder STAGES --table                      what is measured so far
    … --tokens 1000000 --sample 400 --words UD --set mntp.learning_rate=5e-4

Causal attention with weighted mean pooling and with eos pooling, bidirectional attention as it is, after MNTP, after MNTP and
SimCSE, after MNTP and supervised training, after all three. Measured on STS-B, SICK, STS12 to STS16, SciFact, NFCorpus,
Banking77 and, where --words names tagged sentences, the paper's word-level probe. Every checkpoint and every figure is kept in
the folder: a run that was cut off goes on when the command is given again. Needs the reference material (../shared, or
RAGVEC_SHARED).
"""

import argparse
import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ragvec import Encoder
from ragvec.errors import WrongInput
from ragvec.evaluate import evaluate
from ragvec.evaluate.words import evaluate_words
from ragvec.files import replacing, write_json
from ragvec.train import train
from ragvec.train.recipe import make_recipe
from tests.bench.samples import read_rows, sample_of
from tests.conftest import SHARED

DATA = SHARED / "data"
MAX_LENGTH = 256  # tokens of a text that are read when figures are measured
STS = ("stsb-en", "sick", "sts12", "sts13", "sts14", "sts15", "sts16")
SETS = {  # column → where it lies below the data, and what is measured
    **{name: (f"sts/{name}.test.tsv", "spearman") for name in STS},
    "banking77": ("classification/banking77.test.tsv", "accuracy"),
    "scifact": ("retrieval/scifact", "nDCG@10"),
    "nfcorpus": ("retrieval/nfcorpus", "nDCG@10"),
}
WORDS = {"words": False, "words, state before": True}  # column → whether a word is read off the state before it
MOST_OF_SOURCE = 4000  # pairs of one data set among the supervised ones: NFCorpus has half of them
ALIKE = {"stsb-en": 4.0, "sick": 4.5}  # training pairs of these tables count as paraphrases from this score on


class Stage(NamedTuple):
    """A row of the table.

    start      the stage that it goes on from; "" = the model itself
    objective  what is taught; "" = nothing
    loaded     arguments of Encoder.load
    keys       of the training recipe
    """

    label: str
    start: str = ""
    objective: str = ""
    loaded: dict[str, Any] = {}
    keys: dict[str, Any] = {}


_CONTRASTIVE = {"warmup_steps": 0.1, "loss_scale": 20.0, "mini_batch_tokens": 2048, "save_steps": 2}
_SUPERVISED = {"train_file": "pairs.jsonl", "corpus_root": str(DATA), "batch_tokens": 6144, "learning_rate": 5e-4,
               "max_seq_length": 64, "max_negatives": 1, "instruction": "", "lora_dropout": 0.0, **_CONTRASTIVE}  # fmt: skip
STAGES = {
    "causal": Stage("causal, weighted mean", loaded={"attention": "causal", "pooling": "weighted_mean"}),
    "eos": Stage("causal, eos", loaded={"attention": "causal", "pooling": "eos_token"}),
    "bidirectional": Stage("bidirectional, mean, untrained"),
    "mntp": Stage("+ MNTP", objective="mntp", keys={
        "train_file": "paragraphs.jsonl", "batch_tokens": 2048, "gradient_accumulation_steps": 2, "learning_rate": 1e-3,
        "max_seq_length": 256, "mlm_probability": 0.2, "warmup_steps": 0.1, "lora_dropout": 0.0, "save_steps": 3,
    }),
    "simcse": Stage("+ MNTP + SimCSE", start="mntp", objective="simcse", keys={
        "train_file": "sentences.jsonl", "batch_tokens": 8192, "learning_rate": 3e-4, "max_seq_length": 64, **_CONTRASTIVE,
    }),
    "supervised": Stage("+ MNTP + supervised", start="mntp", objective="supervised", keys=_SUPERVISED),
    "supervised-simcse": Stage("+ MNTP + SimCSE + supervised", start="simcse", objective="supervised", keys=_SUPERVISED),
}  # fmt: skip


def main() -> None:
    """Train and measure the stages that are asked for, a line for each figure, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a decoder's folder")
    parser.add_argument("--folder", type=Path, required=True, help="keeps checkpoints and figures; a run cut off goes on there")
    parser.add_argument("--only", choices=STAGES, action="append", help="a stage; may be repeated; default: all")
    parser.add_argument("--tokens", type=int, default=250_000, help="that each trained stage reads")
    parser.add_argument("--mask", default="_", help="the piece that hides a token in MNTP")
    parser.add_argument("--sample", type=int, help="so many pairs, texts, sentences, half as many documents; default: all")
    parser.add_argument("--words", type=Path, help="folder with train.conllu and test.conllu, for the word-level probe")
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.KEY=VALUE", help="another value in a recipe")
    parser.add_argument("--table", action="store_true", help="print what is measured so far, and do nothing")
    options = parser.parse_args()
    try:
        if not options.table:
            ladder = Ladder(options)
            for name in options.only or STAGES:
                ladder.climb(name)
    except WrongInput as error:
        parser.error(str(error))
    print(table(options.folder, options.sample))


class Ladder:
    """The stages of one model in one folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        if options.model is None:
            raise WrongInput("no --model: name a decoder's folder")
        self.model, self.folder, self.options = options.model.resolve(), options.folder, options
        self.changes = _changes(options.set)
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = self.folder / "model.json"
        if kept.exists() and json.loads(kept.read_text()) != (told := {"model": str(self.model)}):
            raise WrongInput(f"{self.folder} holds the stages of {json.loads(kept.read_text())['model']}, not {told['model']}")
        write_json(kept, {"model": str(self.model)})
        write_texts(self.folder)

    def climb(self, name: str) -> None:
        """Train a stage, after those that it starts from, or go on with it; then measure what is not measured yet."""
        self.train(name)
        kept = self.folder / "figures" / f"{name}.json"
        found = json.loads(kept.read_text()) if kept.exists() else {}
        wanted = [*SETS, *(WORDS if self.options.words else ())]
        missing = [column for column in wanted if _key(column, self.options.sample) not in found]
        if not missing:
            return
        stage = STAGES[name]
        source = self.folder / name if stage.objective else self.model
        encoder = Encoder.load(source, max_length=MAX_LENGTH, **stage.loaded)
        for column in missing:
            found[_key(column, self.options.sample)] = figure = self.measure(column, encoder)
            kept.parent.mkdir(exist_ok=True)
            write_json(kept, found)
            print(f"{stage.label}: {column} {figure:.3f}", flush=True)

    def train(self, name: str) -> None:
        """Train a stage, and first those that it starts from, unless it is there already."""
        stage, output = STAGES[name], self.folder / name
        if not stage.objective or (output / "README.md").exists():  # the model card is written last
            return
        if stage.start:
            self.train(stage.start)
        keys = {**stage.keys, **self.changes.get(name, {})}
        step = keys["batch_tokens"] * keys.get("gradient_accumulation_steps", 1)
        recipe, _ = make_recipe(stage.objective, {
            "model_name_or_path": str(self.folder / stage.start if stage.start else self.model), "output_dir": str(output),
            "max_steps": max(self.options.tokens // step, 1), "logging_steps": 5, "seed": 1,
            **({"mask_token": self.options.mask} if stage.objective == "mntp" else {}), **keys,
            "train_file": str(self.folder / keys["train_file"]),
        })  # fmt: skip
        train(recipe, resume=output.exists(), report=lambda line: print(f"{name}: {line}", flush=True))

    def measure(self, column: str, encoder: Encoder) -> float:
        """One figure of an encoder."""
        samples = self.folder / f"sample-{self.options.sample}"
        if column in WORDS:
            path = sample_of(self.options.words, samples / "words", self.options.sample)
            return evaluate_words(path, encoder, column="upos", previous=WORDS[column]).figures["accuracy"]
        place, metric = SETS[column]
        path = sample_of(DATA / place, samples / place, self.options.sample)
        cache = self.folder / "corpora" / str(self.options.sample)
        return evaluate(path, encoder, instruction="", cache=cache).figures[metric]


def table(folder: Path, sample: int | None) -> str:
    """What is measured so far, as Markdown."""
    files = {name: folder / "figures" / f"{name}.json" for name in STAGES}
    rows = {name: json.loads(path.read_text()) for name, path in files.items() if path.exists()}
    known = [column for column in (*SETS, *WORDS) if any(_key(column, sample) in found for found in rows.values())]
    lines = [f"| | {' | '.join(known)} | training |", "|---" * (len(known) + 2) + "|"]
    for name, found in rows.items():
        figures = [f"{found[key]:.3f}" if (key := _key(column, sample)) in found else "" for column in known]
        lines.append(f"| {STAGES[name].label} | {' | '.join(figures)} | {_training(folder / name)} |")
    return "\n".join(lines)


def _training(stage: Path) -> str:
    if not (stage / "training.json").exists():
        return ""
    told = json.loads((stage / "training.json").read_text())
    first, last, minutes = told["first_loss"], told["last_loss"], told["seconds"] / 60
    return f"{told['tokens_seen']:,} tokens, {told['steps_done']} steps, loss {first:.2f} → {last:.2f}, {minutes:.0f} min"


def _key(column: str, sample: int | None) -> str:
    return column if sample is None else f"{column} @{sample}"


def _changes(given: list[str]) -> dict[str, dict[str, Any]]:
    """{stage: {key: value}} of STAGE.KEY=VALUE."""
    changes: dict[str, dict[str, Any]] = {}
    for one in given:
        name, _, value = one.partition("=")
        stage, _, key = name.partition(".")
        if stage not in STAGES or not key or not value:
            raise WrongInput(f"--set {one!r} is no STAGE.KEY=VALUE: the stages are {', '.join(STAGES)}")
        try:
            changes.setdefault(stage, {})[key] = json.loads(value)
        except ValueError:
            changes.setdefault(stage, {})[key] = value
    return changes


def write_texts(folder: Path) -> None:
    """What the stages learn from, as JSONL: WikiText-2's paragraphs, their sentences, and pairs."""
    if (folder / "pairs.jsonl").exists():
        return
    lines = (DATA / "text" / "wikitext-2" / "wiki.train.tokens").read_text(encoding="utf-8").splitlines()
    paragraphs = [line.strip().replace(" @-@ ", "-").replace(" @,@ ", ",") for line in lines if len(line) > 100]
    sentences = [one.strip() for paragraph in paragraphs for one in paragraph.split(" . ") if len(one) > 30]
    for name, rows in (
        ("paragraphs", [{"text": text} for text in paragraphs]),
        ("sentences", [{"text": text} for text in sentences]),
        ("pairs", supervised_pairs()),
    ):
        with replacing(folder / f"{name}.jsonl") as file:
            file.writelines(orjson.dumps(row) + b"\n" for row in rows)


def supervised_pairs() -> list[dict[str, Any]]:
    """The training pairs, at most so many of one data set, and paraphrases of the STS tables that no STS test set knows.

    A paraphrase's hard negative is a sentence that the first one stands beside with a low score, where there is one.
    """
    tested = {text for name in STS for row in read_rows(DATA / "sts" / f"{name}.test.tsv") for text in row[1:3]}
    pairs: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    with gzip.open(DATA / "pairs" / "en_train.jsonl.gz") as file:
        for line in file:
            row = orjson.loads(line)
            counts[row["source"]] = counts.get(row["source"], 0) + 1
            if counts[row["source"]] <= MOST_OF_SOURCE:
                pairs.append(row)
    for name, least in ALIKE.items():
        rows = [row[:3] for row in read_rows(DATA / "sts" / f"{name}.train.tsv") if not tested & set(row[1:3])]
        unlike = {left: right for score, left, right in rows if float(score) < least - 1.5}
        pairs += [
            {"source": name, "query": left, "positive": right, "negatives": [unlike[left]] if left in unlike else []}
            for score, left, right in rows
            if float(score) >= least
        ]
    return pairs


if __name__ == "__main__":
    main()
