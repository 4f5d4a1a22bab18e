"""What a query asks of the words: which should, must and must not be there, which in sequence."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ragvec.index.words.analysis import folded_words, is_run

_CLAUSE = re.compile(r'(?P<sign>[+\-−–]?)(?P<field>title:)?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+))', re.IGNORECASE)
_CODE = re.compile(r"[0-9_./:@\\]|^--?\w|[a-z][A-Z]")
_AROUND = "\"'`.,;:!?()[]{}<>…“”‘’"
_QUOTES = str.maketrans("“”„«»「」『』", '"' * 9)


class Clause(NamedTuple):
    """A word or phrase of a query, folded: one word or several in sequence.

    sign    "+" must be there, "-" must not, "" should
    title   in the title alone
    prefix  the last is a beginning of a word
    exact   the words are asked for in sequence or not at all; else each counts by itself
    code    and more in sequence: `3.11.2`, `O_CLOEXEC`, `--long-option` mean that sequence; in `well-known`, `Newton's` and
            runs of unspaced characters it tells less than the words do (nDCG@10 .003 to .015 lower on four sets of papers)
    """

    words: tuple[str, ...]
    sign: str = ""
    title: bool = False
    prefix: bool = False
    exact: bool = False
    code: bool = False

    @property
    def terms(self) -> list[str]:
        """Its words that say something each for itself: not the ends of runs."""
        return [word for place, word in enumerate(self.words) if not _ends_run(self.words, place)]


class WordQuery(NamedTuple):
    """A query's words. meaning: what it says without the signs of the query language, for an encoder."""

    clauses: tuple[Clause, ...]
    meaning: str

    @property
    def limits(self) -> bool:
        """Whether it says what must, or must not, be in a passage."""
        return any(clause.sign for clause in self.clauses)


def plain_query(query: str) -> WordQuery:
    """Every word of a query as it stands; no sign means anything."""
    clauses = [_clause(word) for word in query.split()]
    return WordQuery(tuple(clause for clause in clauses if clause.words), query)


def parse_query(query: str) -> WordQuery:
    """A query in the query language: "in sequence", +must, -must not, title:word, begin*. Nothing is a wrong query.

    A sign with nothing behind it, or within a word, means nothing: e-mail, C++ and words that begin with two hyphens are words.
    """
    clauses, meaning = [], []
    for match in _CLAUSE.finditer(query.translate(_QUOTES)):
        sign = {"": "", "+": "+"}.get(match["sign"], "-")
        body = match["phrase"] if match["word"] is None else match["word"]
        if sign and match["word"] and (body[0] in "+-−–" or body[0].isdigit()):  # --option, -5
            sign = ""
        exact = match["word"] is None
        prefix = not exact and len(body) > 1 and body.endswith("*")
        clause = _clause(body)._replace(title=bool(match["field"]), exact=exact, prefix=prefix)
        if not clause.words:
            continue
        clauses.append(clause._replace(sign="+" if exact and not sign else sign))
        if sign != "-":
            meaning.append(body.rstrip("*") if prefix else body)
    if all(clause.sign == "-" for clause in clauses):  # nothing is asked for: the signs were not meant
        return plain_query(query)
    return WordQuery(tuple(clauses), " ".join(meaning))


def _clause(text: str) -> Clause:
    """A word or phrase of a query as it is indexed, but for the end of its last run, which may go on in a text."""
    words = folded_words(text).split()
    if len(words) == 1 and len(words[0]) == 1 and is_run(words[0]):
        return Clause((words[0],), prefix=True)
    code = len(words) > 1 and _CODE.search(text.strip(_AROUND)) is not None
    return Clause(tuple(words[:-1] if words and _ends_run(words, len(words) - 1) else words), code=code)


def _ends_run(words: Sequence[str], place: int) -> bool:
    """Whether a word is the last character of the run whose pairs stand before it."""
    before, word = words[place - 1] if place else "", words[place]
    return len(word) == 1 and len(before) == 2 and before[1] == word and is_run(before)
