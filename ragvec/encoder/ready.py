"""A loaded model made ready to encode: settings that only it can tell, the direction of attention, packed batches."""

import logging
import os
import shutil
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import AttentionInterface

from ragvec.encoder.attention import PACKED, packed_attention, use_packed_attention
from ragvec.encoder.bidirectional import make_bidirectional, make_causal, reads_both_ways
from ragvec.encoder.forward import first_position
from ragvec.encoder.pooling import check_pooling
from ragvec.encoder.probe import Probe, probe
from ragvec.encoder.settings import EncoderSettings
from ragvec.encoder.templates import Template, find_template
from ragvec.errors import WrongInput

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def complete(settings: EncoderSettings, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> EncoderSettings:
    """Fill in what only the loaded model can tell: the template, and how long a text its positions allow."""
    check_pooling(settings.pooling)
    config = model.config.get_text_config()
    if settings.template is None:
        plain = settings.attention == "unchanged"  # sentence-transformers folders carry no template
        settings = replace(
            settings, template=Template() if plain else find_template(settings.base_model, config.model_type, tokenizer)
        )
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        positions -= first_position(model)
    if positions and settings.max_length > positions:
        settings = replace(settings, max_length=positions, doc_max_length=min(settings.doc_max_length, positions))
    return settings


def prepare_attention(model: "PreTrainedModel", settings: EncoderSettings) -> EncoderSettings:
    """Set the direction of attention, then packed batches if the checkpoint or a probe says they work."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    if settings.attention == "bidirectional":
        make_bidirectional(bare)
    elif settings.attention == "causal":
        make_causal(bare)
    elif reads_both_ways(bare.config):
        make_bidirectional(bare)
    if settings.packed is None:
        return replace(settings, packed=probe_model(bare).packs)
    if settings.packed:
        use_packed_attention(bare)
    return settings


def probe_model(model: "PreTrainedModel") -> Probe:
    """Probe a model where it is; warns if its batches must be padded."""
    result = probe(model, model.config.get_text_config().vocab_size, model.device)
    if not result.packs:
        logging.getLogger("ragvec").warning("texts are padded, not packed, with this model: %s", result.packing_refusal)
    return result


def compile_layers(model: "PreTrainedModel", packed: bool) -> None:
    """Compile each layer for any number of tokens, in place; packed attention stays as it is, since its shapes never repeat.

    Nothing is compiled before the first batch. Raises RagvecError where `compile_refusal` says why.
    """
    if refusal := compile_refusal(model, packed):
        raise WrongInput(refusal)
    AttentionInterface.register(PACKED, torch.compiler.disable(packed_attention))
    for layer in _layers(model):
        layer.compile(dynamic=True)


def compile_refusal(model: "PreTrainedModel", packed: bool) -> str:
    """Why a model's layers can't be compiled here, and what to do; "" where they can."""
    kind = model.device.type
    if not len(_layers(model)) or not packed:
        return "compiling needs a model with a list of layers whose batches can be packed: leave it out"
    if kind == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        return "compiling for the CPU needs a C++ compiler, and none is found: install g++, or leave it out"
    if kind == "cuda" and find_spec("triton") is None:
        return "compiling for a GPU needs Triton, and it is not installed: pip install triton, or leave it out"
    if kind == "cuda" and not any(map(shutil.which, (os.environ.get("CC", "gcc"), "clang"))):
        return "compiling for a GPU needs a C compiler, and none is found: install gcc, or leave it out"
    return ""


def _layers(model: "PreTrainedModel") -> nn.ModuleList:
    """A model's layers; none where it has no list of them."""
    lists = (part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part))
    return next(lists, nn.ModuleList())
