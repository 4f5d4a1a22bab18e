"""What filters ask of a passage, in the two forms that every Milvus compares alike: texts that are equal, or in order.

tags    for each field, and for each of its values of a kind, a digest: a filter's "=" and "in" ask for digests
bounds  for each field and kind the least and the greatest value, spelled so that texts are in the values' order: one of several
        values is less than another exactly if the least is. Of texts only the beginning counts.

So no version's own idea of numbers, dates, nulls and lists has a say in what a filter leaves.
"""

import hashlib
import math
import re
import struct
from functools import lru_cache
from typing import Any

from ragvec.index.conditions import like_parts
from ragvec.records import Passage
from ragvec.stores.values import Asked, Kinds, values_of

NUMBERS = "bnd"  # kinds whose values are numbers
LONGEST_BOUND = 256  # characters of a text that are compared
_BOUNDED = "bndtos"  # kinds that are asked by "<" and the like, or by their beginning
_TAGGED = "bndt"  # kinds that are asked by "="


def tags_and_bounds(passage: Passage) -> tuple[list[str], dict[str, str]]:
    """Both forms of all values of a passage."""
    tags: set[str] = set()
    bounds: dict[str, str] = {}
    for key, kinds in values_of(passage).items():
        tags.add(tag(key))
        for kind, values in kinds.items():
            spelled = [comparable(kind, value) for value in values]
            if kind in _TAGGED:
                tags |= {tag(key, kind, text) for text in spelled}
            if kind in _BOUNDED:
                low, high = bound_names(key, kind)
                bounds[low], bounds[high] = min(spelled)[:LONGEST_BOUND], max(spelled)[:LONGEST_BOUND]
    return sorted(tags), bounds


def tag(key: str, kind: str = "", spelled: str = "") -> str:
    """That a field is there, or has a value of a kind; 32 hex digits."""
    named = "\x1f\x1f".join((key, kind, spelled)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(named, digest_size=16).hexdigest()


def bound_names(key: str, kind: str) -> tuple[str, str]:
    """Under which names the least and the greatest value of a field stand."""
    field = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    return f"{field}{kind}l", f"{field}{kind}h"


def comparable(kind: str, value: Any) -> str:
    """A value as a text that is equal to, and in order with, those of its kind exactly as the values are."""
    return _number_text(value) if kind in NUMBERS else str(value)


def meets(kinds: Kinds, asked: Asked) -> bool:
    """Whether one of a field's values does what is asked, which is no "in"."""
    return any(_meets(comparable(asked.kind, value), asked) for value in kinds.get(asked.kind, ()))


def _meets(spelled: str, asked: Asked) -> bool:
    if asked.sign == "starts with":
        return spelled.startswith(asked.value)
    if asked.sign == "like":
        return _like(asked.value).fullmatch(spelled) is not None
    wanted = comparable(asked.kind, asked.value)
    return {"=": spelled == wanted, "<": spelled < wanted, "<=": spelled <= wanted, ">": spelled > wanted}.get(
        asked.sign, spelled >= wanted
    )


@lru_cache(maxsize=64)
def _like(pattern: str) -> re.Pattern[str]:
    signs = {"%": ".*", "_": "."}
    return re.compile("".join(signs[char] if sign else re.escape(char) for char, sign in like_parts(pattern)), re.DOTALL)


def _number_text(value: int | float) -> str:
    """20 hex digits: the greatest float64 that is not over the number, its sign first, and how much the number is over it."""
    near = float(value) + 0.0  # no -0.0
    if isinstance(value, int) and near > value:
        near = math.nextafter(near, -math.inf)
    beyond = value - int(near) if isinstance(value, int) else 0
    [bits] = struct.unpack(">Q", struct.pack(">d", near))
    return f"{bits ^ (2**64 - 1 if bits >> 63 else 1 << 63):016x}{beyond:04x}"
