"""Tests and benchmarks. They run from a checkout without an installation, which would put cli/ and data/ into the package."""

from importlib.util import find_spec
from pathlib import Path

import ragvec

if find_spec("ragvec.data") is None:
    ragvec.__path__.append(str(Path(__file__).resolve().parent.parent))
