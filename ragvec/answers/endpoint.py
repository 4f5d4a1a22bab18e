"""An endpoint that speaks OpenAI's chat API: where it is, what it has, and what is wrong when it does not answer.

Nothing is sent anywhere but to the address that was named: no redirection is followed, and so the key goes with none.
"""

import re
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson

from ragvec.errors import Unavailable, WrongUsage, first_line

CONNECT_S = 10.0
TIMEOUT_S = 300.0  # a model on a CPU reads a long prompt for minutes before its first word
MOST_JSON = 8 << 20  # bytes of a list of models
MOST_ERROR = 64 << 10
_NO_CHAT = re.compile(r"embed|rerank|bge|whisper|tts", re.I)  # models that lists hold beside language models
WRONG_PLACE = "is this its address? It mostly ends in /v1"


class EndpointFailed(Unavailable):
    """The endpoint does not answer, or not with an answer. `public` is the message without its address."""

    def __init__(self, address: str, what: str) -> None:
        super().__init__(f"{address} {what}")
        self.public = f"the language model's endpoint {what}"


class Refused(EndpointFailed):
    """It answered with an error. code: its HTTP status; parameter: what of the request it names as wrong, if anything."""

    def __init__(self, address: str, what: str, *, code: int, parameter: str | None) -> None:
        super().__init__(address, what)
        self.code = code
        self.parameter = parameter


class Endpoint:
    """Where a language model is asked."""

    def __init__(
        self, base_url: str, *, api_key: str | None = None, model: str | None = None, timeout: float = TIMEOUT_S
    ) -> None:
        """base_url: such as http://localhost:11434/v1. Nothing is asked yet.

        api_key  sent as a bearer token to this address alone; None or "" = none
        model    None or "" = the first that the endpoint lists
        timeout  seconds without a byte after which it counts as dead
        Raises WrongInput for what can't be an address, a key or a time.
        """
        self._parts = _parts(base_url)
        self._key = _checked_key(api_key)
        self._model = model or None
        if not timeout > 0:
            raise WrongUsage(f"timeout is {timeout}: give a number of seconds above 0")
        self.timeout = timeout

    @property
    def address(self) -> str:
        """Where it is, without a slash at the end."""
        return self._parts.geturl()

    def models(self) -> list[str]:
        """The names of the models that it lists. Raises EndpointFailed."""
        with closing(self.request("GET", "/models")) as response:
            try:
                return [str(model["id"]) for model in orjson.loads(response.read(MOST_JSON))["data"]]
            except (OSError, HTTPException) as error:
                raise self.failed(f"broke off its list of models ({first_line(error)})") from error
            except (ValueError, LookupError, TypeError):
                raise self.failed(f"gives no list of models: {WRONG_PLACE}") from None

    def model(self) -> str:
        """The model that is asked: the one named, or the first that is listed and can chat. Raises EndpointFailed."""
        if self._model is None:
            names = self.models()
            if not names:
                raise self.failed("lists no model: load one there, or name one with `model`")
            self._model = next((name for name in names if not _NO_CHAT.search(name)), names[0])
        return self._model

    def request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        on_connected: Callable[[socket.socket], Any] = lambda connected: None,
    ) -> HTTPResponse:
        """The response of status 200 to a request, of which no more than the head has been read.

        on_connected  told the socket before anything is sent, so that another thread can end it
        Raises EndpointFailed; Refused where the answer is an error.
        """
        connection = self._connected()
        headers = {"accept": "application/json, text/event-stream", "connection": "close"}
        headers |= {"authorization": f"Bearer {self._key}"} if self._key else {}
        headers |= {} if body is None else {"content-type": "application/json"}
        try:
            on_connected(connection.sock)
            connection.request(method, self._parts.path + path, None if body is None else orjson.dumps(body), headers)
            response = connection.getresponse()
            if response.status == 200:
                return response
            with response:
                raise self._refusal(response)
        except TimeoutError as error:
            raise self.failed(self.silent) from error
        except (OSError, HTTPException) as error:
            raise self.failed(f"hung up ({first_line(error)})") from error
        finally:
            if connection.sock is not None:
                connection.sock.close()  # whose end is the response's: it has a hold of its own on it

    def unknown_model(self, refused: Refused) -> EndpointFailed:
        """What a refusal means: that there is no such model, where the list of models says so."""
        if refused.code not in (400, 404):
            return refused
        try:
            names = self.models()
        except EndpointFailed:
            return refused if refused.code != 404 else self.failed(f"has no chat ({refused.code}): {WRONG_PLACE}")
        if self._model in names or not names:
            return refused
        shown = ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")
        return self.failed(f"has no model {self._model!r}: name one of {shown:.300}")

    def failed(self, what: str) -> EndpointFailed:
        """An error that names the address."""
        return EndpointFailed(self.address, what)

    @property
    def silent(self) -> str:
        """What is said of an endpoint that sends nothing."""
        return f"sent nothing for {self.timeout:g} s: give a longer `timeout`, or ask a smaller model"

    def _connected(self) -> HTTPConnection:
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=CONNECT_S)
        try:
            connection.connect()
        except TimeoutError as error:
            raise self.failed(f"is not reached within {CONNECT_S:g} s: is this its address?") from error
        except ssl.SSLCertVerificationError as error:
            raise self.failed(f"has a certificate that can't be trusted ({error.verify_message})") from error
        except ssl.SSLError as error:
            raise self.failed(f"speaks no TLS ({error.reason}): does its address begin with http://?") from error
        except OSError as error:
            raise self.failed(f"does not answer ({error.strerror or first_line(error)}): start it, or name another") from error
        connection.sock.settimeout(self.timeout)
        return connection

    def _refusal(self, response: HTTPResponse) -> EndpointFailed:
        code = response.status
        if 300 <= code < 400:
            target = urlsplit(response.headers.get("location", ""))
            place = f"{target.scheme}://{target.netloc.rpartition('@')[2]}{target.path}" if target.netloc else target.path
            advice = "which nothing is sent to: name that address if it is right"
            return self.failed(f"sends elsewhere ({code}), to {place!r:.200}, {advice}")
        if code == 401:
            return self.failed(f"{'refuses the' if self._key else 'wants an'} API key (401): give one that it knows")
        message, parameter = _told(response.read(MOST_ERROR))
        told = f": {self._without_key(message)}" if message else ""
        match code:
            case 403:
                return self.failed(f"does not allow this (403){told}")
            case 429:
                return self.failed(f"has too much to do, or its limit is reached (429){told}")
        return Refused(self.address, f"answers {code}{told}", code=code, parameter=parameter)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "…") if self._key else text


def _parts(base_url: str) -> SplitResult:
    """An address taken apart. Raises WrongInput for one that is none, or holds what an address of an API does not."""
    advice = "give it like http://localhost:11434/v1"
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError as error:
        raise WrongUsage(f"the endpoint's address is no URL ({error}): {advice}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise WrongUsage(f"the endpoint's address is {base_url!r:.200}: {advice}")
    if parts.username is not None or parts.query or parts.fragment:
        raise WrongUsage(f"the endpoint's address holds more than host and path: {advice}, and the key apart")
    if not base_url.isascii() or re.search(r"[\s\x00-\x1f\x7f\\]", base_url):
        raise WrongUsage(f"the endpoint's address is {base_url!r:.200}, which holds what no URL may: {advice}")
    return parts._replace(path=parts.path.rstrip("/"))


def _checked_key(key: str | None) -> str | None:
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise WrongUsage("the API key holds white space, or characters beyond ASCII: give it as the endpoint's maker does")
    return key or None


def _told(body: bytes) -> tuple[str, str | None]:
    """What the body of an error says in one line, as OpenAI, Ollama and FastAPI write it, and which parameter it names."""
    try:
        read = orjson.loads(body)
    except ValueError:
        return "", None
    error = read.get("error", read) if isinstance(read, dict) else read
    if not isinstance(error, dict):
        return _line(error), None
    parameter = error.get("param")
    return _line(error.get("message") or error.get("detail") or ""), parameter if isinstance(parameter, str) else None


def error_line(error: Any) -> str:
    """What an error in a stream says in one line."""
    return _told(orjson.dumps({"error": error}))[0]


def _line(text: Any) -> str:
    """One line without control characters."""
    return first_line("".join(char if char.isprintable() else "\n" if char in "\r\n" else " " for char in str(text)))
