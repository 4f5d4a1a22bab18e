"""Sentences about everyday matters, made out of given ones: the teacher says what each means, so they needn't be true.

In place of a word stands another that follows the same word somewhere and ends alike, or some words are left out:
"a man is playing a guitar" gives "a man is slicing a guitar", "a man is playing", "a boy is playing a harp". A Korean word's
ending is its last syllable.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

_END, _MARK = re.compile(r"([.,;:!?]+)(?=\s|$)"), re.compile(r" ([.,;:!?]+)(?=\s|$)")
_ENDINGS = ("ing", "ed", "ly", "s")
_LEAST_LETTERS = 3  # shorter words hold a sentence together
_HANGUL = re.compile(r"[가-힣]{2,}")
_MOST_CHANGES = 3
_LEFT_OUT = 0.25  # share of the variants that lose words instead


class Variants:
    """Makes variants of sentences; what may stand after a word is read from all of them."""

    def __init__(self, sentences: Iterable[str], chance: random.Random) -> None:
        self._chance = chance
        self._after: dict[tuple[str, str], list[str]] = defaultdict(list)
        for sentence in sentences:
            words = _words(sentence)
            for left, word in zip(words, words[1:], strict=False):
                if _may_change(word):
                    self._after[left.lower(), _ending(word)].append(word)

    def of(self, sentence: str, count: int) -> Iterator[str]:
        """Up to `count` variants of a sentence, none of them the sentence itself."""
        words = _words(sentence)
        for _ in range(count):
            made = self._shorter(words) if self._chance.random() < _LEFT_OUT else self._changed(words)
            if made != words:
                yield _MARK.sub(r"\1", " ".join(made))

    def _changed(self, words: list[str]) -> list[str]:
        places = [place for place, word in enumerate(words) if place and _may_change(word)]
        made = list(words)
        for place in self._chance.sample(places, min(len(places), self._chance.randint(1, _MOST_CHANGES))):
            made[place] = self._chance.choice(self._after[words[place - 1].lower(), _ending(words[place])])
        return made

    def _shorter(self, words: list[str]) -> list[str]:
        first = self._chance.randrange(max(1, len(words) - _MOST_CHANGES))
        return words[:first] + words[first + self._chance.randint(1, _MOST_CHANGES) :]


def _words(sentence: str) -> list[str]:
    """Words, and the marks at their ends as words of their own."""
    return _END.sub(r" \1", sentence).split()


def _may_change(word: str) -> bool:
    return bool(_HANGUL.fullmatch(word)) or len(word) >= _LEAST_LETTERS and word.isalpha()


def _ending(word: str) -> str:
    if _HANGUL.fullmatch(word):
        return word[-1]
    return next((ending for ending in _ENDINGS if word.endswith(ending)), "")
