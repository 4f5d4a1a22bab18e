"""A short name for exactly these weights, this tokenizer and these settings."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from ragvec.encoder.settings import EncoderSettings

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


def fingerprint(folders: Iterable[Path], tokenizer: Path, settings: EncoderSettings) -> str:
    """32 hex digits; equal for equal weights, tokenizer and settings, wherever the folders lie and whatever device runs them.

    Weight files over 64 MiB are identified by their size and 256 evenly spaced samples of 64 KiB, the header among them.
    """
    digest = hashlib.blake2b(digest_size=16)
    for folder in folders:
        files = [folder] if folder.is_file() else [*folder.glob("*.safetensors"), *folder.glob("config.json")]
        for path in sorted(files):
            _add_file(digest, path)
    for name in ("tokenizer.json", "tokenizer.model"):
        if (tokenizer / name).is_file():
            digest.update((tokenizer / name).read_bytes())
    told = asdict(settings).items()
    identity = {name: value for name, value in told if name not in _NOT_IDENTITY and (name, value) not in _LATER.items()}
    digest.update(json.dumps(identity, sort_keys=True).encode())
    return digest.hexdigest()


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
