"""What a query asks of the words: each of its words, and those that belong together in sequence."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ragvec.index.words.analysis import folded_words, is_run

_CODE = re.compile(r"[0-9_./:@\\]|^--?\w|[a-z][A-Z]")
_AROUND = "\"'`.,;:!?()[]{}<>…“”‘’"


class Asked(NamedTuple):
    """A word of a query as it is indexed: one, or several in sequence.

    prefix  a beginning of words
    code    several that are meant in sequence too: `3.11.2`, `O_CLOEXEC`. In `well-known`, `Newton's` and
            runs of unspaced characters the sequence tells less than the words do
    """

    words: tuple[str, ...]
    prefix: bool = False
    code: bool = False

    @property
    def terms(self) -> list[str]:
        """Its words that say something each for itself: not the ends of runs."""
        return [word for place, word in enumerate(self.words) if not _ends_run(self.words, place)]


def words_asked(query: str) -> list[Asked]:
    """Every word of a query as it stands; no sign in it means anything."""
    return [asked for asked in map(_asked, query.split()) if asked.words]


def _asked(text: str) -> Asked:
    """A word of a query as it is indexed, but for the end of its last run, which may go on in a text."""
    words = folded_words(text).split()
    if len(words) == 1 and len(words[0]) == 1 and is_run(words[0]):
        return Asked((words[0],), prefix=True)
    code = len(words) > 1 and _CODE.search(text.strip(_AROUND)) is not None
    return Asked(tuple(words[:-1] if words and _ends_run(words, len(words) - 1) else words), code=code)


def _ends_run(words: Sequence[str], place: int) -> bool:
    """Whether a word is the last character of the run whose pairs stand before it."""
    before, word = words[place - 1] if place else "", words[place]
    return len(word) == 1 and len(before) == 2 and before[1] == word and is_run(before)
