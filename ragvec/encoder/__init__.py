"""The text encoder: load one, encode with it, make one from a decoder.

Names load on first use: reading a checkpoint's settings needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ragvec.encoder.settings import EncoderSettings, read_settings, write_settings

if TYPE_CHECKING:
    from ragvec.encoder.conversion import convert
    from ragvec.encoder.encoder import Encoded, Encoder, TokenVectors

_LAZY = {"Encoded": "encoder", "Encoder": "encoder", "TokenVectors": "encoder", "convert": "conversion"}
__all__ = ["Encoded", "Encoder", "EncoderSettings", "TokenVectors", "convert", "read_settings", "write_settings"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"ragvec.encoder.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'ragvec.encoder' has no attribute {name!r}")
