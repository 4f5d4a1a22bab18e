"""GGUF files as llama.cpp's converter writes them, made on the spot by the package gguf, and the folders they are of."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from tests.tiny import make_tokenizer, save_tiny_decoder

_ATTENTION = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
              "q_norm": "attn_q_norm", "k_norm": "attn_k_norm"}  # fmt: skip
_MLP = {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def save_pair(folder: Path, kind: str = "llama", *, added: dict[str, Any] | None = None, drop: str = "", **sizes: Any) -> Path:
    """A decoder's folder, and the GGUF file of the same weights, which is returned; added: further keys of the file."""
    save_tiny_decoder(folder, kind, **{"vocab_size": 384, "tie_word_embeddings": True, **sizes})
    return write_gguf(folder, folder.with_suffix(".gguf"), added=added, drop=drop)


def write_gguf(folder: Path, path: Path, *, added: dict[str, Any] | None = None, drop: str = "") -> Path:
    from safetensors.torch import load_file
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    kind = config.model_type
    writer = gguf.GGUFWriter(path, kind)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    _add_tokenizer(writer, kind if kind == "qwen2" else "default")
    for key, value in (added or {}).items():
        add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32, bool: writer.add_bool}[type(value)]
        add(key, value)
    for name, weight in load_file(folder / "model.safetensors").items():
        if "q_proj" in name and kind == "llama":
            weight = _permuted(weight, config.num_attention_heads)
        elif "k_proj" in name and kind == "llama":
            weight = _permuted(weight, config.num_key_value_heads)
        if (called := _name(name)) != drop:
            writer.add_tensor(called, weight.numpy())
    if config.rope_parameters["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", _divisors(config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _name(name: str) -> str:
    """A weight's name in transformers as llama.cpp has it."""
    parts = name.removeprefix("model.").split(".")
    if parts[0] != "layers":
        return {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[parts[0]] + f".{parts[-1]}"
    return f"blk.{parts[1]}.{(_ATTENTION | _MLP | _NORMS)[parts[-2]]}.{parts[-1]}"


def _permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp turns neighbouring values of a head, transformers those half a head apart."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).transpose(1, 2).reshape(weight.shape)


def _divisors(config: Any) -> np.ndarray:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    told = config.rope_parameters
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = told["rope_theta"] ** -(torch.arange(len(scaled)) / len(scaled))
    return (plain / scaled).float().numpy()


def _add_tokenizer(writer: gguf.GGUFWriter, splits: str) -> None:
    backend = make_tokenizer().backend_tokenizer
    vocabulary = sorted(backend.get_vocab().items(), key=lambda pair: pair[1])
    merges = json.loads(backend.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splits)
    tokens = [token for token, _ in vocabulary]
    tokens += [f"[PAD{number}]" for number in range(len(tokens), 384)]
    writer.add_token_list(tokens)
    special = gguf.TokenType.CONTROL
    writer.add_token_types([special if token in ("<unk>", "<s>", "</s>") else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
