"""Training data as it comes: texts, and queries with positives and hard negatives, from the formats people have.

No torch here: rows in, plain records out; every bad row is named by file and line.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ragvec.corpus import TEXT_FIELDS
from ragvec.corpus.files import corpus_files
from ragvec.corpus.kinds import format_of
from ragvec.corpus.readers import file_rows
from ragvec.corpus.rows import BadRow, Row
from ragvec.encoder.settings import EncoderSettings
from ragvec.errors import RagvecError
from ragvec.train.data.e5 import E5_INSTRUCTIONS, E5_SYMMETRIC
from ragvec.train.data.pairs import Pair, Scores, read_pair
from ragvec.train.data.pointers import PointedTexts
from ragvec.train.recipe import Recipe

Item = TypeVar("Item")
_SOURCE_FIELDS = ("source", "dataset", "task")


class Text(NamedTuple):
    """One text of a data set; `source` names the set."""

    text: str
    source: str


class Example(NamedTuple):
    """A query with the text that answers it and any number of hard negatives.

    query_instruction is read before the query, document_instruction before the others ("" for none).
    scores: of the positive and of each negative, where they are what is learned.
    """

    query: str
    positive: str
    negatives: tuple[str, ...]
    source: str
    query_instruction: str
    document_instruction: str
    scores: tuple[float, ...] = ()


def read_texts(recipe: Recipe, files: Sequence[str]) -> list[Text]:
    """The texts of training files: a `text` field, or each line of a .txt file. Empty ones are left out."""
    examples = []
    for path in _files(files):
        name = _stem(path)
        for place, row in rows(path):
            text = _string(row, _text_field(row, recipe.text_field, place), place)
            if text.strip():
                examples.append(Text(text, _source(row, name)))
    return _not_empty(examples, files, recipe.max_train_samples)


def read_examples(
    recipe: Recipe, settings: EncoderSettings, files: Sequence[str], *, scored: Scores | None = None
) -> list[Example]:
    """Pairs and triples under the names of ragvec.train.data.pairs; a row with several positives makes an example of each.

    settings  of the encoder that results: its instructions are read where the recipe has none for a data set, so that what
              is trained is what will be searched. Graded pairs of two texts of a kind (STS) are read as documents both,
              unless the recipe names an instruction
    scored: rows must carry scores, a teacher's or degrees. Otherwise text pairs labelled 0 become hard negatives of the same
    query, if it has a positive in its data set.
    """
    e5 = recipe.dataset_name == "E5"
    instructions = {**(E5_INSTRUCTIONS if e5 else {}), **recipe.instructions}
    symmetric = {*recipe.symmetric, *(E5_SYMMETRIC if e5 else ())}
    limit = recipe.max_negatives
    examples: list[Example] = []
    pointed = PointedTexts(recipe.corpus_root)
    more: dict[tuple[str, str], tuple[str, ...]] = defaultdict(tuple)  # negatives from rows of their own
    for path in _files(files):
        name = _stem(path)
        for number, (place, row) in enumerate(rows(path)):
            pair, source = read_pair(row, place, pointed, path.parent, scored=scored), _source(row, name)
            if not pair.positives:
                more[source, pair.query] += pair.negatives
                continue
            as_documents = pair.alike and scored == "graded" and recipe.instruction is None
            usual = settings.document_instruction if as_documents else settings.query_instruction
            instruction = _choose(instructions.get(source, usual), number)
            lead = instruction if source in symmetric else settings.document_instruction
            scores = pair.scores if limit is None else pair.scores[: limit + 1]
            for positive in pair.positives:
                examples.append(
                    Example(
                        query=pair.query,
                        positive=positive,
                        negatives=pair.negatives,
                        source=source,
                        query_instruction=instruction,
                        document_instruction=lead,
                        scores=scores,
                    )
                )
    if limit is not None or more:
        examples = [one._replace(negatives=(*one.negatives, *more[one.source, one.query])[:limit]) for one in examples]
    return _not_empty(examples, files, recipe.max_train_samples)


def read_pairs(files: Sequence[str], corpus_root: str | None = None) -> list[tuple[Pair, str]]:
    """Pairs as they stand in files, each with the name of its data set."""
    pointed = PointedTexts(corpus_root)
    examples = [
        (read_pair(row, place, pointed, path.parent), _source(row, _stem(path)))
        for path in _files(files)
        for place, row in rows(path)
    ]
    return _not_empty(examples, files, None)


def instruction_for(recipe: Recipe, source: str, usual: str) -> str:
    """The instruction of a data set, the first where several take turns; the usual one where the recipe has none for it."""
    return _choose(recipe.instructions.get(source, usual), 0)


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of a file with its place ("pairs.jsonl, line 17"); each non-empty line of a text file is a row.

    Raises RagvecError, with the place, for a row that can't be read.
    """
    for place, row in _raw_rows(path):
        if isinstance(row, BadRow):
            raise RagvecError(row.error)
        yield place, row


def _raw_rows(path: Path) -> Iterator[Row]:
    kind = format_of(path)
    if kind in (None, "converted"):
        raise RagvecError(f"{path} is no training data: use JSON, JSONL, CSV, TSV, TXT, Markdown or Parquet")
    return file_rows(path, str(path), path.name, text_lines=True, quoted=kind != "tsv" or _quotes_enclose(path))


def _quotes_enclose(path: Path) -> bool:
    """Whether double quotes in a TSV enclose fields, as in CSV: read so, every row has the header's fields.

    In STS tables and their like a quote is a character of the text, and a field may begin with one that nothing closes.
    """
    try:
        return not any(isinstance(row, BadRow) for _, row in file_rows(path, str(path), path.name))
    except RagvecError:
        return False


def split_validation(examples: Sequence[Item], percentage: int, seed: int) -> tuple[Sequence[Item], Sequence[Item]]:
    """Set a share of the examples aside, drawn at random: (training, validation)."""
    if percentage == 0:
        return examples, []
    chosen = set(random.Random(seed).sample(range(len(examples)), max(1, len(examples) * percentage // 100)))
    kept = [one for row, one in enumerate(examples) if row not in chosen]
    return kept, [examples[row] for row in sorted(chosen)]


def _files(files: Sequence[str]) -> Iterator[Path]:
    for name in files:
        yield from corpus_files(Path(name).expanduser()).paths


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _source(row: dict[str, Any], default: str) -> str:
    return next((row[name] for name in _SOURCE_FIELDS if isinstance(row.get(name), str)), default)


def _text_field(row: dict[str, Any], wanted: str | None, place: str) -> str:
    names = (wanted,) if wanted else TEXT_FIELDS
    present = next((name for name in names if name in row), None)
    if present is None:
        raise RagvecError(
            f'{place}: no text field (looked for {", ".join(names)}; fields seen: {_seen(row)}): set "text_field" in the config'
        )
    return present


def _string(row: dict[str, Any], name: str, place: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise RagvecError(f"{place}: field {name!r} must be a string, not {value!r:.60}")
    return value


def _seen(row: dict[str, Any]) -> str:
    return f"{', '.join(map(str, row)) or 'none':.200}"


def _choose(instruction: str | list[str], number: int) -> str:
    """An instruction, or one of several by turns."""
    return instruction if isinstance(instruction, str) else instruction[number % len(instruction)]


def _not_empty(examples: list[Item], files: Iterable[str], limit: int | None) -> list[Item]:
    if not examples:
        raise RagvecError(f"{', '.join(map(str, files))} holds no training text: check the file and its fields")
    return examples[:limit]
