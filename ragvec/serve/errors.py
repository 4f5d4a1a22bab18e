"""How the server says no: one shape for every error, which OpenAI's clients understand."""

from http import HTTPStatus

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ragvec.errors import RagvecError
from ragvec.index.where import WrongFilter

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
_MOST_MESSAGE = 1000  # characters: a message may quote what was sent
_EXPECTED = (HTTPException, RequestValidationError, RagvecError)


def error_body(status: int, message: str, **more: str | int) -> bytes:
    """The JSON of an error. more: further fields of it."""
    kind = _TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    if len(message) > _MOST_MESSAGE:
        message = f"{message[:_MOST_MESSAGE]}…"
    return orjson.dumps({"error": {"message": message, "type": kind, "code": status, **more}})


def error_response(status: int, message: str, headers: dict[str, str] | None = None, **more: str | int) -> Response:
    """An error as a response. more: further fields of it."""
    return Response(error_body(status, message, **more), status, headers, "application/json")


def response_to(error: Exception) -> Response:
    """What a client is told of an exception that a route raised; a RagvecError's class says with which status."""
    match error:
        case HTTPException():
            return error_response(error.status_code, str(error.detail), dict(error.headers or {}))
        case RequestValidationError():
            return error_response(422, str(error.errors()[0]["msg"]))
        case WrongFilter():
            return error_response(error.status, str(error), param="where", column=error.column)
        case RagvecError():
            later = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
            return error_response(error.status, str(error), later)
    return error_response(500, "the server failed; its log says how")


def _with_the_way(request: Request, error: Exception) -> Exception:
    """What routing alone refused, with what there is instead: it says no more than "Not Found"."""
    if isinstance(error, HTTPException) and error.detail == HTTPStatus(error.status_code).phrase:
        path, allowed = request.scope["path"], (error.headers or {}).get("Allow")
        if error.status_code == 404:
            other = f"try {path.rstrip('/')}, or " if path.rstrip("/") != path else ""
            return HTTPException(404, f"there is nothing at {path}: {other}see /docs")
        if allowed:
            return HTTPException(error.status_code, f"{path} takes {allowed}, not {request.method}", error.headers)
    return error


def install_handlers(app: FastAPI) -> None:
    """Have FastAPI answer so to what a route raises; what is not expected it raises again, and uvicorn logs it."""

    async def answer(request: Request, error: Exception) -> Response:
        return response_to(_with_the_way(request, error))

    for kind in (*_EXPECTED, Exception):
        app.add_exception_handler(kind, answer)
