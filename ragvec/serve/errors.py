"""How the server says no: one shape for every error, which OpenAI's clients understand."""

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ragvec.errors import RagvecError
from ragvec.serve.batcher import QueueFull
from ragvec.serve.engine import NoIndex
from ragvec.serve.live import IndexUnavailable

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
_RETRY_AFTER = "retry-after"


def error_body(status: int, message: str) -> bytes:
    """The JSON of an error."""
    kind = _TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    return orjson.dumps({"error": {"message": message, "type": kind, "code": status}})


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error as a response."""
    return Response(error_body(status, message), status, headers, "application/json")


def install_handlers(app: FastAPI) -> None:
    """Turn every exception that a route may raise into an error of that shape."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return error_response(422, _first_problem(error))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return error_response(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RagvecError)
    async def wrong(request: Request, error: RagvecError) -> Response:
        if "is being written by" in str(error):
            return error_response(409, str(error), {_RETRY_AFTER: "1"})
        return error_response(404 if isinstance(error, NoIndex) else 400, str(error))

    @app.exception_handler(QueueFull)
    async def busy(request: Request, error: QueueFull) -> Response:
        return error_response(429, str(error), {_RETRY_AFTER: str(error.retry_after)})

    @app.exception_handler(IndexUnavailable)
    async def away(request: Request, error: IndexUnavailable) -> Response:
        return error_response(503, str(error), {_RETRY_AFTER: "1"})

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        # starlette raises it again afterwards, and uvicorn logs it
        return error_response(500, "the server failed; its log says how")


def _first_problem(error: RequestValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"] if part != "body")
    what = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "json_invalid":
        what = f"the body is not valid JSON ({problem.get('ctx', {}).get('error', what)})"
        where = ""
    return f"{where}: {what}" if where else what
