"""The one exception that a user can mend, and the exit codes of the command line."""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class RagvecError(Exception):
    """Something the user can put right: the message says what, where and what to do, in one line."""
