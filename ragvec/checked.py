"""Values that come out of files anyone may have written: checked against the types of the record they are to fill."""

import math
import types
import typing
from collections.abc import Mapping
from typing import Any


class Mismatch(ValueError):
    """A value is not what it must be. The message names the key and shows the value; who reads the file adds which."""


def check_fields(values: Mapping[str, Any], record: type) -> dict[str, Any]:
    """The values that fit a dataclass's or NamedTuple's annotated fields, by name; keys that it does not have are left out.

    Raises Mismatch for a value of another type. A whole number is a float too, a bool is no number; a list becomes a tuple
    where one is wanted, an object the dataclass that is wanted.
    """
    hints = typing.get_type_hints(record)
    return {name: check_value(name, value, hints[name]) for name, value in values.items() if name in hints}


def check_value(name: str, value: Any, wanted: Any) -> Any:
    """The value as the type wanted. Raises Mismatch."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        [wanted] = [one for one in arguments if one is not type(None)]
        return check_value(name, value, wanted)
    if wanted is Any:
        return value
    if origin is dict and isinstance(value, dict):
        return {str(key): check_value(f"{name}.{key}", one, arguments[1]) for key, one in value.items()}
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(check_value(f"{name}[{place}]", one, arguments[0]) for place, one in enumerate(value))
    if origin is None and isinstance(value, dict) and hasattr(wanted, "__annotations__") and wanted is not dict:
        return _record(name, value, wanted)
    if origin is None and _fits(value, wanted):
        return float(value) if wanted is float else value
    raise Mismatch(f"{name} is {shown(value)}, not {_named(origin or wanted)}")


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Raises Mismatch for a number outside least … most."""
    if not least <= value <= most:
        raise Mismatch(f"{name} is {shown(value)}, outside {least} … {most}")


def shown(value: Any) -> str:
    """A value in a message: on one line, and not endless."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _record(name: str, value: dict[str, Any], wanted: Any) -> Any:
    try:
        return wanted(**check_fields(value, wanted))
    except TypeError as error:
        raise Mismatch(f"{name} lacks a field: {error}") from error
    except Mismatch as error:
        raise Mismatch(f"{name}.{error}") from error


def _fits(value: Any, wanted: type) -> bool:
    if wanted is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if wanted is str:
        return isinstance(value, str) and is_unicode(value)
    return isinstance(value, wanted)


def is_unicode(text: str) -> bool:
    """Whether a text can be written down: JSON can spell half a surrogate pair, which no encoding has."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", list: "a list", tuple: "a list"}


def _named(wanted: Any) -> str:
    return _NAMES.get(wanted, "an object")
