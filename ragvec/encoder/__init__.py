"""The text encoder: load one, encode with it, make one from a decoder.

Names load on first use: reading a checkpoint's settings needs no torch.
"""

from typing import TYPE_CHECKING

from ragvec.encoder.settings import EncoderSettings, read_settings, write_settings
from ragvec.lazy import lazy_names

if TYPE_CHECKING:
    from ragvec.encoder.conversion import convert
    from ragvec.encoder.encoder import Encoded, Encoder, TokenVectors

_LAZY = {
    "Encoded": "ragvec.encoder.encoder",
    "Encoder": "ragvec.encoder.encoder",
    "TokenVectors": "ragvec.encoder.encoder",
    "convert": "ragvec.encoder.conversion",
}
__all__ = ["Encoded", "Encoder", "EncoderSettings", "TokenVectors", "convert", "read_settings", "write_settings"]
__getattr__ = lazy_names(__name__, _LAZY)
