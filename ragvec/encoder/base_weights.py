"""Which base weights an adapter was trained on: a short name for weights, and the check when it is stacked upon some."""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch

from ragvec.encoder.adapter import LANGUAGE_HEADS
from ragvec.encoder.door import foreign, weight_parts
from ragvec.encoder.gguf import load_gguf
from ragvec.encoder.settings import EncoderSettings
from ragvec.errors import WrongInput

_PREFIX = re.compile(r"^(model|transformer|gpt_neox|biogpt)\.")  # which weights have with a head, and lose without it
_HEAD = re.compile(rf"({LANGUAGE_HEADS})\.")


def weights_name(base: Path) -> str:
    """16 hex digits that tell a decoder's weights from others; equal for a copy in float32, in other files or without a head.

    The first, the middle and the last row of every matrix are read, and all of a vector, to bfloat16's precision: training
    moves them all, and a model of any size takes a moment.
    A GGUF file's are unpacked whole, which takes longer.
    base  a folder, or a GGUF file
    Raises RagvecError for files that are neither safetensors nor GGUF.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, sample in sorted((_of_gguf if base.is_file() else _of_folder)(base).items()):
        digest.update(f"{name}\0{len(sample)}\0".encode())
        digest.update(sample)
    return digest.hexdigest()


def check_base(adapter: Path, settings: EncoderSettings, base: Path, *, stacked: int) -> None:
    """Raises WrongInput unless the base weights are those that an adapter was trained on, where its settings say which.

    stacked  adapters upon the base: where they are fewer than this one was trained upon, the weights must have those merged
             into them, so they must be others
    """
    if not settings.base_weights:
        return
    found, earlier = weights_name(base), ", ".join(settings.adapters)
    if stacked < len(settings.adapters):
        if found == settings.base_weights:
            raise WrongInput(
                f"the adapter {adapter} was trained upon {earlier}, and {base} holds the weights before that: load it by its "
                "own name, or name all of them in `adapters`, in order"
            )
        return
    if found != settings.base_weights:
        card = adapter / "README.md"
        told = f" ({card} tells where they come from)" if card.is_file() else ""
        raise WrongInput(
            f"the adapter {adapter} was trained on the base weights {settings.base_weights}, and {base} holds {found}: "
            f"load it upon the weights it was trained on{told}"
        )


def _of_folder(folder: Path) -> dict[str, bytes]:
    from safetensors import safe_open

    found: dict[str, bytes] = {}
    for path in _files(folder):
        with foreign(f"{path} can't be read"), safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118, it is no dict
                if not _HEAD.match(name):
                    found[_PREFIX.sub("", name)] = _sample(part := file.get_slice(name), part.get_shape())
    return found


def _of_gguf(path: Path) -> dict[str, bytes]:
    model, _ = load_gguf(path, dtype=torch.bfloat16)
    return {_PREFIX.sub("", name): _sample(part, list(part.shape)) for name, part in model.state_dict().items()}


def _files(folder: Path) -> list[Path]:
    """The files with a model's weights, as transformers chooses them."""
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else weight_parts(folder) or [whole]


def _sample(part: Any, shape: list[int]) -> bytes:
    """A tensor's shape and some of its values."""
    values = (
        part[...] if len(shape) < 2 else torch.cat([part[row : row + 1] for row in (0, shape[0] // 2, max(shape[0] - 1, 0))])
    )
    return str(shape).encode() + values.to(torch.bfloat16).flatten().view(torch.uint8).numpy().tobytes()
