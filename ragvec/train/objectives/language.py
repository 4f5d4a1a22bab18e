"""What the objectives that predict tokens share: texts read and cut into examples, batches of segments, and the loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ragvec.train.data import Pieces, Text, make_pieces
from ragvec.train.model import Learner
from ragvec.train.objectives.masking import IGNORED
from ragvec.train.objectives.objective import BatchBuilder, ExampleSet, Lesson
from ragvec.train.ranks import weighted
from ragvec.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class LanguageBatch:
    """Segments of text; the state at predict_from[i] (a position in the packed row) predicts the token labels[i]."""

    ids: list[list[int]]
    predict_from: Tensor
    labels: Tensor


def language_loss(learner: Learner, batch: LanguageBatch) -> Tensor:
    """Cross-entropy of the tokens to be predicted; only their positions pass through the head."""
    hidden, send = learner.hidden(batch.ids), learner.send
    loss = learner.predict_loss(hidden[send(batch.predict_from)], send(batch.labels))
    return weighted(loss, len(batch.labels))


def language_examples(
    recipe: Recipe,
    learner: Learner,
    batches: Callable[[Pieces], BatchBuilder[LanguageBatch]],
    *,
    taught: Callable[[np.ndarray], np.ndarray],
) -> Callable[[Sequence[Text]], ExampleSet[LanguageBatch]]:
    """How texts become examples for language modelling.

    batches  how an objective makes batches of the pieces; taught: which of some tokens it may ask for, a bool for each
    """

    def examples(texts: Sequence[Text]) -> ExampleSet[LanguageBatch]:
        pieces = make_pieces(
            learner.tokenizer, [one.text for one in texts], max_length=recipe.max_seq_length,
            cross_document=recipe.cross_document, line_by_line=recipe.line_by_line,
        )  # fmt: skip
        groups = np.zeros(len(pieces.lengths), dtype=int)
        return ExampleSet(batches(pieces), pieces.lengths, groups, lesson=_lesson(pieces, taught))

    return examples


def _lesson(pieces: Pieces, taught: Callable[[np.ndarray], np.ndarray]) -> Lesson:
    def found(rows: Sequence[int]) -> bool:
        return any(taught(segment[1:]).any() for row in rows for segment in pieces.segments_of(row))

    return Lesson(found, "a token to predict", "texts need words after their first token: check train_file and text_field")


def segments_of(pieces: Pieces, rows: list[int]) -> list[np.ndarray]:
    """The segments of some examples, equal lengths side by side so that attention computes them in one call."""
    return sorted((segment for row in rows for segment in pieces.segments_of(row)), key=len)


def firsts(segments: list[np.ndarray]) -> Tensor:
    """Where each segment begins in the packed row."""
    lengths = torch.tensor([len(segment) for segment in segments])
    return lengths.cumsum(0) - lengths


def language_batch(segments: list[np.ndarray], ids: Tensor, labels: Tensor) -> LanguageBatch:
    """The batch of segments whose tokens, as the model sees them, are ids (tokens,); labels (tokens,), −100 = none.

    Segments [5, 6, 7] and [8, 9] with labels [−100, 6, 7, −100, 9] lie end to end as tokens 0 to 4. Token 1 is predicted from
    the state of token 0, token 2 from 1, token 4 from 3: predict_from is [0, 1, 3], labels are [6, 7, 9]. Three states of five
    pass through the head, and attention, which runs per segment, lets no state see the other segment.
    """
    chosen = (labels != IGNORED).nonzero()[:, 0]
    flat, edges = ids.tolist(), np.cumsum([0, *map(len, segments)])
    texts = [flat[begin:end] for begin, end in zip(edges[:-1], edges[1:], strict=True)]
    return LanguageBatch(texts, chosen - 1, labels[chosen])
