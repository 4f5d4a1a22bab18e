"""What a user can mend, as one family of exceptions, and the exit codes of the command line.

A class says what kind of trouble it is: over HTTP it becomes the status, so no text is ever looked into for that.
"""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class RagvecError(Exception):
    """Something the user can put right: the message says what, where and what to do, in one line."""

    status = 400  # of the HTTP response that reports it
    exit_code = EXIT_FAILED


class WrongInput(RagvecError):
    """What was given can't be used: a value out of range, a filter that doesn't parse, vectors of another encoder."""


class NotFound(RagvecError):
    """What was named is not there: a file, an index, a document, a model."""

    status = 404


class Busy(RagvecError):
    """Someone else holds it for now: the same call may succeed later."""

    status = 409


class Damaged(RagvecError):
    """What was stored is not as ragvec writes it: it must be restored or made again."""

    status = 503
