"""What a new index, or one that is changed, is asked to be: checked before anything is written."""

from dataclasses import asdict

from ragvec.checked import Mismatch, check_fields
from ragvec.errors import WrongType, WrongUsage
from ragvec.index.ann.choice import AUTO_KEY, EXACT_KEY, RECALL_TARGET
from ragvec.index.conditions import check_filter_fields
from ragvec.index.store import IndexSettings
from ragvec.index.validity import fitting_settings
from ragvec.index.words import check_language


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
