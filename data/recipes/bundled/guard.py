"""Keep evaluation out of training: which texts match, or nearly match, a test or dev query or an STS sentence."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

_WORD = re.compile(r"[^\W_]+")
_SHINGLE = 8  # words in a row shared with a guarded text
_NEAR = 0.7  # Jaccard overlap of word pairs from which two short texts count as the same
_COMMON = 400  # word pairs that more guarded texts than this share say nothing
_SHORT = 60  # words; the overlap test is for texts of a query's size, the shingle test for all


class Guard:
    """The guarded texts, indexed by their words."""

    def __init__(self, guarded: Iterable[str]) -> None:
        self._pairs: list[set] = []
        self._exact: set[tuple[str, ...]] = set()
        self._shingles: set[tuple[str, ...]] = set()
        self._holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for text in guarded:
            words = normalise(text)
            if words and words not in self._exact:
                self._add(words)

    def __len__(self) -> int:
        return len(self._exact)

    def reason(self, text: str) -> str | None:
        """Why a training text must go: "exact", "shingle" or "near"; None if it may stay.

        exact    the same words as a guarded text, whatever case and punctuation
        shingle  eight words in a row of a guarded text
        near     of up to 60 words, and its word pairs overlap a guarded text's with a Jaccard index of 0.7 or more
        """
        words = normalise(text)
        if words in self._exact:
            return "exact"
        if any(shingle in self._shingles for shingle in _grams(words, _SHINGLE)):
            return "shingle"
        return "near" if len(words) <= _SHORT and self._is_near(words) else None

    def _add(self, words: tuple[str, ...]) -> None:
        self._exact.add(words)
        self._shingles.update(_grams(words, _SHINGLE))
        pairs = set(_grams(words, 2))
        for pair in pairs:
            self._holders[pair].append(len(self._pairs))
        self._pairs.append(pairs)

    def _is_near(self, words: tuple[str, ...]) -> bool:
        pairs = set(_grams(words, 2))
        shared = Counter(
            holder for pair in pairs if len(self._holders.get(pair, ())) <= _COMMON for holder in self._holders.get(pair, ())
        )
        return any(_jaccard(pairs, self._pairs[holder]) >= _NEAR for holder, _ in shared.most_common(20))


def normalise(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, without punctuation."""
    return tuple(_WORD.findall(text.lower()))


def _grams(words: tuple[str, ...], size: int) -> Iterable[tuple[str, ...]]:
    return (words[start : start + size] for start in range(len(words) - size + 1))


def _jaccard(left: set, right: set) -> float:
    return len(left & right) / len(left | right)
