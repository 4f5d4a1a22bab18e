"""Token states of texts of mixed lengths: packed end to end, or, where a model can't, padded."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ragvec.encoder.attention import Layout, packed_inputs
from ragvec.encoder.device import device_of
from ragvec.errors import Damaged

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Move = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts laid out for one forward pass.

    inputs   the model's keyword arguments
    real     which of its states, all rows end to end, belong to the texts: the first so many, or those at these places
    """

    inputs: dict[str, Any]
    real: int | Tensor

    def moved(self, move: Move) -> "Rows":
        """These texts with every tensor where `move` brings it, such as onto another device."""
        return Rows({name: _moved(value, move) for name, value in self.inputs.items()}, _moved(self.real, move))


def hidden_states(model: "PreTrainedModel", ids: Sequence[Sequence[int]], device: torch.device, *, packed: bool) -> Tensor:
    """The last hidden states of n texts, lying end to end without padding.

    ids      token ids, none empty
    packed   the model was prepared by use_packed_attention
    returns  (tokens, dim) in the model's dtype; tokens = all texts' lengths added up
    """
    return states_of(model, lay_out(model, ids, packed=packed).moved(device_of(device).send))


def lay_out(model: "PreTrainedModel", ids: Sequence[Sequence[int]], *, packed: bool) -> Rows:
    """Texts as a model reads them, on the host."""
    if packed:
        tokens = sum(map(len, ids))
        spare = row_length(tokens) - tokens if model.device.type == "cpu" and model.dtype is torch.bfloat16 else 0
        packed_row = packed_inputs([*ids, [ids[0][0]] * spare] if spare else ids)
        if first := first_position(model):
            packed_row["position_ids"] += first
        return Rows(packed_row, tokens)
    lengths = np.array([len(text) for text in ids])
    longest = int(lengths.max())
    mask = torch.from_numpy(np.arange(longest) < lengths[:, None])
    # padding stands right of the text and is masked: which token it is does not matter
    padded = torch.tensor([[*text, *[text[-1]] * (longest - len(text))] for text in ids])
    inputs: dict[str, Any] = {"input_ids": padded, "attention_mask": mask.long()}
    accepted = inspect.signature(_unwrapped(model).forward).parameters
    if "position_ids" in accepted:
        inputs["position_ids"] = (torch.arange(longest) + first_position(model)).repeat(len(ids), 1)
    if "use_cache" in accepted:
        inputs["use_cache"] = False
    return Rows(inputs, mask.flatten().nonzero().flatten())  # places: a mask would have to be counted, and waited for


def first_position(model: "PreTrainedModel") -> int:
    """The number of a text's first position: RoBERTa's family (XLM-R, MPNet) counts from behind its padding's."""
    embeddings = getattr(_unwrapped(model), "embeddings", None)
    padding, table = getattr(embeddings, "padding_idx", None), getattr(embeddings, "position_embeddings", None)
    return padding + 1 if isinstance(padding, int) and isinstance(table, torch.nn.Embedding) else 0


def states_of(model: "PreTrainedModel", rows: Rows) -> Tensor:
    """The last hidden states (tokens, dim) of texts laid out on the model's device.

    Raises Damaged for a token that the model does not know (on a CPU; on a GPU it is an error of the device).
    """
    try:
        states: Tensor = model(**rows.inputs).last_hidden_state.flatten(0, 1)
    except IndexError as error:
        raise Damaged("a token's id is beyond the model's vocabulary: its tokenizer belongs to another model") from error
    return states[: rows.real] if isinstance(rows.real, int) else states[rows.real]


def row_length(tokens: int) -> int:
    """The length that a packed row is filled up to, where kernels are compiled for each length: at most an eighth more.

    oneDNN makes, and keeps, machine code for every length of a bfloat16 product that it has not seen: as long as encoding 20
    short queries takes, and 3 MB. A server would see thousands of lengths.
    """
    step = 1 << max(tokens.bit_length() - 4, 3)
    return -(-tokens // step) * step


def _moved(value: Any, move: Move) -> Any:
    if isinstance(value, Layout):
        return replace(value, offsets=move(value.offsets))
    return move(value) if isinstance(value, Tensor) else value


def _unwrapped(model: "PreTrainedModel") -> "PreTrainedModel":
    return model.get_base_model() if hasattr(model, "get_base_model") else model
