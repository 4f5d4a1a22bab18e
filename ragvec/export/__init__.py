"""Encoders in the layouts of other libraries, each read back there and compared."""

from ragvec.export.layouts import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "export"]
