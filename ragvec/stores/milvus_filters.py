"""Filters as Milvus answers them: see milvus_values for what is compared. What Milvus can't say of every version is looked up.

Values that a filter names stand in an expression as digests, or as literals in which nothing ends the literal but its end.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ragvec.index.conditions import FieldCondition, Filter, Joined, Not, is_column, like_parts
from ragvec.records import Passage
from ragvec.stores.milvus_values import LONGEST_BOUND, NUMBERS, bound_names, comparable, meets, tag
from ragvec.stores.values import Asked, Kinds, asked_of, key_of, values_of

Look = Callable[[str, Callable[[Passage], bool]], list[int]]  # the ids of passages that meet an expression and a test
NOTHING = "id < 0"
_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def where_expression(filter: Filter, look: Look) -> str:
    """A filter as a boolean expression on a row, true or false and never unknown.

    look  answers what can't be said in an expression: for patterns, and for several texts in one field
    """
    if isinstance(filter, Not):
        return f"not ({where_expression(filter.node, look)})"
    if isinstance(filter, Joined):
        return _joined(filter.word, [where_expression(node, look) for node in filter.nodes])
    if filter.comparison is None:
        return _present(filter)
    asked = asked_of(filter.field, filter.comparison)
    return _joined("or", [_holds(filter.field, one, look) for one in asked])


def literal(text: str) -> str:
    """A text as an expression names it."""
    return '"' + "".join(_ESCAPED.get(char, char) for char in text) + '"'


def any_id(ids: Sequence[int]) -> str:
    """That a row is one of these."""
    return f"id in [{','.join(map(str, ids))}]" if ids else NOTHING


def any_text(column: str, texts: Iterable[str]) -> str:
    """That a column is one of these texts."""
    return f"{column} in [{','.join(map(literal, texts))}]"


def _joined(word: str, parts: list[str]) -> str:
    return f" {word} ".join(f"({part})" for part in parts) or NOTHING


def _present(filter: FieldCondition) -> str:
    return f'{filter.field[0]} != ""' if is_column(filter.field) else _tagged([tag(key_of(filter.field))])


def _tagged(tags: list[str]) -> str:
    return f"array_contains_any(tags, [{','.join(map(literal, tags))}])"


def _holds(field: tuple[str, ...], asked: Asked, look: Look) -> str:
    if is_column(field) and asked.kind not in NUMBERS:
        return _column_holds(field[0], asked, look)
    key = key_of(field)
    if asked.sign in ("=", "in"):
        values = asked.value if asked.sign == "in" else [asked.value]
        return _tagged([tag(key, asked.kind, comparable(asked.kind, value)) for value in values])
    low, high = (f'bounds["{name}"]' for name in bound_names(key, asked.kind))
    there = _tagged([tag(key)])  # of a field that is not there nothing is asked: versions differ in what that gives

    def looked_up(candidates: str) -> str:
        return any_id(look(_joined("and", [there, candidates]), lambda passage: meets(_kinds(passage, key), asked)))

    if asked.sign in ("like", "starts with"):
        return _begins(asked, (there, low, high), looked_up)
    wanted = comparable(asked.kind, asked.value)
    if len(wanted) >= LONGEST_BOUND:
        return looked_up(f'{low} >= ""')
    return _joined("and", [there, f"{low if asked.sign in ('<', '<=') else high} {asked.sign} {literal(wanted)}"])


def _begins(asked: Asked, names: tuple[str, str, str], looked_up: Callable[[str], str]) -> str:
    """That a text begins with, or is like, what is asked: of a field's texts only the least and the greatest are known."""
    there, low, high = names
    prefix = (_fixed(asked.value) if asked.sign == "like" else asked.value)[: LONGEST_BOUND - 1]
    candidates = _joined("and", [f"{high} >= {literal(prefix)}", *_before(low, prefix)])
    if asked.sign == "like" or prefix != asked.value:
        return looked_up(candidates)
    surely = _joined("or", [_joined("and", _within(name, prefix)) for name in (low, high)])
    between = _joined("and", [f"{low} < {literal(prefix)}", *(f"not ({part})" for part in _before(high, prefix))])
    return _joined("or", [_joined("and", [there, surely]), looked_up(between)])


def _column_holds(column: str, asked: Asked, look: Look) -> str:
    if asked.sign == "in":
        return any_text(column, asked.value)
    if asked.sign == "like":
        named = Asked("s", "like", asked.value)
        ids = look(
            _joined("and", _within(column, _fixed(asked.value))),
            lambda passage: meets({"s": [getattr(passage, column)]}, named),
        )
        return any_id(ids)
    if asked.sign == "starts with":
        return _joined("and", _within(column, asked.value))
    return f"{column} {'==' if asked.sign == '=' else asked.sign} {literal(asked.value)}"


def _fixed(pattern: str) -> str:
    """What every text that fits a pattern begins with."""
    prefix = ""
    for char, is_sign in like_parts(pattern):
        if is_sign:
            break
        prefix += char
    return prefix


def _within(name: str, prefix: str) -> list[str]:
    """That a text begins with a prefix."""
    return [f"{name} >= {literal(prefix)}", *_before(name, prefix)]


def _before(name: str, prefix: str) -> list[str]:
    """That a text is less than all that come after those with a prefix; no condition where none do."""
    stem = prefix.rstrip(chr(sys.maxunicode))
    if not stem:
        return []
    after = ord(stem[-1]) + 1
    return [f"{name} < {literal(stem[:-1] + chr(0xE000 if after == 0xD800 else after))}"]


def _kinds(passage: Passage, key: str) -> Kinds:
    found: dict[str, Any] = values_of(passage).get(key, {})
    return found
