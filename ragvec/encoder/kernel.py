"""One call of torch's variable-length flash attention for all texts of a packed row, where a GPU can.

`aten._flash_attention_forward` is asked, not `torch.nn.attention.varlen.varlen_attn`, which calls it: it takes grouped heads
in the same way in torch 2.11, 2.12 and 2.13, it has dropout, and it gives the sums of the softmax, that sinks need.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

_MOST_WIDTH = 256
_WIDTH_STEP = 8
_SMALL_WIDTH, _LARGE_WIDTH = 192, 224  # small GPUs have gradients up to the one, and beyond the other without dropout
_AMPERE = (8, 0)
_ASKED = {"dropout_p", "is_causal", "scale", "window_size_left", "window_size_right"}


def takes(query: Tensor, value: Tensor, dropout: float = 0.0) -> bool:
    """Whether the kernel computes attention of these states, (…, dim): a GPU from Ampere on, half precision, dim ≤ 256.

    Gradients of wide heads need more memory within a multiprocessor than some GPUs have.
    """
    if not query.is_cuda or query.dtype not in (torch.bfloat16, torch.float16):
        return False
    width = _filled_up(query.shape[-1], value.shape[-1])
    if width > _MOST_WIDTH or not has_flash(query.device) or not _is_complete():
        return False
    if torch.is_grad_enabled() and query.requires_grad and _is_small(query.device):
        return width <= _SMALL_WIDTH or (width > _LARGE_WIDTH and not dropout)
    return True


@cache
def has_flash(device: torch.device) -> bool:
    """Whether a GPU is of the generation that flash attention was written for (Ampere), or later."""
    return torch.cuda.get_device_capability(device) >= _AMPERE


def _is_small(device: torch.device) -> bool:
    """Whether a GPU's multiprocessors have less shared memory (RTX, A10, L4, L40): torch's own attention asks the same."""
    capability = torch.cuda.get_device_capability(device)
    return (8, 6) <= capability <= (8, 9) or capability[0] == 12


def flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    *,
    longest: int,
    scaling: float,
    window: tuple[int, int] = (-1, -1),
    dropout: float = 0.0,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attention within each text of a packed row.

    query    (heads, tokens, dim); key, value (key-value heads, tokens, dim), in the same half precision
    offsets  (texts + 1,) int32; longest: tokens of the longest text
    window   how many tokens are seen to the left and right besides itself, -1 = all
    sinks    a logit per head; their gradient is not computed
    returns  (tokens, heads, dim of value)
    """
    width = value.shape[-1]
    rows = _rows(query, key, value)
    causal = window == (-1, 0)
    out: Tensor
    sums: Tensor
    out, sums, *_ = _kernel()(
        *rows, offsets, offsets, longest, longest, dropout, causal, False,
        scale=scaling, window_size_left=window[0], window_size_right=window[1],
    )  # fmt: skip
    if sinks is not None:  # a sink takes its share of the softmax, and gives nothing
        out = out * torch.sigmoid(sums.transpose(0, 1) - sinks.float()).to(out.dtype)[..., None]
    return out[..., :width]


def _filled_up(*widths: int) -> int:
    return -(-max(widths) // _WIDTH_STEP) * _WIDTH_STEP


def _rows(*states: Tensor) -> list[Tensor]:
    """(tokens, heads, width) each, of one width that the kernel takes; columns of zeros change no product."""
    width = _filled_up(*(whole.shape[-1] for whole in states))
    rows = [whole.transpose(0, 1) for whole in states]
    rows = [pad(row, (0, width - row.shape[-1])) if row.shape[-1] < width else row for row in rows]
    return [row if row.stride(-1) == 1 else row.contiguous() for row in rows]


def _kernel() -> Callable[..., Any]:
    kernel: Callable[..., Any] = torch.ops.aten._flash_attention_forward
    return kernel


@cache
def _is_complete() -> bool:
    """Whether this torch's kernel can be told all that attention here needs."""
    arguments = torch.ops.aten._flash_attention_forward.default._schema.arguments
    return {argument.name for argument in arguments} >= _ASKED
