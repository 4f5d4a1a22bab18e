"""What a store refuses, in one line of our own: its answers hold key ids, tokens and signed requests, and are never shown."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ragvec.errors import NotFound, RagvecError, Unavailable, WrongInput

_CODES = (re.compile(r"<Code>(\w{1,60})</Code>"), re.compile(r"status code: (\d{3})"))  # shown, so that one can look it up


@contextmanager
def told(place: str) -> Iterator[None]:
    """Turn obstore's errors into ours; place: the URL that was asked for.

    Raises NotFound, WrongInput where access is denied, and Unavailable; none has the store's words, not even as its cause.
    AlreadyExistsError passes.
    """
    from obstore import exceptions

    try:
        yield
    except exceptions.AlreadyExistsError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"{place} is not there{_code(error)}") from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise WrongInput(
            f"{place} is denied{_code(error)}: give credentials that may read and write there, by the environment"
        ) from None
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise _unavailable(place, error) from None


def _unavailable(place: str, error: Exception) -> RagvecError:
    return Unavailable(
        f"{place} is out of reach{_code(error)}: check the bucket's name, and address, region and credentials in the "
        "environment (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID …; AWS_ALLOW_HTTP=true for http://)"
    )


def _code(error: Exception) -> str:
    found = next(filter(None, (code.search(str(error)) for code in _CODES)), None)
    return f" ({found[1]})" if found else ""
