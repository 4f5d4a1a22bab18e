"""Adapters of one encoder, switched at run time: one base in memory, as many LoRA adapters upon it as are wanted."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragvec.encoder.adapter import add_adapter
from ragvec.encoder.door import check_adapter
from ragvec.encoder.fingerprint import fingerprint
from ragvec.encoder.int8 import int8_weights
from ragvec.encoder.settings import SETTINGS_FILE, read_settings
from ragvec.encoder.sources import ADAPTER_FILE, check_adapter_fits, fetch
from ragvec.errors import NotFound, WrongInput

if TYPE_CHECKING:
    from ragvec.encoder.encoder import Encoder

_FIRST = "default"  # peft's name for one that was not merged while loading


def load_adapter(encoder: "Encoder", source: str | Path, name: str) -> None:
    """Load a LoRA adapter, a folder or a hub id, beside those that are there, under a name, and switch to it.

    It is an adapter of this encoder's weights; instructions, pooling and lengths stay the encoder's.
    Raises RagvecError where it does not fit or was trained upon other weights, for a name that is taken, and for int8 weights.
    """
    folder = fetch(str(source), None)
    if not (folder / ADAPTER_FILE).is_file():
        raise NotFound(f"{source} holds no {ADAPTER_FILE}: pass an adapter's folder or hub id")
    if int8_weights(encoder.model):
        raise WrongInput("no adapter goes upon int8 weights: load the encoder without `dtype` int8")
    held = _held(encoder)
    if not name or "." in name or name in held:
        raise WrongInput(f"an adapter can't be called {name!r} (there are {', '.join(held) or 'none'}): choose another name")
    check_adapter(folder)
    if encoder.found is not None and (folder / SETTINGS_FILE).is_file():
        merged = encoder.found.adapters[:-1] if _stays_apart(encoder) else encoder.found.adapters
        check_adapter_fits(folder, read_settings(folder), replace(encoder.found, adapters=merged))
    mode = encoder.model.training
    encoder.model = add_adapter(encoder.model, folder, merge=False, name=name).to(encoder.device).train(mode)
    encoder.adapter_fingerprints[name] = fingerprint((folder,), folder, encoder.settings)
    set_adapter(encoder, name)


def set_adapter(encoder: "Encoder", name: str | None) -> None:
    """Switch to a loaded adapter by its name, or to none (None); the encoder's fingerprint follows.

    Raises NotFound for a name that is not there. Not while another thread encodes.
    """
    held = _held(encoder)
    if name is not None and name not in held:
        raise NotFound(f"no adapter is called {name!r} (there are {', '.join(held) or 'none'}): load it with load_adapter")
    if not held:
        return
    if name is None:
        encoder.model.base_model.disable_adapter_layers()
    else:
        encoder.model.base_model.enable_adapter_layers()
        encoder.model.set_adapter(name)
    first = _FIRST if _stays_apart(encoder) else None
    told = encoder.adapter_fingerprints.get(name, "without") if name else "without"
    both = hashlib.blake2b(f"{encoder.loaded_fingerprint} {told}".encode(), digest_size=16).hexdigest()
    encoder.fingerprint = encoder.loaded_fingerprint if name == first else both


def _stays_apart(encoder: "Encoder") -> bool:
    """Whether the last adapter that the encoder was loaded with is not part of its weights, but one that is switched."""
    return _FIRST in _held(encoder) and _FIRST not in encoder.adapter_fingerprints


def _held(encoder: "Encoder") -> list[str]:
    return list(getattr(encoder.model, "peft_config", None) or {})
