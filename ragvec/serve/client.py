"""Asking the server that serves an index on this machine, instead of loading an encoder."""

from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from ragvec.serve.advert import INDEX_HEADER, find_server, index_identity

PATIENCE_S = 30.0


def search_served(folder: Path, request: dict[str, Any], *, api_key: str | None = None) -> dict[str, Any] | None:
    """What the server of an index folder answers to `POST /search`.

    None if there is no server, it wants a key that is not given, it has too much to do or does not take this request, or it
    serves another index by now: then the index itself is to be asked, which also says what is wrong with a wrong request.
    """
    advert = find_server(folder)
    if advert is None or (advert.needs_key and not api_key):
        return None
    from http.client import HTTPConnection, HTTPException

    import orjson

    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {api_key}"} if advert.needs_key else {})
    with (
        suppress(OSError, HTTPException, ValueError),
        closing(HTTPConnection(advert.host, advert.port, timeout=PATIENCE_S)) as connection,
    ):
        connection.request("POST", "/search", orjson.dumps(request), headers)
        response = connection.getresponse()
        answer = orjson.loads(response.read())
        if response.status == 200 and response.headers[INDEX_HEADER] == index_identity(folder):
            return answer
    return None
