"""Errors in one body: {"error": {"message", "type", "param", "code"}}, as OpenAI's clients expect."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from mili.errors import EngineStoppedError, MiliError, QueueFullError, RequestError, TokenizerError
from mili.sampling import SamplingParams

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: ErrorDetail


class ApiError(Exception):
    """An answer with status 400 or above."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of an error; what is no Unicode in a client's text is replaced."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": _clean(message), "type": kind, "param": _clean(param), "code": code}}


def _clean(text: str | None) -> Any:
    return None if text is None else text.encode("utf-8", "replace").decode()


def response_of(error: ApiError) -> JSONResponse:
    """The answer for an error."""
    body = error_body(error.status, error.message, error.param, error.code)
    return JSONResponse(body, error.status, headers=error.headers)


def translate(error: MiliError, retry_after: int = 1) -> ApiError:
    """The answer for an error of the engine."""
    if isinstance(error, QueueFullError):
        return ApiError(429, str(error), code="queue_full", headers={"Retry-After": str(retry_after)})
    if isinstance(error, EngineStoppedError):
        return ApiError(503, str(error), code="shutting_down", headers={"Retry-After": "5"})
    if isinstance(error, RequestError | TokenizerError):
        text = str(error)
        first = text.split(" ", 1)[0]
        too_long = "tokens" in text and "context" in text
        code = "context_length_exceeded" if too_long else None
        return ApiError(400, text, param=first if first in _PARAMS else None, code=code)
    return ApiError(500, str(error), code="engine_error")


_PARAMS = frozenset(field.name for field in fields(SamplingParams)) | {"messages"}


def validation_message(errors: Sequence[Any]) -> tuple[str, str | None]:
    """One sentence and the field's path for what is wrong with a body."""
    first = errors[0]
    path = [part for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return f"the body is not valid JSON: {first.get('ctx', {}).get('error', first['msg'])}", None
    # Members of a union have their own name in the path; numbers and names of fields are what the client wrote.
    shown = [part for part in path if isinstance(part, int) or str(part).isidentifier()]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in shown).lstrip(".")
    if first["type"] in ("model_attributes_type", "missing") and not path:
        return "the body must be a JSON object, sent with Content-Type: application/json", None
    if first["type"] == "extra_forbidden":
        return f"{name or 'a field'} is no parameter of this endpoint: leave it out", name or None
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{name or 'the body'}: {message[:1].lower()}{message[1:]}", name or None


def install(app: FastAPI) -> None:
    """Make every error of the application answer in this form."""

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return response_of(error)

    @app.exception_handler(MiliError)
    async def engine_error(request: Request, error: MiliError) -> JSONResponse:
        return response_of(translate(error, request.app.state.server.retry_after()))

    @app.exception_handler(RequestValidationError)
    async def validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        message, param = validation_message(error.errors())
        return response_of(ApiError(400, message, param=param))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        text = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not allowed here"}
        message = text.get(error.status_code, str(error.detail))
        return response_of(ApiError(error.status_code, message, headers=error.headers))

    @app.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> JSONResponse:
        return response_of(ApiError(500, "the server failed on this request; its log has the reason", code="internal"))
