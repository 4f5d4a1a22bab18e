"""Token states of texts of mixed lengths: packed end to end, or, where a model can't, padded."""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor

from ragvec.encoder.attention import packed_inputs


def hidden_states(model, ids: Sequence[Sequence[int]], device: torch.device, *, packed: bool) -> Tensor:
    """The last hidden states of n texts, lying end to end without padding.

    ids      token ids, none empty
    packed   the model was prepared by use_packed_attention
    returns  (tokens, dim) in the model's dtype; tokens = all texts' lengths added up
    """
    if packed:
        tokens = sum(len(text) for text in ids)
        spare = row_length(tokens) - tokens if device.type == "cpu" and model.dtype is torch.bfloat16 else 0
        row = [*ids, [ids[0][0]] * spare] if spare else ids
        return model(**packed_inputs(row, device)).last_hidden_state[0, :tokens]
    longest = max(len(text) for text in ids)
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in ids], device=device)
    # padding stands right of the text and is masked: which token it is does not matter
    padded = torch.tensor([[*text, *[text[-1]] * (longest - len(text))] for text in ids], device=device)
    inputs = {"input_ids": padded, "attention_mask": mask}
    accepted = inspect.signature(_unwrapped(model).forward).parameters
    if "position_ids" in accepted:
        inputs["position_ids"] = torch.arange(longest, device=device).expand(len(ids), -1)
    if "use_cache" in accepted:
        inputs["use_cache"] = False
    return model(**inputs).last_hidden_state[mask.bool()]


def row_length(tokens: int) -> int:
    """The length that a packed row is filled up to, where kernels are compiled for each length: at most an eighth more.

    oneDNN makes, and keeps, machine code for every length of a bfloat16 product that it has not seen: as long as encoding 20
    short queries takes, and 3 MB. A server would see thousands of lengths.
    """
    step = 1 << max(tokens.bit_length() - 4, 3)
    return -(-tokens // step) * step


def _unwrapped(model):
    return model.get_base_model() if hasattr(model, "get_base_model") else model
