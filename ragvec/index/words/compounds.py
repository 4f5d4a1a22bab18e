"""German compounds by their parts, from wordfreq's list of frequent words. An extra, for indices that ask for it.

    "Datenbankverbindung zur Firmenraststätte"   datenbank verbindung firmen raststatte

A word that is frequent itself is left whole (Autobahn), of others the parts stand beside it: so `Verbindung` finds the
compound, and the compound finds what speaks of a Verbindung. Which of 11,846 descriptions of Debian's packages a title belongs
to, MRR@10: .638 by stems, .649 with parts, .633 where frequent words are taken apart as well (`tests.bench.compounds`).
"""

import re
from functools import cache, lru_cache
from importlib.util import find_spec

from ragvec.errors import Unavailable
from ragvec.index.words.analysis import folded, folded_words

_FREQUENT = 100_000  # words that are left whole, and that others are made of
_SHORTEST_PART = 4  # letters
_SHORTEST, _LONGEST = 2 * _SHORTEST_PART, 60  # letters of a word that is looked at
_LINK = ("", "s", "n", "e", "en", "es", "er", "ns")  # what a part may end in before the next one
_LONG_WORD = re.compile(rf"[^\W\d_]{{{_SHORTEST},{_LONGEST}}}")
_KEPT = 50_000  # words whose parts are remembered


def compound_parts(text: str) -> list[str]:
    """The parts of a text's compounds, folded, in their order. Raises Unavailable without wordfreq."""
    return [part for word in folded_words(text).split() if len(word) >= _SHORTEST for part in _parts(word)]


def check_wordfreq() -> None:
    """Raises Unavailable where wordfreq is not installed; it is not loaded."""
    if find_spec("wordfreq") is None:
        raise Unavailable("German compounds need wordfreq: pip install 'ragvec[german]'")


@lru_cache(maxsize=_KEPT)
def _parts(word: str) -> tuple[str, ...]:
    """The fewest frequent words that make up a word, the most frequent of as few; none of a word that is frequent itself."""
    known = _ranks()
    if word in known or not _LONG_WORD.fullmatch(word):
        return ()
    best: dict[int, tuple[int, int, tuple[str, ...]]] = {0: (0, 0, ())}  # end → parts, sum of their ranks, parts before it
    for start in range(len(word) - _SHORTEST_PART + 1):
        if start not in best:
            continue
        count, ranks, before = best[start]
        for end in range(start + _SHORTEST_PART, len(word) + 1):
            rank = known.get(part := word[start:end])
            if rank is None:
                continue
            found = (count + 1, ranks + rank, (*before, part))
            for link in _LINK:
                reached = end + len(link)
                if word.startswith(link, end) and (reached < len(word) or not link):
                    best[reached] = min(found, best.get(reached, found))
    return best[len(word)][2] if len(word) in best else ()


@cache
def _ranks() -> dict[str, int]:
    """Frequent words, folded, and their places among them."""
    check_wordfreq()
    import wordfreq

    words = (folded(word) for word in wordfreq.top_n_list("de", _FREQUENT))
    ranks: dict[str, int] = {}
    for rank, word in enumerate(words):
        if len(word) >= _SHORTEST_PART and word.isalpha():
            ranks.setdefault(word, rank)
    return ranks
