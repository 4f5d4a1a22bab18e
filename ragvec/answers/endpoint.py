"""An endpoint that speaks OpenAI's chat API: where it is, what it has, and what is wrong when it does not answer.

Nothing is sent anywhere but to the address that was named: no redirection is followed, and so the key goes with none.
"""

import re
import socket
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPException, HTTPResponse
from typing import Any

import orjson

from ragvec.errors import Unavailable, WrongUsage, first_line
from ragvec.http import checked_key, connected, read_address, sent_elsewhere, told

TIMEOUT_S = 300.0  # a model on a CPU reads a long prompt for minutes before its first word
MOST_JSON = 8 << 20  # bytes of a list of models
MOST_ERROR = 64 << 10
_NO_CHAT = re.compile(r"embed|rerank|bge|whisper|tts", re.I)  # models that lists hold beside language models
_VERSION = "/v1"


class EndpointFailed(Unavailable):
    """The endpoint does not answer, or not with an answer. `public` is the message without its address."""

    def __init__(self, address: str, what: str, *, instead: str = "") -> None:
        super().__init__(f"{address} {what}{instead}")
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
        self._parts = read_address(base_url, what="endpoint", example="http://localhost:11434/v1")
        self._key = checked_key(api_key)
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
                raise self.misplaced("gives no list of models") from None

    def model(self) -> str:
        """The model that is asked: the one named, or the first that is listed and can chat. Raises EndpointFailed."""
        if self._model is None:
            try:
                names = self.models()
            except Refused as refused:
                if refused.code == 404 and not self._parts.path.endswith(_VERSION):
                    raise self.misplaced("lists no models (404)") from refused
                if refused.code < 500:
                    raise
                raise self.failed(f"lists no models ({refused.code}): name one with `model`") from refused
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
        connection = connected(self._parts, self.failed)
        connection.sock.settimeout(self.timeout)
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
            return refused if refused.code != 404 else self.misplaced(f"has no chat ({refused.code})")
        if self._model in names or not names:
            return refused
        shown = ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")
        return self.failed(f"has no model {self._model!r}: name one of {shown:.300}")

    def failed(self, what: str) -> EndpointFailed:
        """An error that names the address."""
        return EndpointFailed(self.address, what)

    def misplaced(self, what: str) -> EndpointFailed:
        """An error of an address at which something else answers; it names the one with /v1, if this has none."""
        instead = "" if self._parts.path.endswith(_VERSION) else f": {self.address}{_VERSION}"
        return EndpointFailed(self.address, f"{what}: is this its address? It mostly ends in {_VERSION}", instead=instead)

    @property
    def silent(self) -> str:
        """What is said of an endpoint that sends nothing."""
        return f"sent nothing for {self.timeout:g} s: give a longer `timeout`, or ask a smaller model"

    def _refusal(self, response: HTTPResponse) -> EndpointFailed:
        code = response.status
        if 300 <= code < 400:
            return self.failed(sent_elsewhere(code, response.headers.get("location", "")))
        if code == 401:
            return self.failed(f"{'refuses the' if self._key else 'wants an'} API key (401): give one that it knows")
        message, parameter = told(response.read(MOST_ERROR))
        said = f": {self._without_key(message)}" if message else ""
        match code:
            case 403:
                return self.failed(f"does not allow this (403){said}")
            case 429:
                return self.failed(f"has too much to do, or its limit is reached (429){said}")
        return Refused(self.address, f"answers {code}{said}", code=code, parameter=parameter)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "…") if self._key else text


def error_line(error: Any) -> str:
    """What an error in a stream says in one line."""
    return told(orjson.dumps({"error": error}))[0]
