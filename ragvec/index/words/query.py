"""What a query asks of the words: each of its words, those that belong together in sequence, and what must or must not be.

A query is text, and no sign in it means anything, unless it is said to be in the query language:

    "in sequence"     must be there as it stands
    +word, -word      must, or must not, be there; so before anything that follows here
    title:word        must be in the title; title:"in sequence"
    begin*            any word that begins so
    wrod~             this word, or one that differs by a letter, or by two that have changed places

No query is wrong in that language: a sign with nothing behind it, or within a word, is text, as are `-5`, `-v` and options
of two hyphens.
"""

import re
from collections.abc import Sequence
from string import ascii_lowercase
from typing import Literal, NamedTuple

from ragvec.index.words.analysis import folded_words, is_run

MOST_SIGNS = 16  # words that a person gives a sign; a query of more is a text that someone has pasted
MOST_IN_SEQUENCE = 64  # words that one sign stands before; so is a query with more
LEAST_NEAR, MOST_NEAR = 3, 64  # letters of a word that others may be near to

_PART = re.compile(
    r'(?P<sign>[+\-−–]?)(?P<title>title:)?(?:"(?P<phrase>[^"]*)"|(?P<word>\S+))', re.IGNORECASE
)  # each begins where white space or a phrase has ended
_QUOTES = str.maketrans("“”„«»", '"' * 5)
_SIGNS = frozenset('"“”„«»+-−–:*~')
_TEXT_AFTER_SIGN = re.compile(r"[+\-−–\d]|[A-Za-z]$")  # --option, -5, -v
_ENDING = re.compile(r"(\w|\w\S*\w)([*~])")
_CODE = re.compile(r"[0-9_./:@\\]|^--?\w|[a-z][A-Z]")
_AROUND = "\"'`.,;:!?()[]{}<>…“”‘’"

Sign = Literal["", "+", "-"]


class Asked(NamedTuple):
    """A word of a query as it is indexed: one, or several in sequence.

    sign    "+" must be in a passage, "-" must not, "" should
    code    several that are meant in sequence too: `3.11.2`, `O_CLOEXEC`. In `well-known`, `Newton's` and
            runs of unspaced characters the sequence tells less than the words do
    exact   several that are asked for in sequence
    prefix  the last is a beginning of words
    near    words that differ by a letter are meant too, of those that `may_be_near`
    title   in the title alone
    """

    words: tuple[str, ...]
    sign: Sign = ""
    code: bool = False
    exact: bool = False
    prefix: bool = False
    near: bool = False
    title: bool = False

    @property
    def terms(self) -> list[str]:
        """Its words that say something each for itself: not the ends of runs, and no beginning."""
        words = self.words[:-1] if self.prefix else self.words
        return [word for place, word in enumerate(words) if not _ends_run(words, place)]


class WordQuery(NamedTuple):
    """A query's words. meaning: what it says without signs and without what must not be, for an encoder."""

    asked: tuple[Asked, ...]
    meaning: str

    @property
    def limits(self) -> tuple[Asked, ...]:
        """What must, or must not, be in a passage."""
        return tuple(one for one in self.asked if one.sign)


def read_query(query: str, *, syntax: bool = False) -> WordQuery:
    """A query's words; syntax: in the query language, not as the text it is."""
    if not syntax or _SIGNS.isdisjoint(query):
        return _plain(query)
    asked, signed, said = [], set(), []
    for part in _PART.finditer(query.translate(_QUOTES)):
        one, text = _signed(part)
        if one.sign != "-":
            said.append(text)
        if not one.words or one in signed:
            continue
        if one.sign or one.near or (one.prefix and not is_run(one.words[-1])):
            signed.add(one)
        if len(signed) > MOST_SIGNS or (one.sign and len(one.words) > MOST_IN_SEQUENCE):
            return _plain(query)
        asked.append(one)
    if all(one.sign == "-" for one in asked):  # nothing is asked for: the signs were not meant
        return _plain(query)
    return WordQuery(tuple(asked), " ".join(said))


def _plain(query: str) -> WordQuery:
    return WordQuery(tuple(one for one in map(_asked, query.split()) if one.words), query)


def _signed(part: re.Match[str]) -> tuple[Asked, str]:
    """A part of a query in the query language, and what it says."""
    sign: Sign = "" if not part["sign"] else "+" if part["sign"] == "+" else "-"
    title, phrase, word = part["title"] is not None, part["phrase"], part["word"]
    if phrase is not None:
        return _asked(phrase)._replace(sign=sign or "+", exact=True, code=False, title=title), phrase
    if sign and _TEXT_AFTER_SIGN.match(word):
        return _asked(part.group()), part.group()
    if title:
        sign = sign or "+"
    ending = _ENDING.fullmatch(word)
    if ending is None:
        return _asked(word)._replace(sign=sign, title=title), word
    one = _asked(ending[1].lower())
    if ending[2] == "*":
        one = one._replace(prefix=bool(one.words) and not _is_pair(one.words[-1]))
    else:
        one = one._replace(near=any(map(may_be_near, one.words)))
    return one._replace(sign=sign, title=title), ending[1]


def may_be_near(word: str) -> bool:
    """Whether words that differ by a letter may be meant by a word."""
    return LEAST_NEAR <= len(word) <= MOST_NEAR and not is_run(word)


def spellings(word: str) -> set[str]:
    """A word with a letter left out, put in or another, or with two that changed places; letters of English, and its own."""
    letters = {*ascii_lowercase, *word}
    cuts = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    near = {before + after[1:] for before, after in cuts} | {
        before + after[1:2] + after[:1] + after[2:] for before, after in cuts
    }
    for letter in letters:
        near |= {before + letter + after for before, after in cuts} | {before + letter + after[1:] for before, after in cuts}
    return near


def _asked(text: str) -> Asked:
    """A word or a phrase as it is indexed, but for the end of its last run, which may go on in a text."""
    words = folded_words(text).split()
    if len(words) == 1 and len(words[0]) == 1 and is_run(words[0]):
        return Asked((words[0],), prefix=True)
    code = len(words) > 1 and _CODE.search(text.strip(_AROUND)) is not None
    return Asked(tuple(words[:-1] if words and _ends_run(words, len(words) - 1) else words), code=code)


def _ends_run(words: Sequence[str], place: int) -> bool:
    """Whether a word is the last character of the run whose pairs stand before it."""
    before, word = words[place - 1] if place else "", words[place]
    return len(word) == 1 and _is_pair(before) and before[1] == word


def _is_pair(word: str) -> bool:
    return len(word) == 2 and is_run(word)
