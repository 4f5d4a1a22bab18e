"""How the server says no: one shape for every error, which OpenAI's clients understand."""

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ragvec.errors import RagvecError
from ragvec.serve.batcher import QueueFull
from ragvec.serve.live import IndexUnavailable
from ragvec.serve.service import NoIndex

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
_RETRY_AFTER = "retry-after"
_MOST_MESSAGE = 1000  # characters: a message may quote what was sent
_EXPECTED = (HTTPException, RequestValidationError, RagvecError, QueueFull, IndexUnavailable)


def error_body(status: int, message: str) -> bytes:
    """The JSON of an error."""
    kind = _TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    if len(message) > _MOST_MESSAGE:
        message = f"{message[:_MOST_MESSAGE]}…"
    return orjson.dumps({"error": {"message": message, "type": kind, "code": status}})


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error as a response."""
    return Response(error_body(status, message), status, headers, "application/json")


def response_to(error: Exception) -> Response:
    """What a client is told of an exception that a route raised."""
    match error:
        case HTTPException():
            return error_response(error.status_code, str(error.detail), dict(error.headers or {}))
        case RequestValidationError():
            return error_response(422, str(error.errors()[0]["msg"]))
        case NoIndex():
            return error_response(404, str(error))
        case RagvecError() if "is being written by" in str(error):
            return error_response(409, str(error), {_RETRY_AFTER: "1"})
        case RagvecError():
            return error_response(400, str(error))
        case QueueFull():
            return error_response(429, str(error), {_RETRY_AFTER: str(error.retry_after)})
        case IndexUnavailable():
            return error_response(503, str(error), {_RETRY_AFTER: "1"})
    return error_response(500, "the server failed; its log says how")


def install_handlers(app: FastAPI) -> None:
    """Have FastAPI answer so to what a route raises; what is not expected it raises again, and uvicorn logs it."""

    async def answer(request: Request, error: Exception) -> Response:
        return response_to(error)

    for kind in (*_EXPECTED, Exception):
        app.add_exception_handler(kind, answer)
