"""Values of other formats as JSON has them, the same whatever they come from."""

import math
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from ragvec.errors import WrongInput

LEAST_INTEGER, MOST_INTEGER = -(2**63), 2**64 - 1
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_LONGEST_DECIMAL = 300  # one of more digits may be infinite as a float
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_NO_NUMBER = ("NaN", "nan")  # as data frames write what is missing


def json_value(value: Any) -> Any:
    """A value as JSON has it: NaN is null, integers beyond 64 bits are floats, times are ISO 8601, decimals are numbers.

    Raises WrongInput for an infinity and for a number that no float can hold, which JSON lacks.
    """
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if LEAST_INTEGER <= value <= MOST_INTEGER else _finite(_as_float(value))
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {str(json_value(name)): json_value(inner) for name, inner in value.items()}
    if isinstance(value, list):
        pairs = bool(value) and all(isinstance(inner, tuple) for inner in value)  # as Arrow gives a map
        return json_value(dict(value)) if pairs else [json_value(inner) for inner in value]
    return _finite(float(value)) if isinstance(value, np.floating) else str(value) if isinstance(value, UUID) else value


def typed(value: Any) -> Any:
    """A number for a string that spells one, None for "NaN"; everything else as it is ("007" and "1e5" stay strings)."""
    if not isinstance(value, str):
        return value
    if value in _NO_NUMBER:
        return None
    if _INTEGER.fullmatch(value):
        return int(value)
    return float(value) if len(value) < _LONGEST_DECIMAL and _DECIMAL.fullmatch(value) else value


def _decimal(value: Decimal) -> int | float | None:
    whole = value.is_finite() and value == value.to_integral_value()
    if whole and LEAST_INTEGER <= value <= MOST_INTEGER:
        return int(value)
    return _finite(_as_float(value))


def _as_float(value: int | Decimal) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _finite(number: float) -> float | None:
    if math.isinf(number):
        raise WrongInput(f"{number} is no finite number")
    return None if math.isnan(number) else number
