"""What the objectives on whole texts share: pairs read and tokenized, batches of prompts, and the vectors of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ragvec.encoder import Encoder
from ragvec.encoder.pooling import pool
from ragvec.encoder.prompt import PromptBuilder
from ragvec.errors import WrongUsage
from ragvec.train.cached import in_runs
from ragvec.train.data import Example
from ragvec.train.guide import Guide
from ragvec.train.model import Learner
from ragvec.train.objectives.objective import BatchBuilder, ExampleSet, Lesson
from ragvec.train.recipe import Recipe

_MORE_NEGATIVES = (
    "raise per_device_train_batch_size, set homogeneous_batches to false, or give rows negatives of their own; rows that are "
    "all alike teach nothing"
)


class Triple(NamedTuple):
    """An example as rows of a prompt table."""

    query: int
    positive: int
    negatives: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Prompts of texts, shortest first; vectors[place] puts their vectors back in order.

    sizes     how many of them, in order, are queries, positives and negatives
    numbers   of the texts, so that equal ones are told; None = it is not asked
    guide     a guide's vectors of them, (n, dim)
    teacher   what to learn: vectors (n, dim), or scores (queries, most candidates of one), −inf where it has fewer
    """

    ids: list[list[int]]
    pool_starts: list[int]
    place: Tensor
    sizes: tuple[int, int, int] = (0, 0, 0)
    numbers: Tensor | None = None
    guide: Tensor | None = None
    teacher: Tensor | None = None


@dataclass(frozen=True, slots=True)
class PromptTable:
    """Tokenized prompts of a training set: every distinct text after every instruction that it is read after.

    pool_starts  where what is pooled begins in each
    texts        a number for each one's text: that of an equal text after another instruction is the same
    """

    ids: list[np.ndarray]
    pool_starts: list[int]
    texts: list[int]

    def of(self, rows: Sequence[int]) -> "PromptTable":
        """The prompts of these rows, in their order."""
        return PromptTable(
            [self.ids[row] for row in rows], [self.pool_starts[row] for row in rows], [self.texts[row] for row in rows]
        )


def pair_examples(recipe: Recipe, learner: Learner, examples: Sequence[Example]) -> ExampleSet[TextBatch]:
    """Queries with positives and negatives, tokenized for contrastive batches."""
    table, triples = _tokenized(learner, examples)
    guide = None
    if recipe.guide is not None:
        guide = Guide(Encoder.load(recipe.guide, device=str(learner.device), offline=recipe.offline), examples)
    build = pair_batch(table, triples, recipe.mask_identical, guide=guide)
    found = partial(holds_negative, triples, texts=table.texts if recipe.mask_identical else None)
    lesson = Lesson(found, "a negative", _MORE_NEGATIVES)
    made = _example_set(recipe, examples, table, triples, build=build, lesson=lesson)
    return replace(made, negatives=sum(len(one.negatives) for one in examples))


def score_examples(
    recipe: Recipe, learner: Learner, examples: Sequence[Example], *, lesson: Callable[[Sequence[Example]], Lesson]
) -> ExampleSet[TextBatch]:
    """Queries with candidates and the scores that are to be learned, tokenized; lesson: what batches of them must hold."""
    table, triples = _tokenized(learner, examples)
    build = score_batch(table, triples, [one.scores for one in examples])
    return _example_set(recipe, examples, table, triples, build=build, lesson=lesson(examples))


def holds_negative(examples: Sequence[Triple], rows: Sequence[int], *, texts: Sequence[int] | None) -> bool:
    """Whether a batch has a document that some query is told from.

    texts  the table's, with mask_identical: what that leaves out is none (see contrastive.no_negatives). None = without it;
           a prompt equal to the positive's still is none: no model can tell the two apart
    """
    chosen = [examples[row] for row in rows]
    if texts is None:
        return len({document for one in chosen for document in (one.positive, *one.negatives)}) > 1
    hard = {texts[negative] for one in chosen for negative in one.negatives}
    pairs = {(texts[one.query], texts[one.positive]) for one in chosen}
    return any(
        len(hard) > len(hard & {query, own}) or any(q != query and p not in (own, query) for q, p in pairs)
        for query, own in pairs
    )


def _tokenized(learner: Learner, examples: Sequence[Example]) -> tuple[PromptTable, list[Triple]]:
    wanted = []
    for one in examples:
        wanted.append((one.query_instruction, one.query))
        wanted += [(one.document_instruction, text) for text in (one.positive, *one.negatives)]
    table, rows = prompt_table(learner.prompt_builder, wanted)
    triples, edge = [], 0
    for one in examples:
        own = rows[edge : edge + 2 + len(one.negatives)]
        triples.append(Triple(own[0], own[1], tuple(own[2:])))
        edge += len(own)
    return table, triples


def _example_set(recipe: Recipe, examples: Sequence[Example], table: PromptTable, triples: Sequence[Triple], *,
                 build: BatchBuilder[TextBatch], lesson: Lesson) -> ExampleSet[TextBatch]:  # fmt: skip
    lengths = [sum(len(table.ids[row]) for row in (one.query, one.positive, *one.negatives)) for one in triples]
    return ExampleSet(
        build,
        lengths,
        [group_of(recipe, one.source) for one in examples],
        queries=tuple(sorted({one.query_instruction for one in examples})),
        documents=tuple(sorted({one.document_instruction for one in examples})),
        lesson=lesson,
    )


def group_of(recipe: Recipe, source: str) -> str:
    """What examples of a data set must share with the others of their batch."""
    return source if recipe.homogeneous_batches else ""


def prompt_table(builder: PromptBuilder, wanted: Sequence[tuple[str, str]]) -> tuple[PromptTable, list[int]]:
    """Tokenize (instruction, text) pairs, each distinct one once: the table, and the row of each pair."""
    numbers: dict[tuple[str, str], int] = {}
    rows = [numbers.setdefault(pair, len(numbers)) for pair in wanted]
    by_instruction: dict[str, list[str]] = {}
    for instruction, text in numbers:
        by_instruction.setdefault(instruction, []).append(text)
    by_text: dict[str, int] = {}
    of_text = [by_text.setdefault(text, len(by_text)) for _, text in numbers]
    table = PromptTable([np.empty(0, dtype=np.int32)] * len(numbers), [0] * len(numbers), of_text)
    for instruction, texts in by_instruction.items():
        prompts = builder.build(texts, instruction)
        for text, ids, start in zip(texts, prompts.ids, prompts.pool_starts, strict=True):
            row = numbers[instruction, text]
            table.ids[row], table.pool_starts[row] = np.array(ids, dtype=np.int32), start
    return table, rows


def text_vectors(learner: Learner, batch: TextBatch, mini_batch_tokens: int | None = None) -> Tensor:
    """Pooled vectors (n, dim) float32 of a batch's texts, in their own order. What is pooled are real tokens only.

    mini_batch_tokens  compute runs of texts of so many tokens at most, and each anew on the way back: activations of one
                       run exist at once, and the gradients are those of the whole batch
    """
    if mini_batch_tokens is None:
        vectors = _pooled(learner, batch.ids, batch.pool_starts)
    else:
        runs = _runs([len(text) for text in batch.ids], mini_batch_tokens)
        vectors = in_runs(lambda run: _pooled(learner, batch.ids[run], batch.pool_starts[run]), runs, learner.backbone)
    return vectors[learner.send(batch.place)]


def _pooled(learner: Learner, ids: list[list[int]], pool_starts: list[int]) -> Tensor:
    hidden = learner.hidden(ids)
    with torch.autocast(hidden.device.type, enabled=False):
        return learner.projections.of(pool(hidden, [len(text) for text in ids], pool_starts, learner.settings.pooling))


def _runs(lengths: Sequence[int], most: int) -> list[slice]:
    """Neighbouring texts of so many tokens at most; a longer text stands alone."""
    edges, room = [0], most
    for place, length in enumerate(lengths):
        if length > room and place > edges[-1]:
            edges.append(place)
            room = most
        room -= length
    return [slice(begin, end) for begin, end in zip(edges, [*edges[1:], len(lengths)], strict=True)]


def pair_batch(
    table: PromptTable, examples: Sequence[Triple], mask_identical: bool, *, guide: Guide | None = None
) -> BatchBuilder[TextBatch]:
    """Batches of queries, positives and negatives, given as rows of a prompt table; guide: of the same examples."""

    def build(rows: list[int], _: torch.Generator) -> TextBatch:
        chosen = [examples[row] for row in rows]
        queries, positives = [one[0] for one in chosen], [one[1] for one in chosen]
        negatives = [negative for one in chosen for negative in one[2]]
        everyone = [*queries, *positives, *negatives]
        numbers = torch.tensor([table.texts[row] for row in everyone]) if mask_identical else None
        sizes = (len(queries), len(positives), len(negatives))
        return text_batch(table, everyone, sizes=sizes, numbers=numbers, guide=None if guide is None else guide.of(rows))

    return build


def score_batch(table: PromptTable, examples: Sequence[Triple], scores: Sequence[tuple[float, ...]]) -> BatchBuilder[TextBatch]:
    """Batches of queries with their candidates (positive first) and the teacher's scores of these."""

    def build(rows: list[int], _: torch.Generator) -> TextBatch:
        chosen = [examples[row] for row in rows]
        candidates = [document for one in chosen for document in (one[1], *one[2])]
        teacher = torch.full((len(rows), max(len(scores[row]) for row in rows)), float("-inf"))
        for place, row in enumerate(rows):
            teacher[place, : len(scores[row])] = torch.tensor(scores[row])
        queries = [one[0] for one in chosen]
        return text_batch(table, [*queries, *candidates], sizes=(len(rows), len(candidates), 0), teacher=teacher)

    return build


def text_batch(
    table: PromptTable,
    rows: list[int],
    *,
    sizes: tuple[int, int, int] = (0, 0, 0),
    numbers: Tensor | None = None,
    guide: Tensor | None = None,
    teacher: Tensor | None = None,
) -> TextBatch:
    """The batch of some rows of a table; the other fields are TextBatch's."""
    order = sorted(range(len(rows)), key=lambda place: len(table.ids[rows[place]]))
    place = torch.empty(len(rows), dtype=torch.long)
    place[order] = torch.arange(len(rows))
    ids = [table.ids[rows[one]].tolist() for one in order]
    pool_starts = [table.pool_starts[rows[one]] for one in order]
    return TextBatch(ids, pool_starts, place, sizes=sizes, numbers=numbers, guide=guide, teacher=teacher)


class ScoredPairs(NamedTuple):
    """The scores of a batch, where each stands in the teacher's table, (n,) each, and its two texts' vectors, (n, dim)."""

    scores: Tensor
    rows: Tensor
    columns: Tensor
    queries: Tensor
    documents: Tensor


def scored_pairs(learner: Learner, vectors: Tensor, batch: TextBatch) -> ScoredPairs:
    """Every score of a batch. Which there are is found on the host: a GPU would be waited for."""
    teacher = teacher_of(batch)
    rows, columns = torch.isfinite(teacher).nonzero(as_tuple=True)
    scores, rows, columns = (learner.send(part) for part in (teacher[rows, columns], rows, columns))
    queries, documents = vectors.split((batch.sizes[0], len(vectors) - batch.sizes[0]))
    return ScoredPairs(scores=scores, rows=rows, columns=columns, queries=queries[rows], documents=documents)


def teacher_of(batch: TextBatch) -> Tensor:
    """What a batch is to learn from its teacher, on the host."""
    assert batch.teacher is not None
    return batch.teacher


def check_widths(recipe: Recipe, learner: Learner) -> None:
    """Raise WrongInput if matryoshka_dims names dimensions that the model's vectors don't have."""
    width = learner.width
    wrong = [dim for dim in recipe.matryoshka_dims if not 1 <= dim <= width]
    if wrong:
        raise WrongUsage(f"matryoshka_dims: {wrong[0]} is outside 1 … {width}, the dimension of the model's vectors")


def widths_of(recipe: Recipe, vectors: Tensor) -> list[int]:
    """The dimensions that are trained: those of matryoshka_dims, and all."""
    return sorted({*recipe.matryoshka_dims, vectors.shape[1]})
