"""A short name for exactly these weights, this tokenizer and these settings."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ragvec.encoder.door import read_object
from ragvec.encoder.settings import EncoderSettings
from ragvec.encoder.sources import ADAPTER_FILE

_WHOLE = 64 << 20  # files up to this size are read whole, larger ones sampled
_SAMPLES = 256
_SAMPLE = 64 << 10
# What does not change a document's vector: where the model came from, how batches are laid out, what queries carry. What
# documents carry does, but whoever keeps vectors notes it beside them.
_NOT_IDENTITY = {
    "base_model",
    "base_revision",
    "base_weights",
    "adapters",
    "packed",
    "query_instruction",
    "document_instruction",
    "prompts",
    "projections",
}
# Settings that came later: where they are as here, fingerprints stay what they were.
_LATER = {"truncate_dim": None, "border": "text", "lower_case": False}
# What an adapter's description says of how much its weights count; which way matrices lie peft finds by itself.
_SCALES = ("r", "lora_alpha", "alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")


def fingerprint(folders: Iterable[Path], tokenizer: Path, settings: EncoderSettings) -> str:
    """32 hex digits; equal for equal weights, tokenizer and settings, wherever the folders lie and whatever device runs them.

    Weight files over 64 MiB are identified by their size and 256 evenly spaced samples of 64 KiB, the header among them.
    """
    digest = hashlib.blake2b(digest_size=16)
    for folder in folders:
        files = [folder] if folder.is_file() else [*folder.glob("*.safetensors"), *folder.glob("config.json")]
        for path in sorted(files):
            _add_file(digest, path)
        if scales := _scales(folder / ADAPTER_FILE):
            digest.update(json.dumps(scales, sort_keys=True).encode())
    for name in ("tokenizer.json", "tokenizer.model"):
        if (tokenizer / name).is_file():
            digest.update((tokenizer / name).read_bytes())
    told = asdict(settings).items()
    identity = {name: value for name, value in told if name not in _NOT_IDENTITY and (name, value) not in _LATER.items()}
    digest.update(json.dumps(identity, sort_keys=True).encode())
    return digest.hexdigest()


def _scales(path: Path) -> dict[str, Any]:
    """How much an adapter's weights count, {} for a folder that is none.

    And for LoRA as it usually is, alpha twice the rank: fingerprints of such are as they were before others were told apart.
    """
    record = read_object(path) if path.is_file() else {}
    told = {name: record[name] for name in _SCALES if record.get(name)}
    return {} if told.keys() == {"r", "lora_alpha"} and told["lora_alpha"] == 2 * told["r"] else told


def _add_file(digest: hashlib.blake2b, path: Path) -> None:
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with open(path, "rb") as file:
        if size <= _WHOLE:
            while block := file.read(1 << 20):
                digest.update(block)
            return
        for sample in range(_SAMPLES):
            file.seek(sample * (size - _SAMPLE) // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
