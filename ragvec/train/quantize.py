"""QLoRA: the frozen base in 4 bits (bitsandbytes' nf4), adapters in full precision upon it."""

from importlib.util import find_spec

import torch
from torch import nn

from ragvec.errors import WrongInput, WrongUsage
from ragvec.train.recipe import Recipe


def check_four_bit(recipe: Recipe, *, makes_decoder: bool) -> None:
    """Raise RagvecError if load_in_4bit is asked for where it can't be."""
    if not recipe.load_in_4bit:
        return
    if find_spec("bitsandbytes") is None:
        raise WrongInput("load_in_4bit needs bitsandbytes: pip install bitsandbytes")
    if makes_decoder or not recipe.lora_r or recipe.save_merged or recipe.fsdp:
        raise WrongUsage(
            "load_in_4bit trains adapters upon a base that stays as it is: it needs lora_r above 0, and goes neither with clm "
            "nor with save_merged or fsdp; merge the adapter afterwards with `ragvec convert`"
        )


def to_four_bit(backbone: nn.Module, compute: torch.dtype) -> None:
    """Replace every linear layer of a backbone by one whose weight is held in 4 bits, in place; earlier adapters are merged.

    compute  what a weight is turned back into when it multiplies
    """
    import bitsandbytes

    for name, layer in [(name, part) for name, part in backbone.named_modules() if isinstance(part, nn.Linear)]:
        device = layer.weight.device
        small = bitsandbytes.nn.Linear4bit(
            layer.in_features, layer.out_features, bias=layer.bias is not None, compute_dtype=compute, quant_type="nf4"
        )
        small.weight = bitsandbytes.nn.Params4bit(
            layer.weight.detach().to("cpu"), requires_grad=False, quant_type="nf4", module=small
        )
        if layer.bias is not None:
            small.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)
        backbone.set_submodule(name, small.to(device))  # moving it is what packs the weight
    backbone.is_loaded_in_4bit = True  # type: ignore[assignment]  # peft then puts its adapters upon such layers
