"""The text encoder: load one, encode with it, make one from a decoder."""

from ragvec.encoder.convert import convert
from ragvec.encoder.encoder import Encoded, Encoder, TokenVectors
from ragvec.encoder.settings import EncoderSettings, read_settings, write_settings

__all__ = ["Encoded", "Encoder", "EncoderSettings", "TokenVectors", "convert", "read_settings", "write_settings"]
