"""What a store refuses, in one line of our own: its answers hold key ids, tokens and signed requests, and are never shown."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ragvec.errors import NotFound, RagvecError, Unavailable, WrongInput

# shown, so that one can look it up; NotPartial: obstore's own, of a store that gives no byte ranges
_CODES = (re.compile(r"<Code>(\w{1,60})</Code>"), re.compile(r"status code: (\d{3})"), re.compile(r"source: (NotPartial)"))
_NAME = re.compile(r'Path "(.*?)"(?: contained|: Encountered)', re.DOTALL)


@contextmanager
def told(place: str) -> Iterator[None]:
    """Turn obstore's errors into ours; place: the URL that was asked for.

    Raises NotFound, Unavailable, and WrongInput for a name that can't be; none has the store's words, not even as its cause.
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
        raise Unavailable(
            f"{place} is denied{_code(error)}: give credentials that may read and write there, by the environment"
        ) from None
    except exceptions.InvalidPathError as error:
        raise WrongInput(
            f"{place} holds an object that can't be read{_named(error)}: no part of a name may be empty, . or .., or hold a "
            "control character: rename or remove it"
        ) from None
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise _unavailable(place, error) from None


def _unavailable(place: str, error: Exception) -> RagvecError:
    return Unavailable(
        f"{place} is out of reach{_code(error)}: check the bucket's name, and address, region and credentials in the "
        "environment (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID …; AWS_ALLOW_HTTP=true for http://)"
    )


def _named(error: Exception) -> str:
    found = _NAME.search(str(error))
    return f", {found[1]!r:.200}" if found else ""


def _code(error: Exception) -> str:
    found = next(filter(None, (code.search(str(error)) for code in _CODES)), None)
    return f" ({found[1]})" if found else ""
