"""Causal language modelling: a decoder learns to predict each next token, and stays a decoder."""

from functools import partial

import numpy as np
import torch

from ragvec.train.data import Pieces, read_texts, reading_of
from ragvec.train.model import Learner, load_language_model
from ragvec.train.objectives.language import (
    LanguageBatch,
    firsts,
    language_batch,
    language_examples,
    language_loss,
    segments_of,
)
from ragvec.train.objectives.masking import IGNORED
from ragvec.train.objectives.objective import BatchBuilder, Objective, Teaching
from ragvec.train.recipe import Recipe


def teach(recipe: Recipe, learner: Learner) -> Teaching:
    """Every token of every text is predicted from those before it."""
    reading = reading_of(recipe)
    examples = language_examples(recipe, learner, causal_batch, taught=lambda tokens: np.ones(len(tokens), dtype=bool))
    return Teaching(partial(read_texts, recipe, reading=reading), examples, language_loss, reading)


def causal_batch(pieces: Pieces) -> BatchBuilder[LanguageBatch]:
    """Batches for causal language modelling: every token of a segment but the first is predicted."""

    def build(rows: list[int], _: torch.Generator) -> LanguageBatch:
        segments = segments_of(pieces, rows)
        flat = torch.from_numpy(np.concatenate(segments)).long()
        predicted = torch.ones(len(flat), dtype=torch.bool)
        predicted[firsts(segments)] = False
        return language_batch(segments, flat, torch.where(predicted, flat, IGNORED))

    return build


CLM = Objective(
    load=partial(load_language_model, causal=True),
    teach=teach,
    describe=lambda recipe: "causal language modelling",
    trains_head=lambda recipe: True,
    makes_decoder=True,
)
