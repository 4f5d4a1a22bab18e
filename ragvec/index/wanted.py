"""What a new index, or one that is changed, is asked to be: checked before anything is written."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from ragvec.arguments import known, strings
from ragvec.checked import Mismatch, check_fields
from ragvec.errors import WrongType, WrongUsage
from ragvec.index.ann.choice import AUTO_KEY, EXACT_KEY, RECALL_TARGET
from ragvec.index.conditions import check_filter_fields
from ragvec.index.store import SEARCH_SETTINGS, IndexSettings
from ragvec.index.validity import fitting_settings
from ragvec.index.words import check_language

_SEARCH = (*SEARCH_SETTINGS, "filter_fields", "language")


def searched_by(settings: IndexSettings, search: Mapping[str, Any]) -> IndexSettings:
    """An index's settings with another way to search, by name. Raises as `check_wanted`, and for names that are no such way."""
    known(search, _SEARCH, "setting of how an index is searched")
    given = dict(search)
    if "filter_fields" in given:
        given["filter_fields"] = tuple(strings("filter_fields", given["filter_fields"], "field"))
    wanted = replace(settings, **given)
    check_wanted(wanted)
    return wanted


def check_wanted(settings: IndexSettings) -> None:
    """Raises WrongUsage, with the argument, for settings that no index can have."""
    values = asdict(settings)
    try:
        check_fields(values, IndexSettings)
    except Mismatch as error:
        raise WrongType(f"{error}: give one, or leave it out") from error
    check_filter_fields(settings.filter_fields)
    if not 0 < settings.recall_target <= 1:
        raise WrongUsage(f"the target recall is {settings.recall_target}: choose above 0 and up to 1, such as {RECALL_TARGET}")
    if settings.max_memory is not None and settings.max_memory <= 0:
        raise WrongUsage(f"the most memory is {settings.max_memory} bytes: allow some, or leave it out")
    if settings.language is not None:
        check_language(settings.language)
    if settings.faiss_key not in (AUTO_KEY, EXACT_KEY):
        from ragvec.index.ann.build import check_key

        check_key(settings.faiss_key, settings.dimension)
    try:
        fitting_settings(values, IndexSettings)
    except Mismatch as error:
        raise WrongUsage(f"{error}: choose within these, or leave it out") from error
