r"""Filters such as `year >= 2020 and lang in $langs`: parsed here, answered by SQLite with every name and value bound.

    filter      = term { "or" term }            term  = factor { "and" factor }
    factor      = "not" factor | "(" filter ")" | comparison
    comparison  = field ("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=") value
                | field ["not"] "in" ( "(" value { "," value } ")" | $name ) | field "is" ["not"] "null"
                | field ["not"] ( "like" | "starts" "with" ) ( string | $name )
    field       = name | `name in backquotes`   value = "string" | 'string' | number | true | false | date | $name
    date        = 2024-03-01 | 2024-03-01T09:00 | 2024-03-01T09:00:00.5+09:00 | … (ISO 8601)

A name with dots reaches into nested objects, and into those of a list, unless a field is named so. A list matches if one of its
elements does. Where both sides are dates they are compared as instants, to the millisecond, also if the filter quotes its own:
a time without a zone is UTC's, a date alone its first moment. With a date that is not quoted only dates are compared.
$name stands for a value, or after `in` for a list of them, that is given apart from the filter and never read as part of it.
In `like`, % stands for any characters and _ for one; \% and \_ for themselves. Both it and `starts with` mind letter case.
A comparison is true or false, never unknown: a passage without the field fails it, and "!=" is the opposite of "=".
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from ragvec.arguments import text as check_text
from ragvec.arguments import where_names, where_text
from ragvec.errors import RagvecError, WrongUsage
from ragvec.index.conditions import (
    COLUMNS,
    DEEPEST_PATH,
    UNFIT,
    Comparison,
    Date,
    FieldCondition,
    Filter,
    Joined,
    Not,
    Value,
    compared,
    is_column,
    is_date,
    is_in,
    is_like,
    starts_with,
)
from ragvec.records import FilterValue, FilterValues

# What a filter costs: a tenth of a second to read one of the greatest length, and for each comparison, but for each value of a
# list hardly more than for one, a look at every passage.
LONGEST = 1_000_000  # characters
MOST_VALUES = 100_000  # given apart from the filter
MOST_COMPARISONS = 400  # SQLite refuses expressions nested deeper than 1,000
DEEPEST = 50
SHOWN_FIELDS = 40

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<date>\d{4}-\d\d-\d\d(?:T[\d:.]+(?:Z|[+-]\d\d:\d\d)?)?(?![\w.:+-]))
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<quoted>`[^`]+`)
    | \$(?P<given>[^\W\d]\w*)
    | (?P<name>[^\W\d][\w.-]*)
    | (?P<sign><=|>=|<>|!=|==|[=<>(),])
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_SIGNS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_KEYWORDS = {"and", "or", "not", "in", "like", "is", "null", "true", "false"}


class WrongFilter(WrongUsage):
    """A filter that can't be read. column: where in its text, from 1."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.column = column


class _Token(NamedTuple):
    kind: str
    text: str
    place: int

    @property
    def keyword(self) -> str:
        return self.text.lower() if self.kind == "name" and self.text.lower() in _KEYWORDS else ""


def parse_where(text: str, fields: Collection[str], values: FilterValues | None = None) -> Filter:
    """The filter that a text describes.

    fields  the metadata fields there are; COLUMNS may be named too
    values  what each $name in it stands for
    Raises RagvecError, with the column, for a syntax error, for a field that is none of them and for a $name without a value;
    and for a value that no $name asks for.
    """
    where_text(text)
    if len(text) > LONGEST:
        raise WrongUsage(f"the filter is {len(text):,} characters long: {LONGEST:,} are allowed; give values as $name")
    return _Parser(text, fields, checked_values(values)).parse()


def parse_field(name: str, fields: Collection[str]) -> tuple[str, ...]:
    """The field that a name means in a filter, by its names from the outside in. Raises WrongInput if no passage has it."""
    path = tuple(check_text("field", name).split("."))
    nested = len(path) > 1 and all(path) and len(path) <= DEEPEST_PATH and path[0] in fields
    if UNFIT.search(name) or not (nested or name in fields or name in COLUMNS):
        raise WrongUsage(f"no field {name!r:.60}; there are {_listed({*fields, *COLUMNS})}")
    return (name,) if name in fields or name in COLUMNS else path


def checked_values(values: FilterValues | None) -> dict[str, FilterValue | list[FilterValue]]:
    """The values for a filter's names. Raises WrongInput for what is none: texts, numbers, true, false, and lists of these."""
    checked: dict[str, FilterValue | list[FilterValue]] = {}
    for name, value in where_names({} if values is None else values).items():
        if isinstance(value, (list, tuple, set, frozenset)):
            checked[name] = [_scalar(name, one) for one in value]
        else:
            checked[name] = _scalar(name, value)
    total = sum(len(value) if isinstance(value, list) else 1 for value in checked.values())
    if total > MOST_VALUES:
        raise WrongUsage(f"{total:,} values are given for a filter: {MOST_VALUES:,} are allowed")
    return checked


def _scalar(name: str, value: Any) -> FilterValue:
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise WrongUsage(f"the value of ${name} is {value!r:.60}: give a text, a number, true, false, or a list of these")
    # SQLite's integers have 64 bits, its JSON keeps others as floats
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


class _Parser:
    """A recursive descent over the tokens of one filter."""

    def __init__(self, text: str, fields: Collection[str], values: Mapping[str, FilterValue | list[FilterValue]]) -> None:
        self.text = text
        self.values = values
        self.used: set[str] = set()
        self.fields = {*fields, *COLUMNS}
        self.tokens = _tokens(text)
        self.next = 0
        self.comparisons = 0

    def parse(self) -> Filter:
        node = self._any(0)
        if self._token.kind != "end":
            raise self._expected("and, or, or the end")
        unused = sorted(map(str, self.values.keys() - self.used))
        if unused:
            raise WrongUsage(f"a value is given for ${unused[0]:.60}, which the filter does not name")
        return node

    @property
    def _token(self) -> _Token:
        return self.tokens[self.next]

    def _any(self, depth: int) -> Filter:
        return self._chain("or", lambda: self._chain("and", lambda: self._factor(depth)))

    def _chain(self, word: str, operand: Callable[[], Filter]) -> Filter:
        nodes = [operand()]
        while self._take_keyword(word):
            nodes.append(operand())
        return Joined(word, tuple(nodes)) if len(nodes) > 1 else nodes[0]

    def _factor(self, depth: int) -> Filter:
        if depth > DEEPEST:
            raise self._error(f"nested deeper than {DEEPEST}")
        if self._take_keyword("not"):
            return Not(self._factor(depth + 1))
        if self._take_sign("("):
            node = self._any(depth + 1)
            if not self._take_sign(")"):
                raise self._expected('")"')
            return node
        return self._comparison()

    def _comparison(self) -> Filter:
        self.comparisons += 1
        if self.comparisons > MOST_COMPARISONS:
            raise self._error(f"more than {MOST_COMPARISONS} comparisons; lists of values go into field in (…)")
        field = self._field()
        if self._take_keyword("is"):
            negated = self._take_keyword("not")
            if not self._take_keyword("null"):
                raise self._expected("null")
            return FieldCondition(field, None) if negated else Not(FieldCondition(field, None))
        negated, dates = self._take_keyword("not"), not is_column(field)
        if self._take_keyword("in"):
            said = Comparison("in", self._list())
            condition = is_in(said.value, dates=dates)
        elif self._take_keyword("like"):
            said = Comparison("like", self._raw_string())
            condition = is_like(said.value)
        elif self._take_starts_with():
            said = Comparison("starts with", self._string())
            condition = starts_with(said.value)
        elif not negated and self._token.text in _SIGNS:
            sign = _SIGNS[self._token.text]
            self.next += 1
            negated = sign == "!="
            said = Comparison("=" if negated else sign, self._value())
            condition = compared(said.sign, said.value, dates=dates)
        else:
            words = "in, like or starts with"
            raise self._expected(words if negated else "=, !=, <, <=, >, >=, in, like, starts with or is")
        comparison = FieldCondition(field, condition, said)
        return Not(comparison) if negated else comparison

    def _field(self) -> tuple[str, ...]:
        token = self._token
        if token.kind not in ("name", "quoted") or token.keyword:
            raise self._expected("a field")
        self.next += 1
        name = token.text.strip("`")
        if UNFIT.search(name):
            raise self._error("a field's name can't hold quotes, backslashes or control characters", token)
        if name in self.fields:
            return (name,)
        path = tuple(name.split("."))
        if token.kind == "name" and len(path) > 1 and all(path) and path[0] in self.fields - set(COLUMNS):
            if len(path) > DEEPEST_PATH:
                raise self._error(f"a field of more than {DEEPEST_PATH} names", token)
            return path
        raise self._error(f"no field {name}; there are {_listed(self.fields)}", token)

    def _list(self) -> list[Value]:
        if self._token.kind == "given":
            value = self._given()
            return value if isinstance(value, list) else [value]
        if not self._take_sign("("):
            raise self._expected('"("')
        values = [self._value()]
        while self._take_sign(","):
            values.append(self._value())
        if not self._take_sign(")"):
            raise self._expected('"," or ")"')
        return values

    def _value(self) -> Value:
        token = self._token
        if token.kind == "given":
            value: FilterValue | list[FilterValue] = self._given()
            if isinstance(value, list):
                raise self._error(f"${token.text} is a list of values, which `in` alone takes", token)
            return value
        if token.kind in ("number", "date"):
            self.next += 1
            return _number(token.text) if token.kind == "number" else self._date(token)
        if token.keyword in ("true", "false"):
            self.next += 1
            return token.keyword == "true"
        if token.keyword == "null":
            raise self._error("null is asked for by `field is null`")
        if token.kind == "name":
            raise self._expected(f'a value (texts are quoted: "{token.text}")')
        return self._string("a value")

    def _given(self) -> Any:
        token = self._token
        if token.text not in self.values:
            raise self._error(f"no value is given for ${token.text}")
        self.next += 1
        self.used.add(token.text)
        return self.values[token.text]

    def _date(self, token: _Token) -> Date:
        if not is_date(token.text):
            raise self._error(f"{token.text} is no date such as 2024-03-01 or 2024-03-01T09:00:00+09:00", token)
        return Date(token.text)

    def _string(self, what: str = "a quoted text") -> str:
        if self._token.kind == "given":
            return self._given_text()
        return re.sub(r"\\(.)", r"\1", self._raw_string(what), flags=re.DOTALL)

    def _raw_string(self, what: str = "a quoted text") -> str:
        """What stands between the quotes, backslashes included."""
        if self._token.kind == "given":
            return self._given_text()
        if self._token.kind != "string":
            raise self._expected(what)
        self.next += 1
        return self.tokens[self.next - 1].text[1:-1]

    def _given_text(self) -> str:
        token, value = self._token, self._given()
        if not isinstance(value, str):
            raise self._error(f"${token.text} must be a text here", token)
        return value

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
        token = self._token
        found = "the end" if token.kind == "end" else f"${token.text}" if token.kind == "given" else token.text
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
        tokens.append(_Token(kind, match.group(kind), match.start(kind) - (kind == "given")))
        place = match.end()
    return tokens


def _error(text: str, place: int, message: str) -> RagvecError:
    shown = " ".join(text.split()) if len(text) <= 200 else f"{' '.join(text[:200].split())} …"
    return WrongFilter(f"the filter is wrong at column {place + 1}: {message}; in: {shown}", place + 1)


def _listed(names: Collection[str]) -> str:
    ordered = [*sorted(set(names) - set(COLUMNS)), *COLUMNS]
    return ", ".join(ordered[:SHOWN_FIELDS]) + (
        f" and {len(ordered) - SHOWN_FIELDS} more" if len(ordered) > SHOWN_FIELDS else ""
    )


def _number(text: str) -> int | float:
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    return float(text)
