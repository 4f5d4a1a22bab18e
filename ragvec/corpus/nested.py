"""Fields within fields: `doc.text` is the text of the object doc, or of each object in a list of that name."""

from collections.abc import Sequence
from typing import Any


def named(fields: dict[str, Any], name: str) -> tuple[str, ...]:
    """The steps to a field, letter case aside; none if it is not there. A field whose own name has dots comes first."""
    spelled = {key.lower(): key for key in reversed(fields)}
    if (own := spelled.get(name.lower())) is not None:
        return (own,)
    steps = tuple(name.split("."))
    first = spelled.get(steps[0].lower())
    return (first, *steps[1:]) if first is not None and len(steps) > 1 and inner(fields[first], steps[1:]) is not None else ()


def inner(value: Any, steps: Sequence[str]) -> Any:
    """What lies some steps within a value; of a list what lies in each of its objects; None if nothing does."""
    if not steps:
        return value
    if isinstance(value, list):
        found = [within for one in value if (within := inner(one, steps)) is not None]
        return [part for one in found for part in (one if isinstance(one, list) else [one])] or None
    if not isinstance(value, dict):
        return None
    return next((inner(value[key], steps[1:]) for key in value if str(key).lower() == steps[0].lower()), None)


def without(value: Any, steps: Sequence[str]) -> Any:
    """A value as it is but for what lies some steps within it; the value itself stays."""
    if isinstance(value, list):
        return [without(one, steps) for one in value]
    if not isinstance(value, dict):
        return value
    first = steps[0].lower()
    kept = {}
    for key, within in value.items():
        if str(key).lower() != first:
            kept[key] = within
        elif len(steps) > 1:
            kept[key] = without(within, steps[1:])
    return kept
