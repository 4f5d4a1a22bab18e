"""GGUF files, llama.cpp's, Ollama's and LM Studio's: weights, configuration and tokenizer in one, read by transformers."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ragvec.encoder.door import check_config, foreign
from ragvec.encoder.gguf_head import Head, read_head
from ragvec.encoder.settings import EncoderSettings
from ragvec.errors import Damaged, WrongInput

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_NAME = "model.gguf"
_F32, _F16, _BF16 = 0, 1, 30
_POOLINGS = {1: "mean", 2: "bos_token", 3: "last_token"}  # llama.cpp's numbers
# llama.cpp puts the beginning of a sequence before these tokenizers' texts, also where a file, being old, does not say so
_WITH_BEGIN = ("llama3", "llama-v3", "llama-bpe")
# Gemma 2 and 3 with 27 billion parameters, known by their layers as in llama.cpp, scale attention by another width
_LARGE_GEMMAS = {"gemma2": 46, "gemma3": 62}
# Llama 3.1's: below the first share of the trained length a frequency is divided, above the second it stays
_LOW, _HIGH, _TRAINED = 1.0, 4.0, 8192


def open_gguf(path: Path) -> Head:
    """A file's head, checked. Raises RagvecError where it is damaged, a part of several, or the package gguf is missing."""
    if find_spec("gguf") is None:
        raise WrongInput(f"{path} is a GGUF file, and reading it needs the package gguf: pip install 'ragvec[gguf]'")
    head = read_head(path)
    if not head.tensors:
        raise Damaged(f"{path} holds no weights: take the file with the model")
    if (parts := head.values.get("split.count")) not in (None, 0, 1):
        raise WrongInput(f"{path} is one of {parts} parts: join them with llama-gguf-split, and name the whole file")
    layers = head.told("block_count")
    if layers is not None and not (isinstance(layers, int) and 0 < layers <= len(head.tensors)):
        raise Damaged(f"{path}: {head.architecture}.block_count is {layers}, outside 1 … {len(head.tensors)}, its tensors")
    return head


def gguf_settings(path: Path, name: str) -> EncoderSettings:
    """The settings of a file: a decoder's usual ones, or, where it names a pooling, those of the embedding model that it is."""
    head = open_gguf(path)
    pooling = head.told("pooling_type")
    if pooling in (None, 0):
        return EncoderSettings(base_model=name)
    if pooling not in _POOLINGS:
        raise WrongInput(f"{path} pools by llama.cpp's number {pooling}, a reranker's: choose a model that makes vectors")
    both_ways = head.told("attention.causal") is False
    return EncoderSettings(
        pooling=_POOLINGS[pooling], attention="bidirectional" if both_ways else "unchanged", skip_instruction=False,
        border="prompt", separator="", query_instruction="", base_model=name,
    )  # fmt: skip


def gguf_config(path: Path) -> "PreTrainedConfig":
    """The transformers configuration of a file. Raises RagvecError for an architecture that transformers can't make of one."""
    from transformers import AutoConfig

    head = open_gguf(path)
    with foreign(f"{path} (architecture {head.architecture}) does not load as a transformers model"), _alone(path) as folder:
        config = AutoConfig.from_pretrained(folder, gguf_file=_NAME, local_files_only=True, trust_remote_code=False)
    config.name_or_path = str(path)
    largest = max(int(np.prod(tensor.shape)) for tensor in head.tensors.values())
    check_config(path, config.to_dict(), largest, len(head.tensors))
    _complete(config, head)
    return config


def load_gguf(
    path: Path, *, dtype: "torch.dtype | str", show_progress: bool = False, with_head: bool = False
) -> tuple["PreTrainedModel", dict[str, Any]]:
    """The model of a file, its weights unpacked, and what transformers says of the loading.

    dtype      "auto" = as stored, bfloat16 where that is quantised
    with_head  a language model's head too
    """
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    config = gguf_config(path)
    if dtype == "auto":
        kinds = {tensor.kind for tensor in open_gguf(path).tensors.values()}
        dtype = torch.float32 if kinds == {_F32} else torch.float16 if kinds <= {_F32, _F16} else torch.bfloat16
    bars = nullcontext() if show_progress and sys.stderr.isatty() else redirect_stderr(io.StringIO())
    with foreign(f"{path} ({config.model_type}) does not load as a transformers model"), _alone(path) as folder, bars:
        model, report = (AutoModelForCausalLM if with_head else AutoModel).from_pretrained(
            folder, config=config, gguf_file=_NAME, dtype=dtype, output_loading_info=True, local_files_only=True,
            trust_remote_code=False, **_dequantized(),
        )  # fmt: skip
    model.config.name_or_path = str(path)
    return model, report


def load_gguf_tokenizer(path: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a file. Raises RagvecError if transformers can't make one of it."""
    from transformers import AutoTokenizer

    head = open_gguf(path)
    with foreign(f"{path} holds no tokenizer that loads"), _alone(path) as folder:
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=_NAME, local_files_only=True, trust_remote_code=False)
        told = "tokenizer.ggml.add_bos_token" in head.values
        if not told and head.values.get("tokenizer.ggml.pre") in _WITH_BEGIN and tokenizer.bos_token:
            tokenizer.add_bos_token = True
        tokenizer.name_or_path = str(path)
    return tokenizer


@contextmanager
def _alone(path: Path) -> Iterator[str]:
    """The file by itself in a folder: what lies beside it is no part of it, an adapter or a configuration for one."""
    with TemporaryDirectory() as folder:
        (Path(folder) / _NAME).symlink_to(path.resolve())
        yield folder


def _dequantized() -> dict[str, Any]:
    """What has transformers unpack the weights: where it can keep them as they are, it does so by code that it fetches."""
    import transformers

    kind = getattr(transformers, "GgufConfig", None)
    return {} if kind is None else {"quantization_config": kind(dequantize=True)}


def _complete(config: Any, head: Head) -> None:
    """Tell the configuration what transformers passes over in a file, so that it is the model that llama.cpp runs."""
    kind = head.architecture
    if kind == "llama" and head.told("attention.sliding_window") is None and hasattr(config, "sliding_window"):
        config.sliding_window = None  # a Mistral's, by its name alone
    if kind == "qwen3" and (width := head.told("attention.key_length")):
        config.head_dim = width
    if _LARGE_GEMMAS.get(kind) == config.num_hidden_layers:
        config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads
    if kind == "gpt-oss" or not (scaling := _scaling(head)):  # gpt-oss's is read by transformers
        return
    every = config.rope_parameters
    every.get("full_attention", every).update(scaling)


def _scaling(head: Head) -> dict[str, Any]:
    """How positions are stretched, in transformers' words; nothing where they are not."""
    if any(name.startswith("rope_factors_") for name in head.tensors):
        raise WrongInput(
            f"{head.path} stretches positions by factors of its own (LongRoPE), which are not read here: "
            "choose the model's safetensors, or a file with a shorter context"
        )
    if "rope_freqs.weight" in head.tensors:
        return _llama_3(head)
    kind = head.told("rope.scaling.type")
    factor = head.told("rope.scaling.factor") or head.told("rope.scale_linear")
    if kind in (None, "none") and not factor or factor == 1:
        return {}
    if kind in (None, "linear"):
        return {"rope_type": "linear", "factor": factor}
    trained = head.told("rope.scaling.original_context_length")
    if kind == "yarn" and factor and trained:
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": trained}
    raise WrongInput(f"{head.path} stretches positions by {str(kind)[:40]!r}, which is not read here: choose its safetensors")


def _llama_3(head: Head) -> dict[str, Any]:
    """Llama 3.1's stretching, of which a file holds what each frequency is divided by."""
    tensor = head.tensors["rope_freqs.weight"]
    if tensor.kind != _F32 or len(tensor.shape) != 1:
        raise Damaged(f"{head.path}: rope_freqs.weight is no list of float32: copy it again")
    divisors = np.fromfile(head.path, dtype="<f4", count=tensor.shape[0], offset=tensor.start)
    if (divisors == 1).all():
        return {}
    factor = float(divisors.max())
    base = head.told("rope.freq_base") or 10000.0
    frequencies = base ** -(np.arange(len(divisors)) / len(divisors))
    smooth = np.clip((_TRAINED * frequencies / (2 * np.pi) - _LOW) / (_HIGH - _LOW), 0, 1)
    if not np.allclose(1 / divisors, (1 - smooth) / factor + smooth, rtol=1e-3):
        raise WrongInput(f"{head.path} stretches positions in a way that is not Llama 3's: choose the model's safetensors")
    return {
        "rope_type": "llama3", "factor": factor, "low_freq_factor": _LOW, "high_freq_factor": _HIGH,
        "original_max_position_embeddings": _TRAINED,
    }  # fmt: skip
