"""Which tokens are hidden from the model in masked next token prediction, and by what."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ragvec.errors import WrongUsage
from ragvec.train.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BLANK = "_"
NEW_MASK = "<mask>"
IGNORED = -100  # the label of a position that nothing is to be predicted for
_ALTERNATIVES = ("~", "^", "#", "*", "|", "=", "-", ".")


def mask_tokens(ids: Tensor, special: Tensor, *, probability: float, mask_id: int, vocabulary: int, all_mask: bool,
                generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Hide a share of the tokens; draws random numbers in the reference's order, so that equal seeds give equal masks.

    ids         int64, any shape; special: bool of that shape, tokens that are never chosen
    probability the share chosen; all_mask: all of them become mask_id, otherwise 80 % do, 10 % become a random
                token below `vocabulary` and 10 % stay
    returns     ids as the model sees them, and labels: the token where one was chosen, else -100
    Source: transformers' DataCollatorForLanguageModeling and the reference's full-masking variant of it.
    """
    chosen = torch.bernoulli(torch.full(ids.shape, probability).masked_fill(special, 0.0), generator=generator).bool()
    labels = torch.where(chosen, ids, IGNORED)
    if all_mask:
        return torch.where(chosen, mask_id, ids), labels
    replaced = torch.bernoulli(torch.full(ids.shape, 0.8), generator=generator).bool() & chosen
    random = torch.bernoulli(torch.full(ids.shape, 0.5), generator=generator).bool() & chosen & ~replaced
    words = torch.randint(vocabulary, ids.shape, dtype=torch.long, generator=generator)
    return torch.where(random, words, torch.where(replaced, mask_id, ids)), labels


def choose_mask_token(tokenizer: "PreTrainedTokenizerBase", recipe: Recipe) -> int:
    """The id that stands for a hidden token: blank = "_", eos, or mask = one more than the vocabulary has.

    Raises RagvecError if the piece is not one token of the vocabulary, naming one that is.
    """
    if recipe.mask_token_type == "mask" and recipe.mask_token is None:
        return len(tokenizer)
    if recipe.mask_token_type == "eos" and recipe.mask_token is None:
        if tokenizer.eos_token_id is None:
            raise WrongUsage('mask_token_type "eos": the tokenizer has no eos token; use "blank" or "mask"')
        return int(tokenizer.eos_token_id)
    piece = recipe.mask_token or BLANK
    vocabulary = tokenizer.get_vocab()
    if piece not in vocabulary:
        usable = next((one for one in _ALTERNATIVES if one in vocabulary), None)
        instead = f'set "mask_token": "{usable}", which is one, or ' if usable else ""
        raise WrongUsage(
            f'mask token "{piece}" is not one token of this vocabulary: {instead}set "mask_token_type" to eos or mask'
        )
    return int(vocabulary[piece])


def special_tokens(tokenizer: "PreTrainedTokenizerBase", mask_id: int, size: int) -> Tensor:
    """A table (size,) bool of the ids that are never chosen: special tokens, and the mask token itself."""
    table = torch.zeros(size, dtype=torch.bool)
    table[[one for one in (*tokenizer.all_special_ids, mask_id) if one < size]] = True
    return table
