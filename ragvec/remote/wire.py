"""How parts and what asks them write numbers to each other; both read it as what anyone may have written."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np

from ragvec.checked import Mismatch, check_range, check_value, shown
from ragvec.index.words.weights import FIELDS, MOST_BEGINNINGS, Counts

MOST_VECTORS = 64  # in one request
MOST_IDS = 4096
MOST_COUNT = 2**50
MOST_STEMS = 1 << 14


def packed(vectors: np.ndarray) -> str:
    """Vectors (n, d) as text: float32, little endian, base64."""
    return base64.b64encode(np.ascontiguousarray(vectors, dtype="<f4").tobytes()).decode()


def unpacked(text: Any, dimension: int) -> np.ndarray:
    """Vectors (n, d) float32 of a text. Raises Mismatch for what is none of this dimension, or not finite."""
    try:
        data = base64.b64decode(check_value("vectors", text, str), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Mismatch(f"vectors are {shown(text)}, not base64 ({error})") from None
    if len(data) % (4 * dimension):
        raise Mismatch(f"vectors have {len(data):,} bytes, which is no number of {dimension}-d vectors in float32")
    vectors = np.frombuffer(data, dtype="<f4").reshape(-1, dimension).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise Mismatch("a vector holds NaN or infinity")
    return vectors


def numbers(name: str, values: Any, *, most: int, below: int = MOST_COUNT) -> np.ndarray:
    """Whole numbers from 0 to below a limit, at most so many, as (n,) int64. Raises Mismatch."""
    if not isinstance(values, list) or len(values) > most or not all(type(one) is int and 0 <= one < below for one in values):
        raise Mismatch(f"{name} are {shown(values)}, not at most {most:,} whole numbers from 0 to below {below}")
    return np.array(values, dtype=np.int64)


def counts_record(counts: Counts) -> dict[str, Any]:
    """Counts as JSON values."""
    return {**counts._asdict(), "frequencies": {field: dict(counts.frequencies[field]) for field in FIELDS}}


def read_counts(values: Any) -> Counts:
    """Counts of JSON values. Raises Mismatch for what no index can have counted."""
    given = check_value("counts", values, dict[str, Any])
    missing = next((name for name in Counts._fields if name not in given), None)
    if missing is not None:
        raise Mismatch(f"counts lack {missing}")
    passages, indexed = (check_value(name, given[name], int) for name in ("passages", "indexed"))
    check_range("indexed", indexed, 0, MOST_COUNT)
    check_range("passages", passages, 0, indexed)
    tokens = _by_field("tokens", given["tokens"])
    frequencies = {
        field: _frequencies(found, indexed) for field, found in _by_field("frequencies", given["frequencies"]).items()
    }
    for field in FIELDS:
        check_range(f"tokens.{field}", check_value(f"tokens.{field}", tokens[field], int), 0, MOST_COUNT)
    further = numbers("further", given["further"], most=MOST_BEGINNINGS, below=passages + 1)
    return Counts(passages, indexed, tokens, frequencies, further=tuple(further.tolist()))


def _by_field(name: str, values: Any) -> dict[str, Any]:
    found: dict[str, Any] = check_value(name, values, dict[str, Any])
    if set(found) != set(FIELDS):
        raise Mismatch(f"{name} are of {shown(sorted(found))}, not of {', '.join(FIELDS)}")
    return found


def _frequencies(values: Any, indexed: int) -> Mapping[str, int]:
    found: dict[str, int] = check_value("frequencies", values, dict[str, int])
    if len(found) > MOST_STEMS or not all(1 <= count <= indexed for count in found.values()):
        raise Mismatch(f"frequencies are not at most {MOST_STEMS:,} numbers from 1 to {indexed:,}")
    return found
