"""A plain transformers folder, ragvec's own, and what the other layouts change in it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragvec.encoder import Encoder
from ragvec.encoder.checkpoint import write_projected_settings
from ragvec.errors import RagvecError
from ragvec.files import write_json


def write_plain(encoder: Encoder, folder: Path) -> list[str]:
    """transformers' own layout: AutoModel and AutoTokenizer read it, attention in both directions included."""
    notes = [f"transformers pools nothing: take the {encoder.settings.pooling} of last_hidden_state over the text's tokens"]
    if len(encoder.projections):
        raise RagvecError("transformers has no linear layers behind a pooling: export `to` sentence-transformers")
    if encoder.settings.attention == "bidirectional":
        notes.append(
            "attention in both directions needs transformers 5.2 or newer; older ones pass over is_causal in config.json"
        )
    return notes


def write_own(encoder: Encoder, folder: Path) -> list[str]:
    """ragvec's own layout, which needs no other folder: adapters are part of the weights, every setting is kept."""
    write_projected_settings(folder, replace(encoder.settings, adapters=()), encoder.projections)
    return []


def read_json(path: Path) -> Any:
    """The value in a JSON file that was just written."""
    return json.loads(path.read_text(encoding="utf-8"))


def set_tokenizer_options(folder: Path, encoder: Encoder, **options: Any) -> None:
    """Change keys of tokenizer_config.json, and have tokenizer.json read as it stands.

    A chat template would be applied to every text where one is found; the prompts of an encoder are its own.
    """
    path = folder / "tokenizer_config.json"
    settings = read_json(path) | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        **options,
    }
    settings["pad_token"] = settings.get("pad_token") or _padding(settings, folder)
    for name in ("chat_template", "auto_map", "backend", "is_local", "local_files_only"):
        settings.pop(name, None)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    write_json(path, settings)


def _padding(settings: dict[str, Any], folder: Path) -> Any:
    """A special token to pad with, whose states nobody looks at. Raises RagvecError if the tokenizer has none."""
    special = [one["content"] for one in read_json(folder / "tokenizer.json")["added_tokens"] if one["special"]]
    tokens = [settings.get("eos_token"), settings.get("unk_token"), *special]
    if (token := next(filter(None, tokens), None)) is None:
        raise RagvecError("the tokenizer has no special token, and other libraries need one to pad with: export `to` ragvec")
    return token
