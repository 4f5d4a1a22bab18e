"""Word-level probes: how much a linear classifier reads off a word's frozen states (part of speech, chunks, names).

Source: LLM2Vec (BehnamGhader et al., 2024), section 3.1; a word is the mean of its tokens' last hidden states.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ragvec.corpus.files import open_input, text_lines
from ragvec.encoder.protocol import TextEncoder
from ragvec.errors import RagvecError, WrongUsage
from ragvec.evaluate.result import Evaluation
from ragvec.progress import progress_bar

# column numbers, from 1, of the names in CoNLL-2003's files and in CoNLL-U's
COLUMNS = {"pos": 2, "chunk": 3, "ner": 4}
UNIVERSAL_COLUMNS = {"upos": 4, "xpos": 5, "deprel": 8}
_SENTENCES = 256  # encoded between two steps of the progress bar
_EPOCHS = 20
_LEAST_STEPS = 1000
_BATCH = 256
_LEARNING_RATE = 5e-3
_SEED = 0


class Tagged(NamedTuple):
    """A sentence: its words and the tag of each."""

    words: list[str]
    tags: list[str]


class States(NamedTuple):
    """Words' states (n, d) float32, and which of all words have one (words,) bool."""

    vectors: np.ndarray
    read: np.ndarray


def evaluate_words(
    path: Path,
    encoder: TextEncoder,
    *,
    column: str,
    previous: bool = False,
    instruction: str = "",
    show_progress: bool = False,
) -> Evaluation:
    """Accuracy over words and, for tags like B-NP and I-NP, F1 over spans, of a linear classifier trained on frozen states.

    path    NAME.test.EXT beside NAME.train.EXT, or a folder with train.* and test.*; CoNLL columns or CoNLL-U
    column  pos, chunk, ner (CoNLL-2003), upos, xpos, deprel (CoNLL-U), or a column's number from 1
    previous  read each token off the state before it, which MNTP trains to predict it; the paper does so for MNTP models
    A word that the encoder does not read, for its length, counts as wrong.
    Raises RagvecError for missing files, a line without that column, or fewer than two tags.
    """
    train_path, test_path = _tables(path)
    train, test = read_conll(train_path, column), read_conll(test_path, column)
    classes = sorted({tag for sentence in train for tag in sentence.tags})
    if len(classes) < 2:
        raise RagvecError(f"{train_path}: column {column} holds {len(classes)} different tags: a probe needs two")
    states = partial(_states, encoder, instruction=instruction, previous=previous, show=show_progress)
    known, asked = states(train, "training sentences"), states(test, "test sentences")
    tags = np.array([classes.index(tag) for sentence in train for tag in sentence.tags])[known.read]
    predicted = np.full(len(asked.read), "", dtype=object)
    predicted[asked.read] = np.array(classes, dtype=object)[_probe(known.vectors, tags, asked.vectors, len(classes))]
    gold = [tag for sentence in test for tag in sentence.tags]
    figures = {"accuracy": float(np.mean(predicted == np.array(gold, dtype=object)))}
    if any(tag.startswith(("B-", "I-")) for tag in classes):
        figures["span F1"] = span_f1([sentence.tags for sentence in test], _split(predicted.tolist(), test))
    counts = {"tags": len(classes), "sentences": len(test), "words": len(gold), "truncated": int((~asked.read).sum())}
    return Evaluation(
        dataset=test_path.name.split(".")[0] if not path.is_dir() else path.resolve().name,
        split=f"test, {column}{', previous token' if previous else ''}",
        task="tagging",
        encoder=encoder.source,
        fingerprint=encoder.fingerprint,
        instruction=instruction,
        figures=figures,
        counts=counts,
        values=_by_sentence(predicted.tolist(), test),
    )


def read_conll(path: Path, column: str) -> list[Tagged]:
    """Sentences of a file of columns: words first (CoNLL-2003) or second (CoNLL-U), an empty line between sentences.

    Raises RagvecError, with the line, where the column is missing.
    """
    with open_input(path) as file:
        lines = [line.rstrip("\r\n") for line in text_lines(file, path)]
    universal = any(len(fields) == 10 and fields[0] == "1" for fields in (line.split("\t") for line in lines[:200]))
    place = _place(column, universal)
    sentences: list[Tagged] = []
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        fields = line.split("\t") if universal else line.split()
        if not line.strip() or fields[0] == "-DOCSTART-":
            if words:
                sentences.append(Tagged(words, tags))
            words, tags = [], []
        elif not (line.startswith("#") and (universal or len(fields) < place)) and (not universal or fields[0].isdigit()):
            if len(fields) < max(place, 2):
                raise RagvecError(f"{path} line {number}: {len(fields)} columns, none is number {place} ({column})")
            words.append(fields[1 if universal else 0])
            tags.append(fields[place - 1])
    if not sentences:
        raise RagvecError(f"{path} holds no sentences: pass a CoNLL file, a word and its tags a line")
    return sentences


def span_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """F1 over spans with their types, by sentences of tags B-X, I-X, O; an I-X that follows no X begins a span (conlleval)."""
    told = right = wanted = 0
    for truth, guess in zip(gold, predicted, strict=True):
        theirs, ours = set(_spans(truth)), set(_spans(guess))
        told, wanted, right = told + len(ours), wanted + len(theirs), right + len(theirs & ours)
    return 2 * right / (told + wanted) if told + wanted else 1.0


def _spans(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    start, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            yield start, place, kind
            kind = ""
        if prefix in ("B", "I") and not kind:
            start, kind = place, name


def _place(column: str, universal: bool) -> int:
    names = UNIVERSAL_COLUMNS if universal else COLUMNS
    if column.isdigit() and int(column) > 1:
        return int(column)
    if column not in names:
        raise WrongUsage(f"no column {column!r}: choose {', '.join(names)}, or a column's number from 2")
    return names[column]


def _tables(path: Path) -> tuple[Path, Path]:
    if path.is_dir():
        files_of = {name: sorted(path.glob(f"{name}.*")) for name in ("train", "test")}
        tables = [files[0] if files else path / name for name, files in files_of.items()]
    else:
        tables = [path.with_name(path.name.replace("test", "train")), path]
    for name, table in zip(("train", "test"), tables, strict=True):
        if not table.is_file() or tables[0] == tables[1]:
            raise RagvecError(f"no {name} file for {path}: lay NAME.train.conll beside NAME.test.conll")
    return tables[0], tables[1]


def _states(
    encoder: TextEncoder, sentences: list[Tagged], label: str, *, instruction: str, previous: bool, show: bool
) -> States:
    vectors, read = [], []
    with progress_bar(label, total=len(sentences), unit="sentences", show=show) as bar:
        for start in range(0, len(sentences), _SENTENCES):
            block = sentences[start : start + _SENTENCES]
            texts = [" ".join(sentence.words) for sentence in block]
            tokens = encoder.encode_tokens(texts, instruction=instruction, normalize=False, whole=True)
            for sentence, one in zip(block, tokens, strict=True):
                places = np.flatnonzero(one.offsets[:, 1] > one.offsets[:, 0])
                read_at = np.maximum(places - 1, 0) if previous else places
                means, has = word_vectors(sentence.words, one.vectors[read_at], one.offsets[places])
                vectors.append(means)
                read.append(has)
            bar.update(len(block))
    return States(np.concatenate(vectors), np.concatenate(read))


def word_vectors(words: Sequence[str], vectors: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each word's token vectors, (m, d), and which of the words have any, (words,) bool with m true.

    vectors, offsets  of the tokens (t, d), (t, 2), in the words joined by single spaces; a token belongs to the word that its
                      last character lies in, since many carry the space before
    """
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
    owners = np.searchsorted(starts, offsets[:, 1] - 1, side="right") - 1 if len(offsets) else np.empty(0, np.int64)
    counts = np.bincount(owners, minlength=len(words))
    sums = np.zeros((len(words), vectors.shape[1]), np.float32)
    np.add.at(sums, owners, vectors)
    read = counts > 0
    return sums[read] / counts[read, None].astype(np.float32), read


def _probe(states: np.ndarray, tags: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """The class (n,) of each asked state by a linear softmax classifier, trained by Adam on standardised states."""
    import torch

    mean, spread = states.mean(axis=0), states.std(axis=0) + 1e-6
    inputs, targets = torch.from_numpy((states - mean) / spread), torch.from_numpy(tags)
    generator = torch.Generator().manual_seed(_SEED)
    layer = torch.nn.Linear(states.shape[1], classes)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    batches = -(-len(inputs) // _BATCH)
    epochs = max(_EPOCHS, -(-_LEAST_STEPS // batches))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=epochs * batches)
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs), generator=generator).split(_BATCH):
            loss = torch.nn.functional.cross_entropy(layer(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        chosen: np.ndarray = layer(torch.from_numpy((asked - mean) / spread)).argmax(dim=1).numpy()
    return chosen


def _split(tags: list[str], sentences: list[Tagged]) -> list[list[str]]:
    parts, start = [], 0
    for sentence in sentences:
        parts.append(tags[start : start + len(sentence.words)])
        start += len(sentence.words)
    return parts


def _by_sentence(predicted: list[str], sentences: list[Tagged]) -> dict[str, dict[str, float]]:
    parts = zip(_split(predicted, sentences), sentences, strict=True)
    shares = [np.mean([guess == tag for guess, tag in zip(part, sentence.tags, strict=True)]) for part, sentence in parts]
    return {str(number): {"accuracy": float(share)} for number, share in enumerate(shares, 1)}
