"""The library's messages speak of arguments, `max_length`; on the command line they speak of its options, --max-length."""

import re
from collections.abc import Iterable
from typing import Protocol

_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)`")
# where a command calls an argument otherwise
_OPTIONS = {
    "faiss_key": "index_key",
    "modes": "mode",
    "name": "source",
    "path": "output",
    "recall_target": "recall",
    "reranker": "rerank",
}


class Parameter(Protocol):
    """What a command takes, as click describes it."""

    name: str | None
    opts: list[str]


def as_options(text: str, parameters: Iterable[Parameter]) -> str:
    """A message with its `arguments` named as the options of the command that has these parameters; others stay."""
    flags = {parameter.name: option for parameter in parameters for option in parameter.opts if option.startswith("--")}

    def named(match: re.Match[str]) -> str:
        name = match.group(1)
        return flags.get(name) or flags.get(_OPTIONS.get(name, name)) or match.group()

    return _ARGUMENT.sub(named, text)
