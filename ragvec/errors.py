"""What a user can mend, as one family of exceptions, and the exit codes of the command line.

A class says what kind of trouble it is: over HTTP it becomes the status, so no text is ever looked into for that.
"""

import re

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_MOST_CHARACTERS = 300  # of another library's words in a message of ours
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # those of direction, too


class RagvecError(Exception):
    """Something the user can put right: the message says what, where and what to do, in one line."""

    status = 400  # of the HTTP response that reports it
    retry_after: int | None = None  # seconds after which the same request is worth another try
    exit_code = EXIT_FAILED


class WrongInput(RagvecError):
    """What was given can't be used: a damaged row, a folder that holds something else, vectors of another encoder."""


class NoDocuments(WrongInput):
    """A corpus is there and holds nothing to read: a folder's last file was removed, or its disk is not mounted."""


class WrongRow(WrongInput):
    """A row of a corpus can't be read, while those after it may be: whoever reads can leave such rows out."""


class WrongUsage(WrongInput):
    """The call itself is wrong, whatever the files and the machine: a value out of range, an unknown name, two arguments that
    exclude each other, a filter that doesn't parse, a recipe's key."""

    exit_code = EXIT_USAGE


class WrongType(WrongUsage, TypeError):
    """An argument is of another kind than the call takes, which Python calls a TypeError."""


class NotFound(RagvecError):
    """What was named is not there: a file, an index, a document, a model."""

    status = 404


class Busy(RagvecError):
    """Someone else holds it for now: the same call may succeed later."""

    status = 409
    retry_after = 1


class Changed(Busy):
    """What was being read has changed meanwhile: begun again, the same call sees it as it is now."""


class Unavailable(RagvecError):
    """The machine stands in the way, not what was asked: a full disk, a folder that can't be read, a process that failed."""

    status = 503
    retry_after = 1


class Damaged(RagvecError):
    """What was stored is not as ragvec writes it: it must be restored or made again."""

    status = 503


def without_controls(text: str) -> str:
    r"""A text without characters that a terminal would obey: they become \xNN."""
    return _CONTROLS.sub(lambda match: ascii(match.group())[1:-1], text)


def first_line(error: object) -> str:
    """The first line of an exception's or a warning's text that says anything; the name of its class if none does."""
    return _lines(error)[0][:_MOST_CHARACTERS]


def last_line(error: object) -> str:
    """The last such line, where others say only the place in a library's source."""
    return _lines(error)[-1][:_MOST_CHARACTERS]


def _lines(error: object) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
