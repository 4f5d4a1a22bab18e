"""The words of a text, folded so that the ways of writing one word meet: the same for what is indexed and what is asked.

A text becomes words with spaces between them; their places are what phrases are looked for by. What they are stemmed by is
the language's own affair (`ragvec.index.words.language`).

    "The CVE-2021-44228 of Łódź, Ёлка"   the cve 2021 44228 of lodz елка
    HTTPSConnectionPool                  httpsconnectionpool https connection pool: found by its parts and by the whole
    C++, C#                              cplusplus, csharp
    데이터베이스                            데이 이터 터베 베이 이스 스

Runs of Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese are cut into overlapping pairs of characters, so that a word of
two syllables is found inside a longer one. The last character of a run is a word as well: then every character begins one,
and a query of one character is a search for beginnings.
"""

import re
import unicodedata
from collections.abc import Iterator

_PAIRED = (  # scripts that are searched by pairs of characters: most write no spaces, and Korean glues particles to words
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_PAIRED}]+")
# White space, ASCII punctuation and the punctuation blocks; marks and vowel signs are no separators.
_SEPARATORS = (
    r"\s\x00-/:-@\[-`{-\xa9\xab-\xb1\xb4\xb6-\xb8\xbb\xbf\u055a-\u055f\u0589\u05be\u05c0\u05c3\u05c6\u05f3\u05f4\u060c\u061b\u061f"
    r"\u066a-\u066d\u06d4\u0964\u0965\u0970\u2000-\u206f\u20a0-\u20cf\u2190-\u2bff\u2e00-\u2e7f"
    r"\u3000-\u3004\u3008-\u3020\u3030\u3036\u3037\u303d-\u303f\ud800-\udfff\ufd3e\ufd3f"
)
_SEPARATOR = re.compile(f"[{_SEPARATORS}]+")
_TERM = re.compile(f"[{_PAIRED}]+|[^{_SEPARATORS}{_PAIRED}]+")

_ASCII_WORDS = bytes(byte if chr(byte).isalnum() and byte < 128 else 32 for byte in range(256)).lower()

# Characters that are not seen: soft hyphens, zero-width spaces and joiners, marks of direction, variation selectors.
_UNSEEN = re.compile("[\xad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e01ff]+")
# Letters that are written with and without what is above or below them: accents of Latin, Greek and Cyrillic (й stays what it
# is: a letter of its own, and an ending), Hebrew points, Arabic vowel signs, hamza and tatweel, the nukta of Indic scripts.
_MARKED = re.compile(r"[\xaa-\u024f\u0300-\u052f\u0590-\u06ff\u0750-\u077f\u0900-\u0dff\u1e00-\u1fff]|[^\D0-9]")
_MARKS = re.compile(
    "(?<![\u0418\u0438])\u0306|[\u0300-\u0305\u0307-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640"
    "\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u093c\u09bc\u0a3c\u0abc\u0b3c\u0cbc]+"
)
_LETTERS = {
    **{letter: plain for plain, letters in (("d", "đð"), ("l", "ł"), ("o", "ø"), ("h", "ħ"), ("i", "ı")) for letter in letters},
    **{"æ": "ae", "œ": "oe", "þ": "th", "\u0671": "\u0627", "\u0649": "\u064a", "\u0629": "\u0647", "\u06a9": "\u0643"},
    **{"\u06cc": "\u064a", "\u0901": "\u0902", "\u0981": "\u0982", "\u0a01": "\u0a02", "\u0a81": "\u0a82"},
}
_LETTER = re.compile(f"[{''.join(_LETTERS)}]")
_DIGIT = re.compile(r"[^\D0-9]")
_ARTICLE = re.compile("(?<![\u0600-\u06ff])(?:[\u0648\u0628\u0643\u0641]?\u0627\u0644|\u0644\u0644)(?=[\u0600-\u06ff]{3})")

# Names in code: words run together, told apart by capitals; and names of languages that end in signs.
_SHAPES = bytes(ord("a") if chr(byte).islower() else ord("A") if chr(byte).isupper() else 32 for byte in range(128)).ljust(256)
_RUN_TOGETHER = re.compile("[A-Za-z0-9]*(?:[a-z][A-Z]|[A-Z]{2}[a-z])[A-Za-z0-9]*")
_PART = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SIGNED = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]{1,12})\+\+(?![A-Za-z0-9+])|(?<![A-Za-z0-9&#])([A-Za-z])#(?![A-Za-z0-9#])")

_STOPWORDS = """
    a about above after again against all also am among an and any are as at be because been before being below between both
    but by can could did do does doing down during each few for from further had has have having he her here hers him his how i
    if in into is it its itself just may me might more most my myself no nor not now of off on once only or other our ours out
    over own same shall she should so some such than that the their theirs them then there these they this those through to too
    under until up upon very was we were what when where whether which while who whom whose why will with would you your yours
"""
STOPWORDS = frozenset(_STOPWORDS.split())


def folded_words(text: str) -> str:
    """The text's words as they are indexed, with one space or more between them, before any is stemmed."""
    text = _with_names(text)
    if text.isascii():
        return text.encode().translate(_ASCII_WORDS).decode()
    text = _SEPARATOR.sub(" ", folded(text))
    return _RUN.sub(lambda run: f" {' '.join([*pairs(run.group()), run.group()[-1]])} ", text)


def folded(text: str) -> str:
    """The text with everything folded away that words are not told apart by: case, forms, marks, what can't be seen."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).casefold()
    if not _MARKED.search(text):
        return text
    text = _MARKS.sub("", unicodedata.normalize("NFKD", text))
    text = _LETTER.sub(lambda letter: _LETTERS[letter.group()], unicodedata.normalize("NFC", text))
    return _DIGIT.sub(lambda digit: str(unicodedata.digit(digit.group())), _ARTICLE.sub("", text))


def query_words(query: str) -> list[str]:
    """The words of a query that matter, to be shown in a text: no function words; of unspaced runs, the pairs too."""
    words: list[str] = []
    for term in _TERM.findall(folded(query)):
        words.extend([term, *pairs(term)] if is_run(term) else [term])
    words = list(dict.fromkeys(words))
    return [word for word in words if word not in STOPWORDS] or words


def terms(text: str) -> Iterator[re.Match[str]]:
    """The terms of a text as it stands: words, and runs of scripts that are searched by pairs of characters."""
    return _TERM.finditer(text)


def is_run(term: str) -> bool:
    """Whether a term is a run that is searched by pairs of characters."""
    return _RUN.fullmatch(term) is not None


def pairs(run: str) -> list[str]:
    """The overlapping pairs of characters of a run."""
    return [run[start : start + 2] for start in range(len(run) - 1)]


def _with_names(text: str) -> str:
    """The text with names of code taken apart: `getUserId` as `getUserId get User Id`, C++ as cplusplus."""
    shape = text.encode("ascii", "replace").translate(_SHAPES)
    if b"aA" in shape or b"AAa" in shape:  # a pattern takes thirty times as long to find that there is none
        text = _RUN_TOGETHER.sub(lambda name: f"{name.group()} {' '.join(_PART.findall(name.group()))} ", text)
    if "+" in text or "#" in text:
        text = _SIGNED.sub(lambda name: f"{name[1]}plusplus" if name[1] else f"{name[2]}sharp", text)
    return text
