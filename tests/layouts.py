"""Model folders as users have them, tiny and made on the spot: their JSON by hand, as on the hub, their weights by name."""

import json
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.tiny import make_tokenizer

WIDTH = 32
LONG = "The quick brown fox jumps over the lazy dog. " * 30  # longer than a window, shorter than any limit but those told
_MODEL = dict(
    vocab_size=512, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, bos_token_id=1,
    eos_token_id=2, max_position_embeddings=640,
)  # fmt: skip
_GEMMA = dict(num_key_value_heads=1, head_dim=8, use_bidirectional_attention=True, sliding_window=16, num_hidden_layers=6)
SEARCH = {"query": "search_query: ", "document": "search_document: "}
# name → the model's type and sizes, and what stands beside it
LAYOUTS: dict[str, dict[str, Any]] = {
    "qwen3-embedding": dict(
        kind="qwen3", sizes=dict(num_key_value_heads=2, head_dim=8), pooling={"pooling_mode_lasttoken": True},
        prompts={"query": "Instruct: Given a web search query\nQuery:", "document": ""}, end="</s>",
    ),
    "embeddinggemma": dict(
        kind="gemma3_text", sizes=_GEMMA, pooling={"pooling_mode": "mean"}, dense=(64, WIDTH),
        prompts={"query": "task: search result | query: ", "document": "title: none | text: "},
    ),
    "nomic": dict(kind="bert", pooling={"pooling_mode_mean_tokens": True}, prompts=SEARCH, limit=48),
    "lower-case": dict(kind="bert", pooling={"pooling_mode_mean_tokens": True}, lower=True),
    "e5-mistral": dict(
        kind="mistral", sizes=dict(num_key_value_heads=2), pooling={"pooling_mode_lasttoken": True}, end="</s>",
        prompts={"web_search_query": "Instruct: find\nQuery: "},
    ),
    "gte-qwen2": dict(
        kind="qwen2", sizes=dict(num_key_value_heads=2, is_causal=False), pooling={"pooling_mode_lasttoken": True}, end="</s>"
    ),
    "bge-m3": dict(kind="xlm-roberta", sizes=dict(pad_token_id=3), pooling={"pooling_mode_cls_token": True}, model_limit=600),
    "modernbert": dict(
        kind="modernbert", sizes=dict(local_attention=16, num_hidden_layers=4), pooling={"pooling_mode_cls_token": True}
    ),
    "weighted-mean": dict(kind="llama", pooling={"pooling_mode_weightedmean_tokens": True}),
    "max": dict(kind="llama", pooling={"pooling_mode_max_tokens": True}, truncate_dim=8),
    "square-root": dict(kind="llama", pooling={"pooling_mode_mean_sqrt_len_tokens": True}),
    "two-poolings": dict(kind="llama", pooling={"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, dense=(16,)),
    "instructor": dict(
        kind="llama", pooling={"pooling_mode_mean_tokens": True, "include_prompt": False},
        prompts={"query": "Represent the question: ", "document": ""},
    ),
    "without-prompt-cls": dict(kind="llama", pooling={"pooling_mode": "cls", "include_prompt": False}, prompts=SEARCH),
    "without-prompt-weighted": dict(
        kind="llama", pooling={"pooling_mode": "weightedmean", "include_prompt": False}, prompts=SEARCH
    ),
}  # fmt: skip


def fill(model: nn.Module) -> None:
    """Weights from each one's own name: the same under every version of torch and transformers."""
    for name, weight in model.named_parameters():
        torch.manual_seed(zlib.crc32(name.encode()))
        centre = 1.0 if weight.ndim == 1 and name.endswith("weight") else 0.0
        weight.data = centre + 0.2 * torch.randn(weight.shape)


def save_model(
    folder: Path, kind: str, sizes: Mapping[str, Any] = {}, *, end: str = "", model_limit: int | None = None
) -> None:
    """A transformers model without a head, and its tokenizer; end: the token that it puts after every text."""
    from tokenizers import processors
    from transformers import AutoConfig, AutoModel

    model = AutoModel.from_config(AutoConfig.for_model(kind, **{**_MODEL, "pad_token_id": 2, **sizes}))
    fill(model)
    model.save_pretrained(folder)
    tokenizer = make_tokenizer()
    tokenizer.pad_token = "</s>"
    if end:
        single = f"$A {end}"
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=[(end, 2)])
    if model_limit:
        tokenizer.model_max_length = model_limit
    tokenizer.save_pretrained(folder)


def save_layout(name: str, folder: Path) -> Path:
    """One of LAYOUTS, as a sentence-transformers folder."""
    told = LAYOUTS[name]
    save_model(folder, told["kind"], told.get("sizes", {}), end=told.get("end", ""), model_limit=told.get("model_limit"))
    return add_modules(
        folder, **{key: value for key, value in told.items() if key not in ("kind", "sizes", "end", "model_limit")}
    )


def add_modules(
    folder: Path,
    *,
    pooling: dict[str, Any],
    dense: tuple[int, ...] = (),
    prompts: dict[str, str] | None = None,
    limit: int | None = None,
    lower: bool = False,
    truncate_dim: int | None = None,
) -> Path:
    """The files of sentence-transformers around a model; dense: what comes out of each linear layer."""
    kinds = ["Transformer", "Pooling", *["Dense"] * len(dense), "Normalize"]
    places = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds) if number)]
    write(folder / "modules.json", [
        {"idx": number, "name": str(number), "path": place, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, place) in enumerate(zip(kinds, places, strict=True))
    ])  # fmt: skip
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, **pooling})
    width = WIDTH * sum(value is True for key, value in pooling.items() if key.startswith("pooling_mode_")) or WIDTH
    for place, out in zip(places[2:], dense, strict=False):
        activation = "torch.nn.modules.activation.Tanh" if len(dense) == 1 else "torch.nn.modules.linear.Identity"
        told = {"in_features": width, "out_features": out, "bias": len(dense) == 1, "activation_function": activation}
        write(folder / place / "config.json", told)
        layer = nn.Linear(width, out, bias=len(dense) == 1)
        fill(layer)
        weights = {f"linear.{key}": weight.detach() for key, weight in layer.named_parameters()}
        save_file(weights, folder / place / "model.safetensors", metadata={"format": "pt"})
        width = out
    if limit or lower:
        write(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": lower})
    write(folder / "config_sentence_transformers.json", {"prompts": prompts or {}, "truncate_dim": truncate_dim})
    return folder


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def as_snapshot(model: Path, cache: Path, name: str, monkeypatch: pytest.MonkeyPatch, *, revision: str = "1" * 40) -> None:
    """A copy of a model in a hub's cache; the first of a name is its main revision."""
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(model, repository / "snapshots" / revision)
    (repository / "refs").mkdir(exist_ok=True)
    if not (repository / "refs" / "main").exists():
        (repository / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
