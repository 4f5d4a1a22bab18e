"""Padding-free batches: texts lie end to end in one row, and attention runs inside each text alone.

`packed_inputs` makes the row, `use_packed_attention` teaches a transformers model to read it. On CUDA in half precision the
work is one call of torch's variable-length flash attention (`ragvec.encoder.kernel`); elsewhere, and on GPUs for what the
kernel can't (capped logits, heads wider than 256, training with sinks), one call per run of texts of equal length.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as apply_dropout
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from ragvec.encoder.attention_gradient import attend, pays
from ragvec.encoder.kernel import flash, takes
from ragvec.errors import RagvecError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PACKED = "ragvec_packed"
States = tuple[Tensor, Tensor, Tensor]  # queries, keys, values


@dataclass(frozen=True)
class Layout:
    """Where each text lies in a packed row: lengths in tokens, offsets (n + 1,) int32 on the model's device."""

    lengths: tuple[int, ...]
    offsets: Tensor

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(self.lengths)

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """Neighbouring texts of equal length, as (texts, tokens per text)."""
        return [(sum(1 for _ in texts), length) for length, texts in groupby(self.lengths)]


def packed_inputs(ids: Sequence[Sequence[int]], send: Callable[[Tensor], Tensor] | None = None) -> dict[str, Any]:
    """Lay texts end to end for a model prepared by use_packed_attention: `model(**packed_inputs(ids))`.

    ids      token ids of n texts, none empty
    send     brings a tensor to the model's device; None = it computes on the CPU
    returns  input_ids and position_ids (1, tokens), positions starting anew in each text; layout; use_cache=False

    Of [5, 6, 7] and [8, 9] the one row is [5, 6, 7, 8, 9] at the positions [0, 1, 2, 0, 1], with borders [0, 3, 5]. Padded,
    the two would be 6 tokens, one for nothing; 64 texts of 160 tokens on average and 400 at most are 10,240 tokens, not 25,600.
    """
    lengths = tuple(map(len, ids))
    assert lengths and min(lengths) > 0, "a packed batch holds at least one text, and each at least one token"
    sizes = np.array(lengths)
    ends = sizes.cumsum()
    flat = np.fromiter(chain.from_iterable(ids), np.int64, int(ends[-1]))
    positions = np.arange(ends[-1]) - (ends - sizes).repeat(sizes)
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    tokens, places, borders = (torch.from_numpy(numbers) for numbers in (flat, positions, offsets))
    if send is not None:
        tokens, places, borders = send(tokens), send(places), send(borders)
    return {"input_ids": tokens[None], "position_ids": places[None], "layout": Layout(lengths, borders), "use_cache": False}


def use_packed_attention(model: "PreTrainedModel") -> None:
    """Make a transformers model compute attention per text of a packed row, in place.

    Whether a token sees its right-hand neighbours follows the module's is_causal flag (ragvec.encoder.bidirectional).
    Raises RagvecError if the architecture does not go through transformers' attention interface.
    """
    if PACKED not in AttentionInterface():  # compile_layers may have put its own there
        AttentionInterface.register(PACKED, packed_attention)
    model.set_attn_implementation(PACKED)
    if model.config._attn_implementation != PACKED:
        raise RagvecError(f"{model.config.model_type} does not use transformers' attention interface: batches must be padded")


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    layout: Layout | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each text of one packed row; the function registered with transformers' AttentionInterface.

    query    (1, heads, tokens, dim); key, value (1, key-value heads, tokens, dim)
    s_aux    attention sinks, a logit per head (GPT-OSS); softcap: Gemma 2's tanh cap on the logits
    returns  (1, tokens, heads, dim) and None for the attention weights
    """
    if layout is None:
        raise RagvecError(f"{type(module).__name__} was not given the layout of packed_inputs(…): batches must be padded")
    query, key, value = _of_one_dtype(query, key, value)
    causal = bool(getattr(module, "is_causal", True))
    sliding_window = _reach(module, causal, sliding_window)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if softcap is None and takes(query, value, dropout) and (s_aux is None or not _is_trained(dropout, query, s_aux)):
        out = flash(
            query[0], key[0], value[0], layout.offsets,
            longest=layout.longest, scaling=scaling, window=_window(causal, sliding_window), dropout=dropout, sinks=s_aux,
        )  # fmt: skip
        return out[None], None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # SDPA's own enable_gqa leaves the CPU's flash kernel
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    pieces = []
    runs = layout.runs
    for (texts, length), run in zip(runs, _split_runs((query, key, value), runs), strict=True):
        if softcap is not None or s_aux is not None:
            allowed = _allowed(length, causal, sliding_window, query.device)
            out = _explicit(*run, allowed, scaling=scaling, dropout=dropout, softcap=softcap, sinks=s_aux)
        elif _reaches_all(length, causal, sliding_window):
            if pays(query, length, causal=causal, dropout=dropout):
                out = attend(*run, scaling)
            else:
                out = scaled_dot_product_attention(*run, dropout_p=dropout, is_causal=causal, scale=scaling)
        else:
            allowed = _allowed(length, causal, sliding_window, query.device)
            out = scaled_dot_product_attention(*run, attn_mask=allowed, dropout_p=dropout, scale=scaling)
        pieces.append(out.transpose(1, 2).reshape(texts * length, *out.shape[1::2]))
    return torch.cat(pieces)[None], None


def _split_runs(states: States, runs: Sequence[tuple[int, int]]) -> Iterator[States]:
    """Views (texts, heads, length, dim) of each run, out of each of the states, (1, heads, tokens, dim).

    Split in one operation: the gradient of a slice has the size of the whole, and there may be hundreds of runs.
    """
    sizes = [texts * length for texts, length in runs]
    queries, keys, values = (whole.squeeze(0).split(sizes, dim=1) for whole in states)
    for run, *pieces in zip(runs, queries, keys, values, strict=True):
        query, key, value = (piece.unflatten(1, run).transpose(0, 1) for piece in pieces)
        yield query, key, value


def _reach(module: nn.Module, causal: bool, window: int | None) -> int | None:
    """The window as `_allowed` counts it.

    What is bidirectional by its architecture (ModernBERT, EmbeddingGemma) counts the token itself, as flash kernels do; what
    was made so by the configuration's flag does not, and transformers' masks go as far to either side.
    """
    by_flag = getattr(getattr(module, "config", None), "is_causal", None) is False
    return window if window is None or causal or by_flag else window - 1


def _reaches_all(length: int, causal: bool, window: int | None) -> bool:
    return window is None or length <= (window if causal else window + 1)


def _allowed(length: int, causal: bool, window: int | None, device: torch.device) -> Tensor:
    """Which key (column) a query (row) may attend to, (length, length) bool.

    As in transformers: a causal token sees `window` tokens including itself, a bidirectional one `window` to either side.
    """
    where = torch.arange(length, device=device)
    ahead = where[None, :] - where[:, None]
    reach = length if window is None else window
    return (ahead <= 0) & (ahead > -reach) if causal else ahead.abs() <= reach


def _explicit(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allowed: Tensor,
    *,
    scaling: float,
    dropout: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention written out, for what SDPA has no argument for: capped logits and sinks."""
    logits = (query @ key.transpose(-1, -2)).float() * scaling
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    logits = logits.masked_fill(~allowed, float("-inf"))
    if sinks is not None:
        sink = sinks.float().reshape(1, -1, 1, 1).expand(*logits.shape[:3], 1)
        weights = torch.cat([logits, sink], dim=-1).softmax(-1)[..., :-1]
    else:
        weights = logits.softmax(-1)
    return apply_dropout(weights.to(query.dtype), dropout, dropout > 0) @ value


def _of_one_dtype(query: Tensor, key: Tensor, value: Tensor) -> States:
    """The states in the precision of products: rotary embeddings and norms in float32 widen queries and keys."""
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
    return query.to(dtype), key.to(dtype), value.to(dtype)


def _is_trained(dropout: float, *states: Tensor) -> bool:
    return dropout > 0 or (torch.is_grad_enabled() and any(whole.requires_grad for whole in states))


def _window(causal: bool, sliding_window: int | None) -> tuple[int, int]:
    """The (left, right) window of torch's variable-length attention; -1 = unlimited."""
    if causal:
        return (-1 if sliding_window is None else sliding_window - 1, 0)
    return (-1, -1) if sliding_window is None else (sliding_window, sliding_window)
