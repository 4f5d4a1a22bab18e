"""Other frameworks' filters against an index: what they mean there they mean here, and no value gets out of its quotes."""

import math

import numpy as np
import pytest

from ragvec.encoder import Encoder
from ragvec.errors import RagvecError, WrongInput
from ragvec.index import Index
from ragvec.integrations.filters import from_dict, from_haystack, narrowed
from ragvec.records import Document
from ragvec.retrieve import Request, Retriever

ODD = [
    '"',
    "\\",
    '\\"',
    "'",
    '" or 1=1 or lang = "',
    '\\" or 1=1',
    "a\nb",
    "`",
    "a`b",
    "(",
    '") or (lang = "en',
    "%",
    "서울",
    " ",
]
ROWS = [
    {"lang": "en", "year": 2019, "tags": ["a", "b"], "ok": True},
    {"lang": "ko", "year": 2020, "tags": ["b"], "price": 1.5},
    {"lang": "ko", "year": 2022, "author": {"name": "Kim"}, "odd name!": 1, "ok": False},
    {"year": -5, "and": "word"},
]


@pytest.fixture(scope="module")
def index(tiny_decoder, tmp_path_factory):
    rows = [*ROWS, *({"odd": text} for text in ODD)]
    with Index.create(tmp_path_factory.mktemp("filters") / "index", encoder=Encoder.load(tiny_decoder)) as index:
        index.add([Document(str(n), "words", metadata=row) for n, row in enumerate(rows)])
        yield index


def matching(index: Index, where: str) -> set[int]:
    with index.reading() as view:
        return {int(number) - 1 for number in view.matching(where)}


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ({"lang": "en"}, {0}),
        ({"lang": "ko", "year": 2020}, {1}),
        ({"year": {"$gt": 2019}}, {1, 2}),
        ({"year": {"$gte": 2019, "$lt": 2022}}, {0, 1}),
        ({"year": {"$lte": -5}}, {3}),
        ({"year": {"$between": [2019, 2020]}}, {0, 1}),
        ({"lang": {"$eq": "ko"}}, {1, 2}),
        ({"year": {"$in": [2019, np.int64(2022)]}}, {0, 2}),
        ({"year": {"$in": []}}, set()),
        ({"$and": [{"year": {"$exists": True}}, {"lang": {"$ne": "ko"}}]}, {0, 3}),
        ({"$and": [{"year": {"$gt": 0}}, {"year": {"$nin": [2019, 2020]}}]}, {2}),
        ({"year": {"$gt": 0}, "lang": {"$nin": []}}, {0, 1, 2}),
        ({"$or": [{"lang": "en"}, {"year": 2022}]}, {0, 2}),
        ({"$or": [{"lang": "en"}, {"$and": [{"lang": "ko"}, {"year": {"$lt": 2021}}]}]}, {0, 1}),
        ({"$not": {"year": {"$lt": 3000}}}, set(range(4, 4 + len(ODD)))),
        ({"year": {"$not": {"$lt": 2020}, "$exists": True}}, {1, 2}),
        ({"tags": "b"}, {0, 1}),
        ({"tags": {"$in": ["a", "c"]}}, {0}),
        ({"ok": True}, {0}),
        ({"ok": False}, {2}),
        ({"price": 1.5}, {1}),
        ({"price": {"$lt": np.float64(1e300)}}, {1}),
        ({"author.name": "Kim"}, {2}),
        ({"odd name!": {"$exists": True}}, {2}),
        ({"and": "word"}, {3}),
        ({"lang": None, "year": {"$ne": None}}, {3}),
        ({"doc_id": "2"}, {2}),
        ({}, set(range(4 + len(ODD)))),
    ],
    ids=str,
)
def test_dictionaries(index, given, rows):
    assert matching(index, from_dict(given)) == rows


@pytest.mark.parametrize("text", ODD)
def test_a_value_stays_a_value(index, text):
    row = {4 + ODD.index(text)}
    assert matching(index, from_dict({"odd": text})) == row
    assert matching(index, from_dict({"odd": {"$in": [text, "none"]}})) == row
    assert matching(index, from_haystack({"field": "meta.odd", "operator": "==", "value": text})) == row
    assert matching(index, from_dict({"odd": text, "lang": "en"})) == set()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lang": {"$regex": "e"}}, r"unknown operator '\$regex'"),
        ({"$where": "1=1"}, r"unknown operator \$where"),
        ({"lang": ["en"]}, "can't be compared"),
        ({"year": math.nan}, "can't be compared"),
        ({"year": {"$gt": None}}, "can't be compared"),
        ({"year": {"$gt": math.inf}}, "can't be compared"),
        ({"lang": {"$in": "en"}}, "a list of values is needed"),
        ({"year": {"$between": [1]}}, "a list of 2 values is needed"),
        ({"$or": []}, "needs a list of filters"),
        ({"$and": {"lang": "en"}}, "needs a list of filters"),
        ({"$or": ["lang"]}, "a filter is a dictionary"),
        ({"$not": "lang"}, "a filter is a dictionary"),
        ("lang = 'en'", "a filter is a dictionary"),
        (str.lower, "a filter is a dictionary"),
        ({'lang" or "1': "en"}, "can't be a field"),
        ({"lang` or `lang": "en"}, "can't be a field"),
        ({"": "en"}, "can't be a field"),
        ({1: "en"}, "can't be a field"),
    ],
    ids=str,
)
def test_wrong_dictionaries(given, message):
    with pytest.raises(WrongInput, match=message):
        from_dict(given)


def test_a_name_is_no_more_than_a_name(index):
    for name in ("lang = 1 or lang", "lang) or (lang", "1=1 or lang"):
        with pytest.raises(RagvecError, match="no field|the filter is wrong"):
            matching(index, from_dict({name: "en"}))


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ({"field": "meta.lang", "operator": "==", "value": "en"}, {0}),
        ({"field": "lang", "operator": "in", "value": ["en", "ko"]}, {0, 1, 2}),
        ({"field": "id", "operator": "==", "value": "2"}, {2}),
        ({"field": "meta.author.name", "operator": "!=", "value": None}, {2}),
        (
            {
                "operator": "AND",
                "conditions": [
                    {"field": "meta.year", "operator": ">=", "value": 2019},
                    {"operator": "OR", "conditions": [
                        {"field": "meta.lang", "operator": "==", "value": "en"},
                        {"field": "meta.year", "operator": "not in", "value": [2020]},
                    ]},
                ],
            },
            {0, 2},
        ),
        (
            {"operator": "NOT", "conditions": [{"field": "meta.year", "operator": "<", "value": 3000}]},
            set(range(4, 4 + len(ODD))),
        ),
    ],
)  # fmt: skip
def test_haystacks_filters(index, given, rows):
    assert matching(index, from_haystack(given)) == rows


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"field": "meta.lang", "operator": "like", "value": "e%"}, "unknown operator 'like' for field lang"),
        ({"operator": "XOR", "conditions": []}, "unknown operator 'XOR'"),
        ({"field": "lang"}, "needs field, operator and value"),
        ([], "a filter is a dictionary"),
    ],
)
def test_wrong_haystack_filters(given, message):
    with pytest.raises(WrongInput, match=message):
        from_haystack(given)


def test_a_where_holds_beside_a_filter_and_cannot_break_out(index):
    retriever = Retriever(index)
    asked = Request(query="fox", where='lang = "ko" or lang = "en"', mode="lexical")
    both = narrowed(retriever, asked, from_dict({"year": 2019}))
    assert both.where is not None and matching(index, both.where) == {0} and both.mode == "lexical"
    assert narrowed(retriever, asked, None) == asked
    with pytest.raises(RagvecError, match="the filter is wrong at column"):
        narrowed(retriever, Request(query="fox", where="year = 1) or (year > 0"), from_dict({"lang": "en"}))
