"""Masked next token prediction: a decoder with attention in both directions predicts hidden tokens from the states before them.

Source: LLM2Vec (BehnamGhader et al., 2024), section 2.2.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from ragvec.train.data import Pieces, read_texts, reading_of
from ragvec.train.model import Learner, add_embedding_row, embedding_of, load_language_model
from ragvec.train.objectives.language import (
    LanguageBatch,
    firsts,
    language_batch,
    language_examples,
    language_loss,
    segments_of,
)
from ragvec.train.objectives.masking import IGNORED, choose_mask_token, mask_tokens, special_tokens
from ragvec.train.objectives.objective import BatchBuilder, Objective, Teaching
from ragvec.train.recipe import Recipe


def load(recipe: Recipe, device: torch.device, dtype: torch.dtype) -> Learner:
    """The decoder, made bidirectional unless the recipe keeps it causal."""
    return load_language_model(recipe, device, dtype, causal=recipe.bidirectional is False)


def teach(recipe: Recipe, learner: Learner) -> Teaching:
    """A share of the tokens is hidden and predicted; a mask token that the vocabulary lacks is added to the model."""
    mask_id = choose_mask_token(learner.tokenizer, recipe)
    embeddings = embedding_of(learner.backbone).num_embeddings
    if mask_id >= embeddings:
        add_embedding_row(learner.language_model, mask_id)
    vocabulary = max(len(learner.tokenizer), mask_id + 1)
    special = special_tokens(learner.tokenizer, mask_id, max(embeddings, vocabulary))

    def batches(pieces: Pieces) -> BatchBuilder[LanguageBatch]:
        return masked_batch(pieces, recipe, mask_id=mask_id, special=special, vocabulary=vocabulary)

    reading, never = reading_of(recipe), special.numpy()
    examples = language_examples(recipe, learner, batches, taught=lambda tokens: ~never[tokens])
    return Teaching(partial(read_texts, recipe, reading=reading), examples, language_loss, reading)


def masked_batch(
    pieces: Pieces, recipe: Recipe, *, mask_id: int, special: Tensor, vocabulary: int
) -> BatchBuilder[LanguageBatch]:
    """Batches for masked next token prediction: the state before a chosen token predicts it.

    special  (vocabulary or more,) bool table of the ids that are never chosen
    """

    def build(rows: list[int], generator: torch.Generator) -> LanguageBatch:
        segments = segments_of(pieces, rows)
        flat = torch.from_numpy(np.concatenate(segments)).long()
        ids, labels = mask_tokens(
            flat, special[flat], probability=recipe.mlm_probability, mask_id=mask_id, vocabulary=vocabulary,
            all_mask=recipe.data_collator_type == "all_mask", generator=generator,
        )  # fmt: skip
        labels[firsts(segments)] = IGNORED  # nothing of its own text stands before a first token
        return language_batch(segments, ids, labels)

    return build


MNTP = Objective(
    load=load,
    teach=teach,
    describe=lambda recipe: "masked next token prediction with bidirectional attention",
    trains_head=lambda recipe: recipe.train_lm_head,
)
