"""Words for lexical search: what SQLite's FTS5 is given to index, and the expression it is asked to match.

FTS5 splits and stems what is written with spaces (porter, diacritics removed). Runs of Chinese, Japanese, Korean, Thai, Lao,
Khmer and Burmese are cut into overlapping pairs of characters here, before FTS5 sees them, so that a two-syllable word is found
inside a longer one; FTS5's own trigram tokenizer can't find anything shorter than three characters. The last character of a run
is indexed alone as well: a query of one character is a prefix search, and every character then starts some indexed term.
"""

import re
import unicodedata
from collections.abc import Iterator

TOKENIZER = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"

_PAIRED = (  # scripts that are searched by pairs of characters: most write no spaces, and Korean glues particles to words
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_PAIRED}]+")
# White space, ASCII punctuation and the punctuation blocks. Whatever else FTS5 takes for a separator turns a term into a
# phrase of its parts, which still matches; splitting where FTS5 doesn't would lose words (Indic vowel signs, for one).
_SEPARATORS = (
    r"\s\x00-/:-@\[-`{-\xa9\xab-\xb1\xb4\xb6-\xb8\xbb\xbf\u2000-\u206f"
    r"\u3000-\u3004\u3008-\u3020\u3030\u3036\u3037\u303d-\u303f\ud800-\udfff"
)
_TERM = re.compile(f"[{_PAIRED}]+|[^{_SEPARATORS}{_PAIRED}]+")

_STOPWORDS = """
    a about above after again against all also am among an and any are as at be because been before being below between both
    but by can could did do does doing down during each few for from further had has have having he her here hers him his how i
    if in into is it its itself just may me might more most my myself no nor not now of off on once only or other our ours out
    over own same shall she should so some such than that the their theirs them then there these they this those through to too
    under until up upon very was we were what when where whether which while who whom whose why will with would you your yours
"""
STOPWORDS = frozenset(_STOPWORDS.split())


def indexed_terms(text: str) -> str:
    """The text as FTS5 should index it: normalised, with runs of scripts without spaces cut into pairs of characters."""
    if text.isascii():
        return text
    return _RUN.sub(lambda run: f" {' '.join(_pairs(run.group()) + [run.group()[-1]])} ", _normalised(text))


def match_expression(query: str) -> str:
    """The FTS5 expression that matches any word of a query; empty if the query holds none.

    Every term is quoted, so nothing in a query is ever read as FTS5 syntax. English function words are left out unless the
    query has no others.
    """
    words = list(dict.fromkeys(_query_terms(query)))
    telling = [word for word in words if word.strip('"') not in STOPWORDS]
    return " OR ".join(telling or words)


def query_words(query: str) -> list[str]:
    """The words of a query that matter, to be shown in a text: no function words; of unspaced runs, the pairs too."""
    words: list[str] = []
    for term in _TERM.findall(_normalised(query)):
        words.extend([term, *_pairs(term)] if _RUN.fullmatch(term) else [term])
    words = list(dict.fromkeys(words))
    return [word for word in words if word not in STOPWORDS] or words


def terms(text: str) -> Iterator[re.Match[str]]:
    """The terms of a text as it stands: words, and runs of scripts that are searched by pairs of characters."""
    return _TERM.finditer(text)


def is_run(term: str) -> bool:
    """Whether a term is a run that is searched by pairs of characters."""
    return _RUN.match(term) is not None


def folded(term: str) -> str:
    """A word of a text as `query_words` spells those of a query."""
    return term.lower() if term.isascii() else _normalised(term)


def _query_terms(query: str) -> list[str]:
    terms = []
    for match in _TERM.finditer(_normalised(query)):
        term = match.group()
        if not _RUN.fullmatch(term):
            terms.append(f'"{term}"')
        elif len(term) == 1:
            terms.append(f'"{term}"*')
        else:
            terms.extend(f'"{pair}"' for pair in _pairs(term))
    return terms


def _pairs(run: str) -> list[str]:
    return [run[start : start + 2] for start in range(len(run) - 1)]


def _normalised(text: str) -> str:
    """Compatibility forms, decomposed Hangul and letter case folded away."""
    return unicodedata.normalize("NFKC", text).casefold()
