"""What a corpus file's reader gives: a place for error messages, and the fields found there."""

from typing import Any, NamedTuple


class BadRow(NamedTuple):
    """A row that can't be read while those after it can: why (place included), and what stands there (None: too much)."""

    error: str
    record: Any


Row = tuple[str, dict[str, Any] | BadRow]  # ("corpus.jsonl, line 17", {"_id": …, "text": …})
