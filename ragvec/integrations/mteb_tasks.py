"""MTEB's tasks and benchmarks by name, and what each would be measured with."""

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from ragvec.encoder import Encoder
from ragvec.errors import RagvecError, WrongUsage

_COMMA = re.compile(r",\s*(?![^()]*\))")  # not the one in "MTEB(eng, v1)"
_SAMPLE = "…"  # stands for the text in a prompt that is shown


def import_mteb() -> ModuleType:
    """The mteb module. Raises RagvecError if it is missing or older than 2."""
    try:
        mteb = import_module("mteb")
    except ImportError as error:
        raise RagvecError("MTEB's tasks need mteb: pip install 'ragvec[mteb]'") from error
    if not hasattr(mteb, "evaluate"):
        raise RagvecError(f"mteb {getattr(mteb, '__version__', '')} is too old: pip install -U 'ragvec[mteb]'")
    return mteb


def split_names(words: Sequence[str]) -> list[str]:
    """Names that were given one by one or joined by commas: ["A,B", "MTEB(eng, v1)"] are three."""
    return [name.strip() for word in words for name in _COMMA.split(word) if name.strip()]


def find_tasks(names: Sequence[Any]) -> list[Any]:
    """Task objects of tasks ("SciFact"), and of benchmarks ("MTEB(eng, v1)") all of theirs; objects are passed on.

    A benchmark's tasks are restricted to its languages and splits; a task named by itself is measured in all of its own.
    Raises RagvecError for a name that is neither, or no names.
    """
    mteb = import_mteb()
    tasks = [task for name in names for task in ([name] if not isinstance(name, str) else _named(mteb, name))]
    if not tasks:
        raise WrongUsage("no MTEB task: name some, such as SciFact, or a benchmark, such as 'MTEB(eng, v1)'")
    return tasks


def preview(encoder: Encoder, tasks: Sequence[Any], instruction_of: Callable[[Any, str], str]) -> list[dict[str, Any]]:
    """What each task would be measured with, as JSON values: splits, subsets, metric, and the whole prompts.

    instruction_of  (task metadata, "query", "document" or "text") → instruction
    A task made of several, such as CQADupstackRetrieval, is given as those.
    """
    parts = [part for task in tasks for part in getattr(task, "tasks", [task])]
    return [
        {
            "task": task.metadata.name,
            "type": task.metadata.type,
            "metric": task.metadata.main_score,
            "splits": list(task.eval_splits),
            "subsets": list(task.hf_subsets),
            **{name: _prompt(encoder, instruction_of(task.metadata, kind)) for name, kind in _prompts(task.metadata).items()},
        }
        for task in parts
    ]


def prompt_of(metadata: Any) -> str:
    """MTEB's prompt for a task's queries, or for its kind of task; "" if it has none."""
    given = metadata.prompt
    prompt: str = (given.get("query") if isinstance(given, dict) else given) or ""
    if not prompt:
        from mteb.abstasks.abstask import get_abstask_prompt

        prompt = get_abstask_prompt(metadata.name)
    return prompt


def _prompts(metadata: Any) -> dict[str, str]:
    """Name → "query", "document" or "text": what a task's texts are encoded as."""
    ranks = metadata.type.endswith(("Retrieval", "Reranking"))
    return {"query prompt": "query", "document prompt": "document"} if ranks else {"prompt": "text"}


def _prompt(encoder: Encoder, instruction: str) -> str:
    """The prompt's tokens as text, special tokens included; … stands for the text."""
    ids = encoder.prompts.build([_SAMPLE], instruction).ids[0]
    prompt: str = encoder.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return prompt


def _named(mteb: ModuleType, name: str) -> list[Any]:
    try:
        return [mteb.get_task(name)]
    except KeyError as error:
        unknown = error
    try:
        return list(mteb.get_benchmark(name).tasks)
    except KeyError:
        near = re.search(r"Did you mean: (.*\?)", str(unknown))
        hint = f" (did you mean {near.group(1)})" if near else ""
        raise WrongUsage(
            f"MTEB knows no task or benchmark {name!r}{hint}: see `mteb available-tasks` and `mteb available-benchmarks`"
        ) from unknown
