"""What a caller in Python gives, checked where it comes in: a line with the argument, what it is, and what to give instead."""

import math
import operator
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragvec.checked import shown
from ragvec.errors import WrongType, WrongUsage

if TYPE_CHECKING:
    import numpy as np

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # as a path has it: the second slash is gone


def wrong_type(name: str, value: Any, remedy: str) -> WrongType:
    """The error for a value of another kind. name: of the argument; remedy: what to give."""
    kind = type(value).__name__
    said = "None" if value is None else f"{shown(value)}, {'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
    return WrongType(f"`{name}` is {said}: {remedy}")


def known(given: Iterable[str], names: Collection[str], what: str) -> None:
    """Raises WrongType for a keyword that is none of these names, with the one that may be meant. what: what it would be."""
    for name in given:
        if name not in names:
            import difflib  # late: whoever is right needs none

            near = difflib.get_close_matches(name, names, n=1)
            remedy = f"did you mean `{near[0]}`?" if near else f"choose from {', '.join(names)}"
            raise WrongType(f"`{name}` is no {what}: {remedy} (unexpected keyword argument {name!r})")


def text(name: str, value: Any, remedy: str = "give a string") -> str:
    """The value, which must be a string."""
    if not isinstance(value, str):
        raise wrong_type(name, value, remedy)
    return value


def whole(name: str, value: Any) -> int:
    """The value as an int, numpy's included. Raises WrongType for True and for 2.0."""
    try:
        if isinstance(value, bool) or type(value).__name__ == "bool":  # numpy's, which calls itself 1
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise wrong_type(name, value, "give a whole number") from None


def wholes(name: str, values: Any) -> list[int]:
    """The values as ints, several. Raises WrongType, with its place, for one that is none."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise wrong_type(name, values, "give a sequence of whole numbers")
    return [whole(f"{name}[{place}]", value) for place, value in enumerate(values)]


def number(name: str, value: Any) -> float:
    """The value as a float, numpy's included. Raises WrongType for text and truth, WrongUsage for NaN."""
    if isinstance(value, (str, bytes, bool)) or not hasattr(value, "__float__"):
        raise wrong_type(name, value, "give a number")
    try:
        given = float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong_type(name, value, "give a number") from None
    if math.isnan(given):
        raise WrongUsage(f"`{name}` is nan: give a number")
    return given


def switch(name: str, value: Any) -> bool:
    """The value, which must be True or False."""
    if not isinstance(value, bool):
        raise wrong_type(name, value, "give True or False")
    return value


def folder(name: str, value: Any) -> Path:
    """The value as a path."""
    if not isinstance(value, (str, Path)):
        raise wrong_type(name, value, "give a path")
    return Path(value)


def local_folder(name: str, value: Any) -> Path:
    """The value as the path of a folder of this machine. Raises WrongUsage for an address, whose rest may be a secret."""
    path = folder(name, value)
    if address := address_of(path):
        raise WrongUsage(f"`{name}` is {address}, an address: give a path of this machine")
    return path


def address_of(path: str | Path) -> str:
    """What a path is the address of, http://…, without the rest, which may be a secret; "" if it is none."""
    address = _ADDRESS.match(str(path))
    return f"{address.group().rstrip('/')}//…" if address else ""


def array(name: str, value: Any, *, dtype: Any = None) -> "np.ndarray":
    """The value as an array. Raises WrongType for rows of different lengths, and for what is no number where one is wanted."""
    import numpy as np

    try:
        return np.asarray(value, dtype=dtype)
    except (TypeError, ValueError):
        raise wrong_type(name, value, "give numbers, in rows of one length") from None


def where_text(where: Any) -> str:
    """A filter, which must be a string."""
    return text(
        "where", where, "write the filter as a string, such as year >= $year, its values as where_values={'year': 2020}"
    )


def where_names(values: Any) -> Mapping[str, Any]:
    """The values of a filter's names, which must be a dict."""
    if not isinstance(values, Mapping):
        raise wrong_type("where_values", values, "give a dict of names and values")
    return values


def strings(name: str, values: Any, one: str) -> list[str]:
    """The values, which must be strings, several. one: what a single one is called."""
    if isinstance(values, (str, bytes)):
        raise WrongType(f"`{name}` must be a sequence of strings: pass [{one}] instead of {one}")
    if not isinstance(values, Iterable):
        raise wrong_type(name, values, "give a sequence of strings")
    given = list(values)
    for place, value in enumerate(given):
        if not isinstance(value, str):
            raise wrong_type(f"{name}[{place}]", value, "give a string")
    return given
