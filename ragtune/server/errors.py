"""Errors as HTTP answers, all in OpenAI's shape and all with the request's id."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragtune.errors import QuestionError, RagtuneError
from ragtune.server.batching import Busy
from ragtune.server.listening import Gone
from ragtune.server.logs import bound_request
from ragtune.server.service import UnknownModel

logger = logging.getLogger(__name__)
REQUEST_ID = "x-request-id"
"""The header that carries a request's id, both ways."""
KEY = "ragtune_request_id"
"""Where a request's id stands in its ASGI scope."""
TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
         405: "invalid_request_error", 408: "timeout_error", 409: "conflict_error", 413: "invalid_request_error",
         415: "invalid_request_error", 422: "invalid_request_error", 429: "rate_limit_error", 503: "overloaded_error",
         504: "timeout_error"}


KIND = re.compile(r"(constrained-)?(str|int|float|bool|dict|list)$|(list|dict|function-[a-z]+)\[")
"""What pydantic puts into an error's place for each of the types that a value may have."""


class ErrorDetail(BaseModel):
    """What was found, what is allowed and what to do."""

    message: str = Field(examples=["the question is empty. Ask something, for example: What were net sales in 2021?"])
    type: str = Field(examples=["invalid_request_error"], description="The kind of error, by its status.")
    param: str | None = Field(None, examples=["messages"], description="The parameter it is about, where there is one.")
    code: str | None = Field(None, examples=["model_not_found"], description="A word for programs, where there is one.")
    request_id: str = Field("", examples=["req_5f0c3b6f1d1e4a90"], description="As in the header x-request-id and the log.")


class ErrorBody(BaseModel):
    """Every error of this server."""

    error: ErrorDetail


class Rejected(RagtuneError):
    """A request that is answered by an error: its HTTP status, and the parameter and word that OpenAI's shape has."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None,
                 headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, dict(headers or {})


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route's documentation says of the errors it may answer with."""
    said = {400: "Something in the request is wrong.", 401: "No API key, or not one of this server.",
            403: "The API key may not do this.", 404: "There is no such thing.", 409: "It stands against what is there.",
            413: "Too large.", 415: "Of a kind that is not taken.", 429: "Too many requests: come again after Retry-After.",
            500: "The server's own fault; its log says more under the request's id.",
            503: "It is stopping: ask again after Retry-After, or another server.",
            504: "It took longer than server.timeout_s."}
    return {status: {"model": ErrorBody, "description": said.get(status, "An error.")} for status in statuses}


def type_of(status: int) -> str:
    """Return the type of an error by its HTTP status."""
    return TYPES.get(status, "server_error")


def error_response(request: Request, status: int, message: str, param: str | None = None, code: str | None = None,
                   headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the HTTP answer for an error."""
    return JSONResponse(error_body(request.scope, status, message, param, code), status_code=status,
                        headers={**(headers or {}), REQUEST_ID: request_id(request.scope)})


def error_body(scope: Mapping[str, Any], status: int, message: str, param: str | None = None,
               code: str | None = None) -> dict[str, Any]:
    """Return the JSON of an error, also for an error within a stream."""
    message, param = _writable(message), _writable(param) if param else param
    detail = ErrorDetail(message=message, type=type_of(status), param=param, code=code,
                         request_id=request_id(scope))
    return ErrorBody(error=detail).model_dump()


def _writable(text: str) -> str:
    """Return the text as UTF-8 can hold it: JSON may bring half a character (a lone surrogate), which an error may quote."""
    return text.encode("utf-8", "replace").decode()


def request_id(scope: Mapping[str, Any]) -> str:
    """Return the id of the request of an ASGI scope."""
    return str(scope.get(KEY, ""))


def explain(error: BaseException) -> tuple[int, str, str | None, str | None, dict[str, str]]:
    """Return (status, message, parameter, code, headers) of an error; what is not the asker's to mend stays inside."""
    if isinstance(error, Rejected):
        return error.status, str(error), error.param, error.code, error.headers
    if isinstance(error, Busy):
        return 429, str(error), None, "server_busy", {"Retry-After": str(max(1, round(error.retry_after_s)))}
    if isinstance(error, UnknownModel):
        return 404, str(error), "model", "model_not_found", {}
    if isinstance(error, QuestionError):
        return 400, str(error), None, None, {}
    if isinstance(error, TimeoutError):
        return 504, f"{error or 'it took too long'}. Ask again, or raise server.timeout_s.", None, "timeout", {}
    logger.error("%s: %s", type(error).__name__, error, exc_info=None if isinstance(error, RagtuneError) else error)
    return 500, "the server could not do this. Its log says why, under this request's id.", None, "internal_error", {}


def install_errors(app: FastAPI) -> None:
    """Let an application answer all errors in one shape and give every request an id."""

    async def on_error(request: Request, error: Exception) -> JSONResponse:
        return error_response(request, *explain(error))

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        message, param = describe_invalid(error.errors())
        return error_response(request, 400, message, param)

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        message, headers = str(error.detail), dict(error.headers or {})
        if error.status_code in (404, 405) and message in ("Not Found", "Method Not Allowed"):
            message = f"there is no {request.method} {request.url.path} here. See /docs for what there is."
        if error.status_code == 405:
            headers["Allow"] = allowed_methods(request, headers.get("Allow", ""))
        return error_response(request, error.status_code, message, headers=headers)

    async def on_gone(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # for the log: nobody reads it

    app.add_exception_handler(Gone, on_gone)
    app.add_exception_handler(RagtuneError, on_error)
    app.add_exception_handler(TimeoutError, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_middleware(LastResort)
    app.add_middleware(RequestIds)


def allowed_methods(request: Request, named: str) -> str:
    """Return the methods that a request's path is documented with; a router names (``named``) those of one route alone."""
    path = getattr(request.scope.get("route"), "path", "")
    found = [method.upper() for method in request.app.openapi()["paths"].get(path, ())]
    return ", ".join(found) or named


def _about_the_whole(error: Any) -> str:
    """Return what is wrong with a request's body as a whole, '' where it is a part of it."""
    if error["type"] == "json_invalid":
        return (f"the body is not JSON: {(error.get('ctx') or {}).get('error', 'it cannot be read')}, at character "
                f"{error['loc'][-1]}.")
    if tuple(error["loc"]) == ("body",) and error["type"] in ("missing", "model_attributes_type", "model_type", "dict_type"):
        found = "the request has no body" if error["type"] == "missing" else "the body is no JSON object"
        return f"{found}. Send one, and the header Content-Type: application/json."
    return ""


def describe_invalid(errors: Sequence[Any]) -> tuple[str, str | None]:
    """Return one message for what pydantic found wrong in a request, and the first parameter it is about."""
    if errors and (whole := _about_the_whole(errors[0])):
        return whole, None
    said: dict[str, list[str]] = {}
    first: str | None = None
    for error in errors[:5]:
        place = ".".join(str(part) for part in error["loc"]
                         if part not in ("body", "query", "path") and not KIND.match(str(part)))
        first = first or (error.get("ctx") or {}).get("param") or place or None
        message = str(error["msg"]).removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            message = "there is no such parameter here"
        if message not in said.setdefault(place, []):
            said[place].append(message)
    more = f" (and {len(errors) - 5} more)" if len(errors) > 5 else ""
    return "; ".join((f"{place}: " if place else "") + ", or: ".join(said[place]) for place in said) + more, first


class LastResort:
    """ASGI middleware: what no route expected is answered as all errors are, and the connection stays open."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; where its answer has begun already, an error goes on to the server."""
        is_begun = False

        async def watched(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http" or is_begun:
                raise
            await error_response(Request(scope, receive), *explain(error))(scope, receive, send)


class RequestIds:
    """ASGI middleware: a request keeps the id that its sender gave it where that is a plain word, else it gets one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its id back in a header."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = dict(scope["headers"]).get(REQUEST_ID.encode(), b"").decode("latin-1")
        scope[KEY] = given if re.fullmatch(r"[\w.-]{1,64}", given) else f"req_{uuid.uuid4().hex[:16]}"
        name, value = REQUEST_ID.encode(), scope[KEY].encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: MutableMapping[str, Any] = message
                kept = [pair for pair in headers.get("headers", ()) if pair[0].lower() != name]
                message["headers"] = [*kept, (name, value)]
            await send(message)

        with bound_request(scope[KEY]):
            await self.app(scope, receive, send_with_id)
