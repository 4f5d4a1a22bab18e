"""Encoders in the layouts of other libraries, each read back there and compared; and on the hub."""

from ragvec.export.layouts import FORMATS, Exported, export
from ragvec.export.push import push

__all__ = ["FORMATS", "Exported", "export", "push"]
