"""Queries with positives and hard negatives, as the field's tools write them: one row in, examples out.

Read are ragvec's own names, sentence-transformers' (anchor, positive, negative_1 …; sentence1, sentence2, label), Tevatron's
(query, positive_passages, negative_passages; query_text, positive_document_ids, negative_document_ids), FlagEmbedding's
(query, pos, neg, pos_scores, neg_scores, prompt), GritLM's (each text as [instruction, text]), and pointers into BEIR folders
(query, corpus, pos_id, neg_ids).
"""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeGuard

from ragvec.errors import RagvecError
from ragvec.records import Titled
from ragvec.train.data.pointers import NEGATIVE_IDS, POSITIVE_IDS, PointedTexts
from ragvec.train.data.reading import Columns

QUERY_FIELDS = ("query", "query_text", "anchor", "question", "sentence1", "sentence_A", "text1", "question1", "premise")
_PAIRED_FIELDS = ("sentence2", "sentence_B", "text2", "question2", "hypothesis")  # both texts are of a kind
POSITIVE_FIELDS = ("positive", "positives", "pos", "positive_passages", "answer", *_PAIRED_FIELDS)
NEGATIVE_FIELDS = ("negatives", "negative", "neg", "negative_passages", "negative_1")
SCORE_FIELDS = ("scores", "score", "label", "labels")
_MISSING = {
    "teacher": ("teacher's scores", 'distill needs them, or "teacher_vectors" in the config'),
    "graded": ("score", '"loss": "cosent" needs one in every row'),
}
_LABELS = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False,
           "entailment": True, "neutral": False, "contradiction": False}  # fmt: skip


# What a row's scores are for: a teacher's choice among one query's texts, or degrees that compare over all rows.
Scores = Literal["teacher", "graded"]


class Pair(NamedTuple):
    """What a row says of a query: texts that answer it, texts that don't, and scores of both, or none.

    alike: both texts are of a kind (sentence1, sentence2), rather than a query and a document
    prompt, document_prompt: the row's own instructions, None where it has none
    """

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    scores: tuple[float, ...] = ()
    alike: bool = False
    prompt: str | None = None
    document_prompt: str | None = None


def read_pair(row: dict[str, Any], place: str, pointed: PointedTexts, near: Path, *, scored: Scores | None = None) -> Pair:
    """The pair of a row. scored: the row must carry scores, and what for.

    Otherwise a text pair with a label is a positive (1) or a negative (0) and has no more than that.
    Raises RagvecError, with the row's place, for fields that are missing or of another kind.
    """
    row, prompt, document_prompt = _without_prompts(row, place)
    query = _text(row[_field(row, QUERY_FIELDS, place)], place, "query")
    if "pos_id" in row or POSITIVE_IDS in row:
        positives, negatives = pointed.resolve(row, place, near=near)
    else:
        name = _field(row, POSITIVE_FIELDS, place)
        positives, negatives = _texts(row[name], place, name), _negatives(row, place)
    if not query or not positives:
        raise RagvecError(f"{place}: empty {'positive' if query else 'query'}: remove the row")
    if scored:
        alike = any(name in row for name in _PAIRED_FIELDS)
        pair = Pair(query, positives, negatives, alike=alike, prompt=prompt, document_prompt=document_prompt)
        return _with_scores(pair, row, place, scored)
    label = None if negatives else next((name for name in _label_fields(row) if name in row), None)
    if label and not _label(row[label], place):
        return Pair(query, (), positives)
    kept = tuple(text for text in negatives if text)
    return Pair(query, positives, kept, prompt=prompt, document_prompt=document_prompt)


def _without_prompts(row: dict[str, Any], place: str) -> tuple[dict[str, Any], str | None, str | None]:
    """A row with its texts alone, and the instructions that stood before query and documents (None: the row has none).

    FlagEmbedding's `prompt` is the query's. GritLM writes a text as [instruction, text], and lists of those.
    """
    prompt = row.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        raise RagvecError(f"{place}: field 'prompt' must be a string, not {prompt!r:.60}")
    found: dict[str, set[str]] = {"query": set(), "document": set()}
    plain = dict(row)
    for names, side in ((QUERY_FIELDS, "query"), ((*POSITIVE_FIELDS, *NEGATIVE_FIELDS), "document")):
        for name in names:
            value = row.get(name)
            if side == "query" and _is_prompted(value):
                found[side].add(value[0])
                plain[name] = value[1]
            elif side == "document" and isinstance(value, list) and value and all(map(_is_prompted, value)):
                found[side] |= {lead for lead, _ in value}
                plain[name] = [text for _, text in value]
    for side, leads in found.items():
        if len(leads) > 1:
            raise RagvecError(f"{place}: {len(leads)} instructions for the {side}s of one row: give all of them the same")
    query, document = (next(iter(leads), None) for leads in found.values())
    return plain, prompt if query is None else query, document


def _is_prompted(value: Any) -> TypeGuard[list[str]]:
    """Whether this is GritLM's [instruction, text]."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def pair_columns(names: Sequence[str], scored: Scores | None) -> Columns:
    """What read_pair reads of a row with values in these columns."""
    used, missed = ["prompt"], list[str]()
    parts: list[tuple[str, ...]] = [QUERY_FIELDS]
    if "pos_id" in names or POSITIVE_IDS in names:
        used += ["corpus", *(("pos_id", "neg_ids") if "pos_id" in names else (POSITIVE_IDS, NEGATIVE_IDS))]
    else:
        parts += [POSITIVE_FIELDS, NEGATIVE_FIELDS]
    if scored and {"pos_scores", "neg_scores"} <= {*names}:
        used += ["pos_scores", "neg_scores"]
    elif scored:
        parts.append(SCORE_FIELDS)
    for part in parts:
        found = next((name for name in part if name in names), None)
        if found is None:
            missed += part
        else:
            used.append(found)
    if "negative_1" in used:
        used += [name for name in names if _is_numbered(name)]
    elif not scored and not {*used} & {*NEGATIVE_FIELDS, "neg_ids", NEGATIVE_IDS}:
        used += [name for name in _label_fields(names) if name in names][:1]
    return Columns(frozenset(used), tuple(missed))


def _is_numbered(name: str) -> bool:
    return name.startswith("negative_") and name[9:].isdigit()


def _with_scores(pair: Pair, row: dict[str, Any], place: str, kind: Scores) -> Pair:
    """The pair with a score for its positive and each negative; a teacher's margins (positive less negative) are scores too.

    Without negatives a teacher's choice has nothing to tell the positive from: nothing is left of the pair.
    """
    if kind == "teacher" and not pair.negatives:
        return Pair(pair.query, (), ())
    if len(pair.positives) != 1:
        raise RagvecError(f"{place}: {len(pair.positives)} positives: where scores are learned, make a row of each")
    if "pos_scores" in row and "neg_scores" in row:
        given = [*_numbers(row["pos_scores"], place, "pos_scores"), *_numbers(row["neg_scores"], place, "neg_scores")]
    else:
        name = next((name for name in SCORE_FIELDS if name in row), None)
        if name is None:
            what, why = _MISSING[kind]
            raise RagvecError(
                f"{place}: no {what} (looked for {', '.join(SCORE_FIELDS)}, or pos_scores and neg_scores; "
                f"fields seen: {_seen(row)}): {why}"
            )
        given = _numbers(row[name], place, name)
    if kind == "teacher" and len(given) == len(pair.negatives):
        given = [0.0, *(-margin for margin in given)]
    if len(given) != 1 + len(pair.negatives):
        raise RagvecError(f"{place}: {len(given)} scores for a positive and {len(pair.negatives)} negatives: give one for each")
    kept = [(text, score) for text, score in zip(pair.negatives, given[1:], strict=True) if text]
    scores = (given[0], *(score for _, score in kept))
    return pair._replace(negatives=tuple(text for text, _ in kept), scores=scores)


def _negatives(row: dict[str, Any], place: str) -> tuple[str, ...]:
    """Empty ones included, since scores may count them."""
    name = next((name for name in NEGATIVE_FIELDS if row.get(name) is not None), None)
    if name is None:
        return ()
    if name == "negative_1":
        names = sorted(filter(_is_numbered, row), key=lambda one: int(one[9:]))
        return tuple(_text(row[name], place, name) for name in names)
    return _texts(row[name], place, name, keep_empty=True)


def _texts(value: Any, place: str, name: str, *, keep_empty: bool = False) -> tuple[str, ...]:
    """A text, or a list of them; a text may be an object with title and text."""
    values = value if isinstance(value, list) else [value]
    texts = tuple(_text(one, place, name, several=True) for one in values)
    return texts if keep_empty else tuple(text for text in texts if text)


def _text(value: Any, place: str, name: str, *, several: bool = False) -> str:
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        title = value.get("title")
        value = Titled(title, value["text"]) if isinstance(title, str) and title.strip() else value["text"]
    if not isinstance(value, str):
        kinds = "a string or a list of strings" if several else "a string"
        raise RagvecError(f"{place}: field {name!r} must be {kinds}, not {value!r:.60}")
    return value if value.strip() else ""


def _numbers(value: Any, place: str, name: str) -> list[float]:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    try:
        numbers = [float(one) for one in values]
    except (TypeError, ValueError) as error:
        raise RagvecError(f"{place}: field {name!r} must be a number or a list of numbers, not {value!r:.60}") from error
    if not all(map(math.isfinite, numbers)):
        raise RagvecError(f"{place}: field {name!r} is not finite ({value!r:.60}): remove the row")
    return numbers


def _label_fields(row: Collection[str]) -> tuple[str, ...]:
    """Where a pair's label may stand: a score beside a query and a positive is no label."""
    return ("label", "score") if any(name in row for name in _PAIRED_FIELDS) else ("label",)


def _label(value: Any, place: str) -> bool:
    label = _LABELS.get(str(value).lower())
    if label is None:
        raise RagvecError(
            f"{place}: label {value!r:.40} is neither 1 (the texts belong together) nor 0: make it one, or set "
            '"loss": "cosent", which learns from degrees'
        )
    return label


def _field(row: dict[str, Any], names: tuple[str, ...], place: str) -> str:
    field = next((name for name in names if name in row), None)
    if field is None:
        raise RagvecError(f"{place}: no {names[0]} field (looked for {', '.join(names)}; fields seen: {_seen(row)})")
    return field


def _seen(row: dict[str, Any]) -> str:
    return f"{', '.join(map(str, row)) or 'none':.200}"
