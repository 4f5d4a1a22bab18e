"""Asking the server that serves an index on this machine, instead of loading an encoder."""

import hmac
import secrets
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragvec.http import deadline
from ragvec.serve.advert import (
    INDEX_HEADER,
    NONCE_HEADER,
    PROOF_HEADER,
    PROOF_PATH,
    Advert,
    find_server,
    index_identity,
    proof,
)

if TYPE_CHECKING:
    from http.client import HTTPConnection

PROOF_S = 2.0  # in which a server must have proved that it is the user's own
PATIENCE_S = 30.0  # in which it must have answered


def search_served(folder: Path, request: dict[str, Any], *, api_key: str | None = None) -> dict[str, Any] | None:
    """What the server of an index folder answers to `POST /search`.

    None if there is no server, it wants a key that is not given, it does not prove to be the user's own, it has too much to do
    or does not take this request, or it serves another index by now: then the index itself is to be asked, which also says what
    is wrong with a wrong request.
    """
    advert = find_server(folder)
    if advert is None or (advert.needs_key and not api_key):
        return None
    from http.client import HTTPConnection, HTTPException

    import orjson

    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {api_key}"} if advert.needs_key else {})
    with (
        suppress(OSError, HTTPException, ValueError),
        closing(HTTPConnection(advert.host, advert.port, timeout=PROOF_S)) as connection,
    ):
        if not _is_ours(connection, advert):
            return None
        with deadline(connection.sock, PATIENCE_S):
            connection.request("POST", "/search", orjson.dumps(request), headers)
            response = connection.getresponse()
            answer: dict[str, Any] = orjson.loads(response.read())
        if response.status == 200 and response.headers[INDEX_HEADER] == index_identity(folder):
            return answer
    return None


def _is_ours(connection: "HTTPConnection", advert: Advert) -> bool:
    """Whether the server knows the secret of the user's own file; it stays the one that is connected to."""
    connection.connect()
    connection.auto_open = 0  # a connection that ended must not be made again: by then someone else may listen there
    nonce = secrets.token_hex(32)
    with deadline(connection.sock, PROOF_S):
        connection.request("GET", PROOF_PATH, headers={NONCE_HEADER: nonce})
        response = connection.getresponse()
        given = response.headers.get(PROOF_HEADER, "")
        if response.status != 200 or response.length != 0:
            return False
        response.read()
    return hmac.compare_digest(given.encode(), proof(advert.secret, nonce, advert.port).encode())
