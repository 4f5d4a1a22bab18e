"""Filters as other frameworks write them, turned into ragvec's own (`ragvec.index.where`), every value quoted."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, TypeVar

from ragvec.errors import WrongInput
from ragvec.retrieve import Request, Retriever

Chosen = TypeVar("Chosen")
_BARE_NAME = re.compile(r"[^\W\d][\w.-]*")
_KEYWORDS = {"and", "or", "not", "in", "like", "is", "null", "true", "false"}
_NOTHING = "(doc_id is null and doc_id is not null)"  # no row meets it
_EVERYTHING = f"not {_NOTHING}"
_DOLLAR = {
    "$eq": "=", "$ne": "!=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<=", "$in": "in", "$nin": "not in"
}  # fmt: skip
_LLAMA = {"==": "=", "nin": "not in", "any": "in", "contains": "="}
_HAYSTACK = {"==": "="}
_SIGNS = ("=", "!=", ">", ">=", "<", "<=")
_HAYSTACK_FIELDS = {"id": "passage_id", "content": "text"}


def from_dict(given: Mapping[str, Any]) -> str:
    """A filter as LangChain's Chroma and PGVector take it: {"lang": "en"}, {"year": {"$gte": 2020}}, {"$or": [{…}, {…}]}.

    Operators are $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $between, $exists, $and, $or and $not.
    Raises WrongInput for others, and for values that metadata can't be compared with.
    """
    return _every(_entry(name, value) for name, value in _mapping(given).items())


def from_llamaindex(filters: Any) -> str:
    """LlamaIndex's MetadataFilters. Raises WrongInput for an operator that ragvec has not, such as text_match."""
    parts = [from_llamaindex(one) if hasattr(one, "filters") else _llama_filter(one) for one in filters.filters]
    condition = getattr(filters.condition, "value", filters.condition) or "and"
    return _JOINED[str(condition).upper()](parts)


def from_haystack(given: Mapping[str, Any]) -> str:
    """Haystack's filters: {"field": "meta.year", "operator": ">=", "value": 2020}, {"operator": "AND", "conditions": […]}."""
    filters = _mapping(given)
    if "conditions" in filters:
        parts = [from_haystack(one) for one in filters["conditions"]]
        return _chosen(_JOINED, filters.get("operator"))(parts)
    if not {"field", "operator", "value"} <= set(filters):
        raise WrongInput(f"a filter needs field, operator and value, or operator and conditions, not {', '.join(filters)}")
    field, operator = str(filters["field"]), filters["operator"]
    field = field.removeprefix("meta.") if field.startswith("meta.") else _HAYSTACK_FIELDS.get(field, field)
    return _compare(field, _HAYSTACK.get(operator, operator), filters["value"])


def narrowed(retriever: Retriever, request: Request, further: str | None) -> Request:
    """A request whose `where`, if it has one, holds beside a further filter.

    Raises WrongInput if the `where` is no filter by itself: joined to another it might mean something else.
    """
    if further is None:
        return request
    if request.where is None:
        return replace(request, where=further)
    with retriever.index.reading() as view:
        view.check_where(request.where, request.where_values)
    return replace(request, where=f"({request.where}) and {further}")


def _entry(name: str, value: Any) -> str:
    if name in ("$and", "$or"):
        if not isinstance(value, (list, tuple)) or not value:
            raise WrongInput(f"{name} needs a list of filters, not {value!r:.40}")
        return (_every if name == "$and" else _any)(from_dict(one) for one in value)
    if name == "$not":
        return f"not {from_dict(value)}"
    if str(name).startswith("$"):
        raise WrongInput(f"unknown operator {name}: at this place there are $and, $or and $not")
    if isinstance(value, Mapping):
        return _every(_operator(name, operator, operand) for operator, operand in value.items())
    return _compare(name, "=", value)


def _operator(name: str, operator: str, operand: Any) -> str:
    if operator == "$exists":
        return f"{_field(name)} is {'not ' if operand else ''}null"
    if operator == "$not":
        return f"not {_entry(name, operand)}"
    if operator == "$between":
        least, most = _values(operand, 2)
        return _every([_compare(name, ">=", least), _compare(name, "<=", most)])
    return _compare(name, _chosen(_DOLLAR, operator), operand)


def _llama_filter(one: Any) -> str:
    operator = getattr(one.operator, "value", one.operator)
    if operator == "is_empty":
        return f"{_field(one.key)} is null"
    if operator == "all":
        return _every(_compare(one.key, "=", value) for value in _values(one.value))
    return _compare(one.key, _LLAMA.get(operator, operator), one.value)


def _compare(name: str, sign: str, value: Any) -> str:
    field = _field(name)
    if sign in ("in", "not in"):
        values = [_quoted(one) for one in _values(value)]
        if not values:
            return _NOTHING if sign == "in" else _EVERYTHING
        return f"{field} {sign} ({', '.join(values)})"
    if sign not in _SIGNS:
        raise WrongInput(f"unknown operator {sign!r:.40} for field {name}: there are {', '.join(_SIGNS)}, in and not in")
    if value is None and sign in ("=", "!="):
        return f"{field} is {'not ' if sign == '!=' else ''}null"
    return f"{field} {sign} {_quoted(value)}"


def _field(name: Any) -> str:
    if not isinstance(name, str) or not name or re.search(r'[`"\\\x00-\x1f]', name):
        raise WrongInput(f"{name!r:.60} can't be a field: name one without quotes, backslashes and control characters")
    return name if _BARE_NAME.fullmatch(name) and name.lower() not in _KEYWORDS else f"`{name}`"


def _quoted(value: Any) -> str:
    """A value as it stands in a filter, whatever it holds."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, Real) and math.isfinite(value):
        return repr(int(value) if isinstance(value, Integral) else float(value))
    raise WrongInput(f"{value!r:.60} can't be compared with metadata: give a text, a number, true or false")


def _values(given: Any, count: int | None = None) -> list[Any]:
    if not isinstance(given, (list, tuple, set, frozenset)) or count not in (None, len(given)):
        raise WrongInput(f"a list of {'' if count is None else f'{count} '}values is needed, not {given!r:.40}")
    return list(given)


def _mapping(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise WrongInput(f"a filter is a dictionary, such as {{'lang': 'en'}}, not {type(given).__name__}")
    return given


def _chosen(known: Mapping[str, Chosen], operator: Any) -> Chosen:
    if operator not in known:
        raise WrongInput(f"unknown operator {operator!r:.40}: there are {', '.join(known)}")
    return known[operator]


def _every(parts: Iterable[str]) -> str:
    return _joined(parts, "and", _EVERYTHING)


def _any(parts: Iterable[str]) -> str:
    return _joined(parts, "or", _NOTHING)


def _joined(parts: Iterable[str], word: str, none: str) -> str:
    held = list(parts)
    return f"({f' {word} '.join(held)})" if held else none


def _none(parts: Iterable[str]) -> str:
    return f"not {_every(parts)}"


_JOINED: dict[str, Callable[[Iterable[str]], str]] = {"AND": _every, "OR": _any, "NOT": _none}
