"""The table of an encoder's card: retrieval sets and STS files, beside BM25, average word vectors and other encoders.

    python -m tests.bench.card --retrieval FOLDER --sts FILE …                   the bundled encoder
    python -m tests.bench.card --encoder ENCODER --beside teacher=FOLDER --beside static=FOLDER …
    python -m tests.bench.card --speed                                            how fast it loads and encodes, on one thread

Prints Markdown: nDCG@10 on every BEIR folder in FOLDER, Spearman's correlation on every table; --json FILE keeps all figures.
The row "average word vectors" is the encoder's own token table without its layers. Corpora are encoded once (--cache).
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch

from ragvec import Encoder
from ragvec.evaluate import Evaluation, evaluate
from ragvec.files import write_text
from ragvec.retrieve import Mode

RETRIEVAL_METRIC, SIMILARITY_METRIC = "nDCG@10", "spearman"
TOKENS, PASSAGES, REPEATS = 100, 300, 5  # of the measurement of speed
Row = dict[str, Evaluation]  # data set → what was found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", help="folder or hub id; default: the bundled encoder")
    parser.add_argument("--retrieval", type=Path, help="folder of BEIR folders")
    parser.add_argument("--only", nargs="*", help="names of the BEIR folders to take; default: all")
    parser.add_argument("--sts", type=Path, nargs="*", default=[], help="tables of score, sentence1, sentence2")
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=ENCODER", help="another row; may be repeated")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "ragvec")
    parser.add_argument("--speed", action="store_true", help="measure only this: loading, and passages of 100 tokens a minute")
    parser.add_argument("--json", type=Path, help="a file for every figure")
    options = parser.parse_args()
    if options.speed:
        print(speed(options.encoder))
        return
    folders = sorted(path.parent for path in options.retrieval.glob("*/qrels")) if options.retrieval else []
    folders = [folder for folder in folders if not options.only or folder.name in options.only]
    if not folders and not options.sts:
        parser.error(f"no data: {options.retrieval} holds no BEIR folder that is asked for, and no --sts file is named")
    names = [path.name for path in folders] + [path.stem for path in options.sts]
    if len(set(names)) < len(names):
        parser.error(f"two data sets have one name among {', '.join(names)}: rename one, it is its column's")
    rows: dict[str, Row] = {}
    for name, row in measure(options, folders):
        rows[name] = row
        print(f"{name}: done", file=sys.stderr)
    print(table(rows))
    if options.json:
        found = {name: {key: one.as_record() for key, one in row.items()} for name, row in rows.items()}
        write_text(options.json, json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def measure(options: argparse.Namespace, folders: list[Path]) -> Iterator[tuple[str, Row]]:
    """(name, row) of every system, the encoder's own last; one encoder in memory at a time."""
    if folders:
        yield "BM25", {folder.name: evaluate(folder, mode="lexical", cache=options.cache) for folder in folders}
    yield "average word vectors", row(word_vectors(Encoder.load(options.encoder)), folders, options)
    for name, _, source in (one.rpartition("=") for one in options.beside):
        yield name or source, row(Encoder.load(source), folders, options)
    encoder = Encoder.load(options.encoder)
    yield "encoder", row(encoder, folders, options)
    if folders:
        yield "encoder + BM25 (hybrid)", row(encoder, folders, options, mode="hybrid")


def row(encoder: Encoder, folders: list[Path], options: argparse.Namespace, mode: Mode = "dense") -> Row:
    """An encoder on every data set; tables of pairs have no modes, so they are measured in dense alone."""
    found = {folder.name: evaluate(folder, encoder, mode=mode, cache=options.cache, show_progress=True) for folder in folders}
    return {**found, **{path.stem: evaluate(path, encoder) for path in options.sts if mode == "dense"}}


def speed(source: str | None) -> str:
    """Seconds to load once the libraries are in, and passages encoded a minute, both on one thread, medians."""
    torch.set_num_threads(1)
    loading, encoding = [], []
    for _ in range(REPEATS + 1):  # the first time the libraries come in
        start = time.perf_counter()
        encoder = Encoder.load(source, device="cpu")
        loading.append(time.perf_counter() - start)
    vocabulary = len(encoder.tokenizer)
    dice = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary // 8, vocabulary // 2, (PASSAGES, 4 * TOKENS), generator=dice).tolist()
    lengthened = [encoder.tokenizer.decode(row) for row in ids]
    texts = [encoder.tokenizer.decode(found[:TOKENS]) for found in encoder.tokenizer(lengthened)["input_ids"]]
    tokens = sum(map(len, encoder.prompts.build(texts, "").ids)) / PASSAGES
    for _ in range(REPEATS):
        start = time.perf_counter()
        encoder.encode_documents(texts)
        encoding.append(time.perf_counter() - start)
    minute = 60 * PASSAGES / statistics.median(encoding)
    told = f"{minute:,.0f} passages of {tokens:.0f} tokens a minute on one thread in {encoder.dtype}"
    return f"loads in {statistics.median(loading[1:]):.2f} s; {told}"


def word_vectors(encoder: Encoder) -> Encoder:
    """The encoder with its layers taken out: a token's state is its row of the token table."""
    words = encoder.model.get_input_embeddings()

    def forward(*, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=words(input_ids))

    encoder.model.forward = forward  # an encoder without layers is no other class
    encoder.fingerprint = hashlib.sha256(f"word vectors of {encoder.fingerprint}".encode()).hexdigest()[:32]
    return encoder


def metric_of(found: Evaluation) -> str:
    """The name of the one figure that stands in the table."""
    return RETRIEVAL_METRIC if RETRIEVAL_METRIC in found.figures else SIMILARITY_METRIC


def table(rows: dict[str, Row]) -> str:
    """Markdown: a row a system; the mean is over the retrieval sets."""
    names = list(dict.fromkeys(name for found in rows.values() for name in found))
    searched = [name for name in names if any(found[name].task == "retrieval" for found in rows.values() if name in found)]
    columns = [*searched, *(["mean"] if len(searched) > 1 else []), *(name for name in names if name not in searched)]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, found in rows.items():
        figures = {key: one.figures[metric_of(one)] for key, one in found.items()}
        figures["mean"] = sum(figures[key] for key in searched) / max(len(searched), 1)
        lines.append(f"| {name} | {' | '.join(f'{figures[key]:.3f}' if key in figures else '' for key in columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
