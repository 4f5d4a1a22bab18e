"""Vectors that come with a corpus: a field of which every row holds as many numbers."""

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

import numpy as np

from ragvec.errors import WrongInput


class VectorField:
    """Reads a corpus' vectors, all of one length."""

    def __init__(self, name: str, dimension: int | None = None) -> None:
        """name: the field's, letter case aside. dimension: how long they must be; None = as the first one is."""
        self.name = name
        self.dimension = dimension

    def read(self, fields: Mapping[str, Any], spelled: Mapping[str, str], place: str) -> tuple[str, np.ndarray]:
        """The field's name in this row, and its vector (dimension,) float32.

        spelled  the row's names by their lower case
        Raises WrongInput, with the place, for what is no vector like those before: none, of another length, NaN, all zeros.
        """
        name = spelled.get(self.name.lower())
        if name is None or fields[name] is None:
            raise WrongInput(f"{place}: no vector in field {self.name!r}")
        vector = _numbers(fields[name])
        if vector is None:
            raise WrongInput(f"{place}: field {name!r} must be a list of numbers, not {short(fields[name]):.60}")
        if len(vector) != (self.dimension or len(vector) or 1):
            wanted = f", not {self.dimension}" if self.dimension else ""
            raise WrongInput(f"{place}: field {name!r} holds {len(vector)} numbers{wanted}")
        if not (finite := np.isfinite(vector)).all():
            at = int(np.flatnonzero(~finite)[0])
            raise WrongInput(f"{place}: field {name!r} holds a null, NaN or infinity at position {at}")
        if not vector.any():
            raise WrongInput(f"{place}: field {name!r} holds only zeros, which point nowhere")
        self.dimension = len(vector)
        return name, vector


def _numbers(value: Any) -> np.ndarray | None:
    if isinstance(value, list) and any(number is None for number in value):
        value = [np.nan if number is None else number for number in value]
    try:
        numbers = np.asarray(value) if isinstance(value, (list, np.ndarray)) else None
    except ValueError:  # lists of different lengths
        return None
    if numbers is None or numbers.ndim != 1 or (numbers.dtype.kind not in "fiu" and len(numbers)):
        return None
    with np.errstate(over="ignore"):
        return np.array(numbers, dtype=np.float32)
