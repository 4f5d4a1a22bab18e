"""One line of an examination: what was looked at, what was found, and what to do about it."""

from typing import NamedTuple

OK, ADVICE, FAILED = "ok", "advice", "failed"


class Check(NamedTuple):
    """state: ok; advice = it works, and could work better; failed = results are or will be wrong. remedy is "" where ok."""

    area: str
    name: str
    state: str
    found: str
    remedy: str = ""


def judged(area: str, name: str, good: bool, found: str, *, remedy: str, otherwise: str = FAILED) -> Check:
    """A check that is ok if `good`, and `otherwise` (failed or advice) with the remedy."""
    return Check(area, name, OK, found) if good else Check(area, name, otherwise, found, remedy=remedy)
