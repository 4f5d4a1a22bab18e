r"""Filters such as `year >= 2020 and lang = "ko"`: parsed here, answered by SQLite with every name and value bound.

    filter      = term { "or" term }            term  = factor { "and" factor }
    factor      = "not" factor | "(" filter ")" | comparison
    comparison  = field ("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=") value
                | field ["not"] "in" "(" value { "," value } ")" | field "is" ["not"] "null"
                | field ["not"] "like" string | field ["not"] "starts" "with" string
    field       = name | `name in backquotes`   value = "string" | 'string' | number | true | false

A name with dots reaches into nested objects unless a field is named so. A list matches if one of its elements does.
In `like`, % stands for any characters and _ for one; \% and \_ for themselves. Both it and `starts with` mind letter case.
A comparison is true or false, never unknown: a passage without the field fails it, and "!=" is the opposite of "=".
"""

import json
import re
import sys
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from ragvec.errors import RagvecError, WrongInput

COLUMNS = ("doc_id", "passage_id", "title", "text")
LONGEST = 20_000  # characters
MOST_COMPARISONS = 400  # SQLite refuses expressions nested deeper than 1,000
DEEPEST = 50
LONGEST_GLOB = 50_000  # SQLite's own limit, in bytes
SHOWN_FIELDS = 40

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<quoted>`[^`]+`)
    | (?P<name>[^\W\d][\w.-]*)
    | (?P<sign><=|>=|<>|!=|==|[=<>(),])
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
Sql = tuple[str, list[Any]]  # a condition on rows of the table of passages, with question marks, and what they stand for
_SIGNS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_KEYWORDS = {"and", "or", "not", "in", "like", "is", "null", "true", "false"}
_TEXT = "t = 'text' AND v"
_AS_TEXT = "t IN ('text', 'integer', 'real') AND CAST(v AS TEXT)"
# what a text must look like to be compared with a number, since CSV files and people write numbers as texts
_NUMERIC = "v GLOB '[0-9.+-]*' AND v NOT GLOB '*[^0-9.eE+-]*'"


class _Token(NamedTuple):
    kind: str
    text: str
    place: int

    @property
    def keyword(self) -> str:
        return self.text.lower() if self.kind == "name" and self.text.lower() in _KEYWORDS else ""


def parse_where(text: str, fields: Collection[str]) -> Sql:
    """The filter that a text describes, as SQL.

    fields  the metadata fields there are; COLUMNS may be named too
    Raises RagvecError, with the column, for a syntax error and for a field that is none of them.
    """
    if not isinstance(text, str):
        raise TypeError("where must be a string such as 'year >= 2020'")
    if len(text) > LONGEST:
        raise WrongInput(f"the filter is {len(text):,} characters long: {LONGEST:,} are allowed")
    return _Parser(text, fields).parse()


class _Parser:
    """A recursive descent over the tokens of one filter."""

    def __init__(self, text: str, fields: Collection[str]) -> None:
        self.text = text
        self.fields = {*fields, *COLUMNS}
        self.tokens = _tokens(text)
        self.next = 0
        self.comparisons = 0

    def parse(self) -> Sql:
        sql, values = self._any(0)
        if self._token.kind != "end":
            raise self._expected("and, or, or the end")
        return sql, values

    @property
    def _token(self) -> _Token:
        return self.tokens[self.next]

    def _any(self, depth: int) -> Sql:
        return self._chain("or", lambda: self._chain("and", lambda: self._factor(depth)))

    def _chain(self, word: str, operand: Callable[[], Sql]) -> Sql:
        parts: list[str] = []
        values: list[Any] = []
        while True:
            sql, more = operand()
            parts.append(sql)
            values += more
            if self._token.keyword != word:
                return (f"({f' {word.upper()} '.join(parts)})" if len(parts) > 1 else sql), values
            self.next += 1

    def _factor(self, depth: int) -> Sql:
        if depth > DEEPEST:
            raise self._error(f"nested deeper than {DEEPEST}")
        if self._take_keyword("not"):
            sql, values = self._factor(depth + 1)
            return f"NOT {sql}", values
        if self._take_sign("("):
            sql, values = self._any(depth + 1)
            if not self._take_sign(")"):
                raise self._expected('")"')
            return sql, values
        return self._comparison()

    def _comparison(self) -> Sql:
        self.comparisons += 1
        if self.comparisons > MOST_COMPARISONS:
            raise self._error(f"more than {MOST_COMPARISONS} comparisons; lists of values go into field in (…)")
        field = self._field()
        if self._take_keyword("is"):
            negated = self._take_keyword("not")
            if not self._take_keyword("null"):
                raise self._expected("null")
            sql, values = _present(field)
            return (sql if negated else f"NOT {sql}"), values
        negated = self._take_keyword("not")
        if self._take_keyword("in"):
            condition = _in(self._list())
        elif self._take_keyword("like"):
            condition = _like(self._raw_string())
        elif self._take_starts_with():
            condition = _starts_with(self._string())
        elif not negated and self._token.text in _SIGNS:
            sign = _SIGNS[self._token.text]
            self.next += 1
            negated = sign == "!="
            condition = _compared("=" if negated else sign, self._value())
        else:
            words = "in, like or starts with"
            raise self._expected(words if negated else "=, !=, <, <=, >, >=, in, like, starts with or is")
        sql, values = _holds(field, *condition)
        return (f"NOT {sql}" if negated else sql), values

    def _field(self) -> tuple[str, ...]:
        token = self._token
        if token.kind not in ("name", "quoted") or token.keyword:
            raise self._expected("a field")
        self.next += 1
        name = token.text.strip("`")
        if re.search(r'["\\\x00-\x1f]', name):
            raise self._error("a field's name can't hold quotes, backslashes or control characters", token)
        if name in self.fields:
            return (name,)
        path = tuple(name.split("."))
        if token.kind == "name" and len(path) > 1 and all(path) and path[0] in self.fields - set(COLUMNS):
            return path
        raise self._error(f"no field {name}; there are {_listed(self.fields)}", token)

    def _list(self) -> list[Any]:
        if not self._take_sign("("):
            raise self._expected('"("')
        values = [self._value()]
        while self._take_sign(","):
            values.append(self._value())
        if not self._take_sign(")"):
            raise self._expected('"," or ")"')
        return values

    def _value(self) -> Any:
        token = self._token
        if token.kind == "number":
            self.next += 1
            return _number(token.text)
        if token.keyword in ("true", "false"):
            self.next += 1
            return token.keyword == "true"
        if token.keyword == "null":
            raise self._error("null is asked for by `field is null`")
        if token.kind == "name":
            raise self._expected(f'a value (texts are quoted: "{token.text}")')
        return self._string("a value")

    def _string(self, what: str = "a quoted text") -> str:
        return re.sub(r"\\(.)", r"\1", self._raw_string(what), flags=re.DOTALL)

    def _raw_string(self, what: str = "a quoted text") -> str:
        """What stands between the quotes, backslashes included."""
        if self._token.kind != "string":
            raise self._expected(what)
        self.next += 1
        return self.tokens[self.next - 1].text[1:-1]

    def _take_starts_with(self) -> bool:
        """These two words are no keywords: fields may be named so."""
        two = [token.text.lower() for token in self.tokens[self.next : self.next + 2] if token.kind == "name"]
        self.next += 2 * (two == ["starts", "with"])
        return two == ["starts", "with"]

    def _take_keyword(self, word: str) -> bool:
        return self._take(self._token.keyword == word)

    def _take_sign(self, sign: str) -> bool:
        return self._take(self._token.kind == "sign" and self._token.text == sign)

    def _take(self, wanted: bool) -> bool:
        self.next += wanted
        return wanted

    def _expected(self, what: str) -> RagvecError:
        found = "the end" if self._token.kind == "end" else self._token.text
        return self._error(f"expected {what}, found {found}")

    def _error(self, message: str, token: _Token | None = None) -> RagvecError:
        return _error(self.text, (token or self._token).place, message)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    place = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, place)
        if match is None:
            place += len(text[place:]) - len(text[place:].lstrip())
            quote = text[place] in "\"'`"
            raise _error(
                text, place, f"this {text[place]} is never closed" if quote else f"can't read {text[place : place + 12]!r}"
            )
        kind = match.lastgroup
        assert kind is not None  # each alternative is a named group
        tokens.append(_Token(kind, match.group(kind), match.start(kind)))
        place = match.end()
    return tokens


def _error(text: str, place: int, message: str) -> RagvecError:
    shown = " ".join(text.split()) if len(text) <= 200 else f"{' '.join(text[:200].split())} …"
    return WrongInput(f"the filter is wrong at column {place + 1}: {message}; in: {shown}")


def _listed(names: Collection[str]) -> str:
    ordered = [*sorted(set(names) - set(COLUMNS)), *COLUMNS]
    return ", ".join(ordered[:SHOWN_FIELDS]) + (
        f" and {len(ordered) - SHOWN_FIELDS} more" if len(ordered) > SHOWN_FIELDS else ""
    )


def _number(text: str) -> int | float:
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    return float(text)


def _compared(sign: str, value: Any) -> Sql:
    """A condition on a value v of JSON type t, and what its question mark stands for."""
    if isinstance(value, bool):
        return f"t IN ('true', 'false') AND v {sign} ?", [int(value)]
    if isinstance(value, str):
        return f"{_AS_TEXT} {sign} ?", [value]
    return f"(t IN ('integer', 'real') OR t = 'text' AND {_NUMERIC}) AND CAST(v AS NUMERIC) {sign} ?", [value]


def _like(pattern: str) -> Sql:
    """The condition that a value fits a pattern, by GLOB: SQLite's LIKE takes A for a."""
    glob = re.sub(r"\\(.)|(.)", _glob_part, pattern, flags=re.DOTALL)
    if len(glob.encode("utf-8", "surrogatepass")) > LONGEST_GLOB:
        raise RagvecError(f"the pattern of like is too long: {LONGEST_GLOB:,} bytes are allowed")
    return f"{_TEXT} GLOB ?", [glob]


def _glob_part(part: re.Match[str]) -> str:
    escaped, plain = part.groups()
    if plain in ("%", "_"):
        return "*" if plain == "%" else "?"
    char = escaped or plain
    return f"[{char}]" if char in "*?[" else char


def _starts_with(prefix: str) -> Sql:
    """The condition that a value begins so, as a range of texts, in which SQLite can look doc_id and passage_id up."""
    stem = prefix.rstrip(chr(sys.maxunicode))
    if not stem:
        return f"{_TEXT} >= ?", [prefix]
    after = ord(stem[-1]) + 1
    end = stem[:-1] + chr(
        0xE000 if after == 0xD800 else after
    )  # texts are compared as UTF-8, which surrogates have no place in
    return f"{_TEXT} >= ? AND {_TEXT} < ?", [prefix, end]


def _in(values: list[Any]) -> Sql:
    """The condition that a value is one of a list, which may be of several kinds and very long."""
    parts = [_compared("=", value) for value in dict.fromkeys(value for value in values if isinstance(value, bool))]
    for kind in (str, (int, float)):
        some = [value for value in values if isinstance(value, kind) and not isinstance(value, bool)]
        if some:
            sql, _ = _compared("IN", some[0])
            parts.append((sql.replace("?", "(SELECT value FROM json_each(?))"), [json.dumps(some)]))
    if len(parts) == 1:
        return parts[0]
    return " OR ".join(f"({sql})" for sql, _ in parts), [value for _, more in parts for value in more]


def _holds(field: tuple[str, ...], condition: str, values: list[Any]) -> Sql:
    """SQL that is true where the field's value, or one of a list's elements, meets the condition, and else false."""
    for text in (_AS_TEXT, _TEXT):
        if _is_column(field) and condition.startswith(text):  # SQLite can look it up: doc_id and passage_id are indexed
            return f"({condition.replace(text, field[0])})", values
    if _is_column(field):
        return f"EXISTS (SELECT 1 FROM (SELECT {field[0]} AS v, 'text' AS t) WHERE {condition})", values
    path = _path(field)
    element = "SELECT value AS v, type AS t FROM json_each(metadata, ?)"
    no_object = "coalesce(json_type(metadata, ?), '') <> 'object'"
    return f"({no_object} AND EXISTS (SELECT 1 FROM ({element}) WHERE {condition}))", [path, path, *values]


def _present(field: tuple[str, ...]) -> Sql:
    if _is_column(field):
        return f"({field[0]} <> '')", []
    return "(coalesce(json_type(metadata, ?), 'null') <> 'null')", [_path(field)]


def _is_column(field: tuple[str, ...]) -> bool:
    return len(field) == 1 and field[0] in COLUMNS


def _path(field: tuple[str, ...]) -> str:
    return "$" + "".join(f'."{name}"' for name in field)
