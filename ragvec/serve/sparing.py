"""A log that clients can't fill: a line that they can bring about is written now and then, with how often it came."""

import logging
import time

EVERY_S = 60.0


class Sparing(logging.Filter):
    """Of the lines that one place in the code logs, lets one through in so many seconds; the next says what was left out."""

    def __init__(self, seconds: float = EVERY_S) -> None:
        super().__init__()
        self._seconds = seconds
        self._told: dict[tuple[str, int], float] = {}
        self._untold: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; one that follows others of its place that were not counts them."""
        place, now = (record.pathname, record.lineno), time.monotonic()
        if place in self._told and now - self._told[place] < self._seconds:
            self._untold[place] = self._untold.get(place, 0) + 1
            return False
        self._told[place] = now
        if untold := self._untold.pop(place, 0):
            record.msg, record.args = f"{record.getMessage()} ({untold:,} more since the last such line)", None
        return True


_SPARING = Sparing()  # one for the process, as the loggers are


def log_sparingly() -> None:
    """Have uvicorn and asyncio, which log a line for a client's every mistake, do so sparingly."""
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(_SPARING)  # which adds it once
