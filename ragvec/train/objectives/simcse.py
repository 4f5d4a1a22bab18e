"""SimCSE: an encoder learns from texts alone; a text and itself, told apart by dropout, belong together.

Source: Gao et al., 2021, as LLM2Vec uses it (section 2.2).
"""

from collections.abc import Sequence
from functools import partial

from torch import nn

from ragvec.errors import WrongInput
from ragvec.train.data import Example, read_texts, reading_of
from ragvec.train.model import Learner, config_of, load_encoder
from ragvec.train.objectives.contrastive import contrastive_loss
from ragvec.train.objectives.objective import Objective, Teaching
from ragvec.train.objectives.texts import check_widths, pair_examples
from ragvec.train.recipe import Recipe


def teach(recipe: Recipe, learner: Learner) -> Teaching:
    """Each text is its own positive, every other of the batch a negative.

    Texts are read as documents, unless the recipe names an instruction: then as queries, on both sides where it names none
    for documents.
    """
    check_widths(recipe, learner)
    reading = reading_of(recipe)

    def read(files: Sequence[str]) -> list[Example]:
        lead = learner.settings.document_instruction if recipe.instruction is None else recipe.instruction
        other = lead if recipe.document_instruction is None else recipe.document_instruction
        return [Example(one.text, one.text, (), source="", query_instruction=lead, document_instruction=other)
                for one in read_texts(recipe, files, reading=reading)]  # fmt: skip

    return Teaching(read, partial(pair_examples, recipe, learner), contrastive_loss(recipe), reading)


def adjust(learner: Learner, recipe: Recipe) -> None:
    """Attention drops weights at a rate of its own."""
    set_attention_dropout(learner.backbone, recipe.simcse_dropout)


def set_attention_dropout(backbone: nn.Module, rate: float) -> None:
    """Drop attention weights at a rate while training. Raises RagvecError if the architecture has no such dropout."""
    changed = 0
    for part in backbone.modules():
        own = ("dropout",) if type(part).__name__.endswith("Attention") else ()  # OPT's and BioGPT's
        for name in ("attention_dropout", "attn_dropout", *own):
            value = getattr(part, name, None)
            if isinstance(value, nn.Dropout):
                value.p, changed = rate, changed + 1
            elif isinstance(value, float):
                setattr(part, name, rate)
                changed += 1
    if not changed:
        family = config_of(backbone).model_type
        raise WrongInput(f"{family} has no attention dropout: SimCSE needs it, choose another base model")


SIMCSE = Objective(
    load=load_encoder, teach=teach, describe=lambda recipe: "unsupervised contrastive learning (SimCSE)", adjust=adjust
)
