"""Does a model really attend in both directions, and do padding and packing leave its vectors alone?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ragvec.encoder.attention import PACKED, use_packed_attention
from ragvec.encoder.forward import hidden_states
from ragvec.errors import RagvecError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Largest deviation allowed between packed and padded states, as a share of the largest state.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 5e-3}
_LENGTHS = (3, 7, 3, 11, 1)
_LONGEST_TEXT = _LENGTHS.index(max(_LENGTHS))
_LONGEST = 600  # tokens of a text made up to be longer than a layer's window; wider windows are believed


@dataclass(frozen=True, slots=True)
class Probe:
    """What a model did on a few made-up texts.

    moved          how far the last of eleven tokens moved an earlier state, as a share of that state: nothing at all where
                   attention is causal. Not the first state alone: that of a pretrained decoder hardly heeds what follows
    padding_error  how far padding moved a state, as a share of the largest; where batches are packed nothing is padded, and in
                   bfloat16 a decoder of many layers may amplify its rounding
    packing_error  how far packed batches are from single texts; None where the architecture can't be packed, with the reason
    """

    moved: float
    padding_error: float
    packing_error: float | None
    packing_refusal: str = ""
    tolerance: float = 0.0

    @property
    def bidirectional(self) -> bool:
        return self.moved > 1e-4

    @property
    def packs(self) -> bool:
        return self.packing_error is not None and self.packing_error <= self.tolerance


@torch.inference_mode()
def probe(model: "PreTrainedModel", vocabulary: int, device: torch.device) -> Probe:
    """Run a model on texts of made-up tokens; leaves it prepared for packed batches if they work, else for padded ones."""
    lengths = (*_LENGTHS, *_beyond_window(model.config.get_text_config()))
    texts = [[(7 * row + 3 * place + 5) % vocabulary for place in range(length)] for row, length in enumerate(lengths)]
    stock = _use_stock_attention(model)
    alone = torch.cat([hidden_states(model, [text], device, packed=False) for text in texts]).float()
    scale = alone.abs().max().clamp(min=1e-12)
    longest = texts[_LONGEST_TEXT]
    changed = hidden_states(model, [[*longest[:-1], (longest[-1] + 1) % vocabulary]], device, packed=False).float()[:-1]
    before = hidden_states(model, [longest], device, packed=False).float()[:-1]
    padded = hidden_states(model, texts, device, packed=False).float()
    tolerance = _TOLERANCE[next(model.parameters()).dtype]
    moved = ((changed - before).abs().amax(dim=1) / before.abs().amax(dim=1).clamp(min=1e-12)).max().item()
    padding_error = ((padded - alone).abs().max() / scale).item()
    try:
        use_packed_attention(model)
        packing_error = ((hidden_states(model, texts, device, packed=True).float() - alone).abs().max() / scale).item()
        refusal = "" if packing_error <= tolerance else f"packed batches deviate by {packing_error:.1e}"
    except (RagvecError, RuntimeError, TypeError, ValueError) as error:
        packing_error, refusal = None, str(error)
    if refusal:
        model.set_attn_implementation(stock)
    return Probe(moved, padding_error, packing_error, packing_refusal=refusal, tolerance=tolerance)


def _beyond_window(config: Any) -> list[int]:
    """The length of a text that a sliding window does not reach across, if there is a window and it is short."""
    windows = [getattr(config, name, None) for name in ("sliding_window", "local_attention")]
    positions = getattr(config, "max_position_embeddings", None) or _LONGEST
    lengths = [window + 3 for window in windows if isinstance(window, int)]
    return [length for length in lengths[:1] if length <= min(_LONGEST, positions)]


def _use_stock_attention(model: "PreTrainedModel") -> str:
    """Give a packed model its own attention back; returns that one's name.

    For capped logits (Gemma 2) that is the written-out one: transformers up to 5.17 offers SDPA too, which leaves the cap out.
    """
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None:
        model.set_attn_implementation("eager")
    elif model.config._attn_implementation == PACKED:
        try:
            model.set_attn_implementation("sdpa")
        except ValueError:  # an architecture without SDPA support
            model.set_attn_implementation("eager")
    name: str = model.config._attn_implementation
    return name
