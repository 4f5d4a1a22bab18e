"""The words of an index: what is found by them, in files of tantivy's that belong to the index's commits."""

from ragvec.index.words.files import WordFile, WordsRecord, as_json, checked_record
from ragvec.index.words.language import DEFAULT_LANGUAGE, LANGUAGES, check_language, guess_language
from ragvec.index.words.searcher import STEP, Limited, Ranking, Words
from ragvec.index.words.tantivy_index import WordWriter, remove_staging, sweep_words

__all__ = [
    "DEFAULT_LANGUAGE",
    "LANGUAGES",
    "Limited",
    "Ranking",
    "STEP",
    "WordFile",
    "WordWriter",
    "Words",
    "WordsRecord",
    "as_json",
    "check_language",
    "checked_record",
    "guess_language",
    "remove_staging",
    "sweep_words",
]
