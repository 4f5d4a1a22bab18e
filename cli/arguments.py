"""The library's messages speak of arguments, `max_length`; on the command line they speak of its options, --max-length."""

import re
from collections.abc import Iterable
from typing import Protocol

_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)`")
# where a command calls an argument otherwise: the first of these names that it has
_OPTIONS = {
    "faiss_key": ("index_key",),
    "modes": ("mode",),
    "name": ("source",),
    "path": ("index", "output"),
    "recall_target": ("recall",),
    "reranker": ("rerank",),
}


class Parameter(Protocol):
    """What a command takes, as click describes it."""

    name: str | None
    opts: list[str]


def as_options(text: str, parameters: Iterable[Parameter]) -> str:
    """A message with its `arguments` named as the options of the command that has these parameters, or as its ARGUMENTS; others
    stay."""
    flags = {one.name: typed for one in parameters for option in one.opts if (typed := _typed(option))}

    def named(match: re.Match[str]) -> str:
        name = match.group(1)
        return next((flags[each] for each in (name, *_OPTIONS.get(name, ())) if each in flags), match.group())

    return _ARGUMENT.sub(named, text)


def _typed(option: str) -> str:
    """--option as it is, ARGUMENT as a command's usage has it; "" for a letter, which says too little."""
    return option if option.startswith("--") else "" if option.startswith("-") else option.upper()
