"""Training data as it comes: texts, and queries with positives and hard negatives, from the formats people have.

No torch here: rows in, plain records out; every bad row is named by file and line.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ragvec.corpus import TEXT_FIELDS
from ragvec.encoder.settings import EncoderSettings
from ragvec.errors import RagvecError
from ragvec.train.data.e5 import E5_INSTRUCTIONS, E5_SYMMETRIC
from ragvec.train.data.pairs import Pair, Scores, pair_columns, read_pair
from ragvec.train.data.pointers import PointedTexts
from ragvec.train.data.reading import Columns, Reading, training_paths
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


def read_texts(recipe: Recipe, files: Sequence[str], *, reading: Reading | None = None) -> list[Text]:
    """The texts of training files: a `text` field, or each line of a .txt file. Empty ones are left out.

    reading  remembers what was not read, for the plan
    """
    examples, reading = [], reading or Reading()
    for path in training_paths(files):
        name = _stem(path)
        for place, row in reading.rows(path):
            with reading.row():
                text = _string(row, _text_field(row, recipe.text_field, place), place)
                reading.note(row, partial(_text_columns, recipe.text_field))
                if text.strip():
                    examples.append(Text(text, _source(row, name)))
    return _not_empty(examples, files, recipe.max_train_samples)


def read_examples(
    recipe: Recipe,
    settings: EncoderSettings,
    files: Sequence[str],
    *,
    scored: Scores | None = None,
    reading: Reading | None = None,
) -> list[Example]:
    """Pairs and triples under the names of ragvec.train.data.pairs; a row with several positives makes an example of each.

    settings  of the encoder that results: its instructions are read where neither a row nor the recipe has one, so that what
              is trained is what will be searched. Graded pairs of two texts of a kind (STS) are read as documents both,
              unless the recipe names an instruction
    scored    rows must carry scores, a teacher's or degrees. Otherwise text pairs labelled 0 become hard negatives of the
              same query, if it has a positive in its data set
    reading   remembers what was not read, for the plan
    """
    reading = reading or Reading()
    examples: list[Example] = []
    pointed = PointedTexts(recipe.corpus_root)
    leads = _Leads(recipe, settings, scored)
    more: dict[tuple[str, str], tuple[str, ...]] = defaultdict(tuple)  # negatives from rows of their own
    for path in training_paths(files):
        name = _stem(path)
        for number, (place, row) in enumerate(reading.rows(path)):
            with reading.row():
                pair, source = read_pair(row, place, pointed, path.parent, scored=scored), _source(row, name)
                reading.note(row, partial(_pair_columns, scored))
                if pair.positives:
                    examples += leads.examples(pair, source, number)
                    reading.prompts |= (pair.prompt, pair.document_prompt) != (None, None)
                else:
                    more[source, pair.query] += pair.negatives
    limit = recipe.max_negatives
    if limit is not None or more:
        examples = [one._replace(negatives=(*one.negatives, *more[one.source, one.query])[:limit]) for one in examples]
    return _not_empty(examples, files, recipe.max_train_samples)


class _Leads:
    """What the texts of each pair are read after."""

    def __init__(self, recipe: Recipe, settings: EncoderSettings, scored: Scores | None) -> None:
        e5 = recipe.dataset_name == "E5"
        self._by_source = {**(E5_INSTRUCTIONS if e5 else {}), **recipe.instructions}
        self._symmetric = {*recipe.symmetric, *(E5_SYMMETRIC if e5 else ())}
        self._settings, self._most = settings, recipe.max_negatives
        self._of_a_kind = scored == "graded" and recipe.instruction is None

    def examples(self, pair: Pair, source: str, number: int) -> list[Example]:
        """The examples of a row, the number-th of its file."""
        usual = self._settings.document_instruction if pair.alike and self._of_a_kind else self._settings.query_instruction
        query = _choose(self._by_source.get(source, usual), number) if pair.prompt is None else pair.prompt
        document = query if source in self._symmetric else self._settings.document_instruction
        if pair.document_prompt is not None:
            document = pair.document_prompt
        scores = pair.scores if self._most is None else pair.scores[: self._most + 1]
        return [Example(pair.query, positive, pair.negatives, source=source, query_instruction=query,
                        document_instruction=document, scores=scores) for positive in pair.positives]  # fmt: skip


def read_pairs(files: Sequence[str], corpus_root: str | None = None) -> list[tuple[Pair, str]]:
    """Pairs as they stand in files, each with the name of its data set."""
    pointed = PointedTexts(corpus_root)
    examples = [
        (read_pair(row, place, pointed, path.parent), _source(row, _stem(path)))
        for path in training_paths(files)
        for place, row in Reading().rows(path)
    ]
    return _not_empty(examples, files, None)


def instruction_for(recipe: Recipe, source: str, usual: str) -> str:
    """The instruction of a data set, the first where several take turns; the usual one where the recipe has none for it."""
    return _choose(recipe.instructions.get(source, usual), 0)


def split_validation(examples: Sequence[Item], percentage: int, seed: int) -> tuple[Sequence[Item], Sequence[Item]]:
    """Set a share of the examples aside, drawn at random: (training, validation)."""
    if percentage == 0:
        return examples, []
    chosen = set(random.Random(seed).sample(range(len(examples)), max(1, len(examples) * percentage // 100)))
    kept = [one for row, one in enumerate(examples) if row not in chosen]
    return kept, [examples[row] for row in sorted(chosen)]


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


def _text_columns(wanted: str | None, names: Sequence[str]) -> Columns:
    field = wanted or next((name for name in TEXT_FIELDS if name in names), "")
    return _with_source(Columns(frozenset([field])), names)


def _pair_columns(scored: Scores | None, names: Sequence[str]) -> Columns:
    return _with_source(pair_columns(names, scored), names)


def _with_source(columns: Columns, names: Sequence[str]) -> Columns:
    field = next((name for name in _SOURCE_FIELDS if name in names), None)
    return columns if field is None else columns._replace(used=columns.used | {field})


def _string(row: dict[str, Any], name: str, place: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise RagvecError(f"{place}: field {name!r} must be a string, not {value!r:.60}")
    return value


def _seen(row: dict[str, Any]) -> str:
    return f"{', '.join(map(str, row)) or 'none':.200}"


def _choose(instruction: str | list[str], number: int) -> str:
    """An instruction, or one of several by turns; of none, none."""
    return instruction if isinstance(instruction, str) else instruction[number % len(instruction)] if instruction else ""


def _not_empty(examples: list[Item], files: Iterable[str], limit: int | None) -> list[Item]:
    if not examples:
        raise RagvecError(f"{', '.join(map(str, files))} holds no training text: check the file and its fields")
    return examples[:limit]
