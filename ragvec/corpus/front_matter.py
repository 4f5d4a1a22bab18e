"""Front matter: what a Markdown file says about itself before its text, as YAML between --- lines or TOML between +++ lines."""

import re
import sys
from typing import TYPE_CHECKING, Any

from ragvec.corpus.remarks import Remarks
from ragvec.corpus.values import json_value, typed
from ragvec.errors import WrongInput, first_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import yaml

_MATTER = re.compile(r"(---|\+\+\+)[ \t]*\r?\n(?:(.*?)\r?\n)??\1[ \t]*(?:\r?\n|$)", re.DOTALL)
_LONGEST = 1 << 14  # characters; its parsers are slow
_MOST_NODES = 10_000  # one that is named again counts again: a few lines could stand for billions
_NULLS = ("", "~", "null", "Null", "NULL", ".nan", ".NaN", ".NAN")
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def front_matter(text: str, place: str, remarks: Remarks) -> tuple[dict[str, Any], str]:
    """The fields of a text's front matter as JSON values, and the text after it.

    YAML's plain words are strings but for numbers, true, false and null: a date stays as it is written, and so does `no`.
    What cannot be read, or names no fields, stays in the text; the former is remarked upon.
    """
    matter = _MATTER.match(text)
    if not matter or len(matter.group(2) or "") > _LONGEST:
        return {}, text
    try:
        fields = _toml(matter.group(2) or "") if matter.group(1) == "+++" else _yaml(matter.group(2) or "")
    except (tomllib.TOMLDecodeError, WrongInput, ValueError, RecursionError) as error:
        remarks.front_matter(place, _why(error))
        return {}, text
    return ({}, text) if fields is None else (fields, text[matter.end() :])


def _toml(text: str) -> dict[str, Any]:
    fields: dict[str, Any] = json_value(tomllib.loads(text))
    return fields


def _yaml(text: str) -> dict[str, Any] | None:
    import yaml  # late: a search reads no front matter

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)  # nodes only: nothing of it is made into an object
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise WrongInput(f"{error.problem} in line {mark.line + 2}" if mark else first_line(error)) from error
    except yaml.YAMLError as error:
        raise WrongInput(first_line(error)) from error
    if node is None:
        return {}
    value = _value(node, [_MOST_NODES])
    return value if isinstance(value, dict) else None


def _value(node: "yaml.Node", left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0:
        raise WrongInput(f"it stands for more than {_MOST_NODES:,} values")
    if node.id == "mapping":
        return {str(key.value): _value(value, left) for key, value in node.value if key.id == "scalar"}
    if node.id == "sequence":
        return [_value(one, left) for one in node.value]
    if node.style is not None:  # quoted, or folded over lines
        return str(node.value).strip()
    return None if node.value in _NULLS else _TRUTHS.get(node.value, typed(node.value))


def _why(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else first_line(error)
