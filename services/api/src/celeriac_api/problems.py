"""Every error as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from redis.exceptions import RedisError
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import compile_path

from celeriac.contract.problem import MEDIA_TYPE, Problem
from celeriac.errors import CeleriacError, InvalidInput, NotFound, Unavailable

log = structlog.get_logger(__name__)

#: What metrics show where the client had hung up before its request was whole; nginx calls it so.
CLIENT_GONE: Final = 499
#: Of many wrong fields, so many are named.
MAX_NAMED: Final = 10
#: What pydantic puts behind the name of a field that may be of several kinds.
_KIND: Final = re.compile("function-|constrained-")
#: The longest name of a wrong field that is shown whole.
MAX_NAME: Final = 100


class MalformedRequest(CeleriacError):
    """The bytes that were sent are no HTTP request."""

    status = 400
    title = "Malformed request"
    code = "malformed-request"
    way_out = "Send HTTP/1.1; look at what stands between the client and the API."


class MethodNotAllowed(CeleriacError):
    """The path is known, but not with this method."""

    status = 405
    title = "Method not allowed"
    code = "method-not-allowed"
    way_out = "Use one of the methods that `Allow` lists."


class RequestTimeout(CeleriacError):
    """The request, or the next part of its body, did not arrive in time."""

    status = 408
    title = "Request timeout"
    code = "request-timeout"
    way_out = "Send faster, or less at a time; or give clients more time by the settings of the API."


class TooLarge(CeleriacError):
    """The body is larger than the API takes."""

    status = 413
    title = "Request too large"
    code = "too-large"
    way_out = "Send less, or raise the limit that the detail names in the settings of the API."


class UnsupportedMediaType(CeleriacError):
    """The body is not of the type that is wanted here."""

    status = 415
    title = "Unsupported media type"
    code = "unsupported-media-type"
    way_out = "Send the body in the form, and with the `Content-Type`, that the detail names."


class HeadTooLarge(CeleriacError):
    """The request's URL and headers are longer than the API takes."""

    status = 431
    title = "Request head too large"
    code = "head-too-large"
    way_out = "Send fewer and shorter headers, and a shorter URL."


#: What else raises `HTTPException`: Starlette and FastAPI, and what reads a body, whose errors FastAPI else makes 400.
_KINDS: Final[Mapping[int, type[CeleriacError]]] = {
    # Of a body that cannot be parsed.
    400: InvalidInput,
    404: NotFound,
    408: RequestTimeout,
    413: TooLarge,
    415: UnsupportedMediaType,
}


def answer(kind: type[CeleriacError], detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Make the response of an error.

    Args:
        kind: what error it is.
        detail: what, where and the way out.
        headers: headers of the response, besides those that its kind has.
    """
    return _response(Problem(type=kind.type_uri(), title=kind.title, status=kind.status, detail=detail), headers)


def error_response(error: CeleriacError) -> JSONResponse:
    """Make the response of one of our own errors."""
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return _response(Problem.of(error), headers)


def install_problem_handlers(api: FastAPI) -> None:
    """Answer every error that can leave a route as a problem."""
    for kind, handler in _HANDLERS.items():
        api.add_exception_handler(kind, handler)


def _response(problem: Problem, headers: Mapping[str, str] | None) -> JSONResponse:
    content = {**problem.model_dump(exclude_none=True), "detail": _text(problem.detail)}
    return JSONResponse(content, status_code=problem.status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def _text(detail: str) -> str:
    """The detail without what UTF-8 cannot say, which may stand in what a client sent."""
    return detail.encode(errors="backslashreplace").decode()


async def _celeriac_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CeleriacError)  # noqa: S101 - registered for it
    if isinstance(error, NotFound) and (refusal := _other_method(request)):
        return refusal
    return error_response(error)


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    if refusal := _other_method(request):
        return refusal
    if wanted := _other_media_type(request):
        kind = request.headers.get("content-type", "")
        return answer(UnsupportedMediaType, f"body: send it as {wanted} (got Content-Type {kind!r:.100})")
    found = error.errors()
    details = [_named(item) for item in found[:MAX_NAMED]]
    if len(found) > MAX_NAMED:
        details.append(f"and {len(found) - MAX_NAMED} more")
    return answer(InvalidInput, "; ".join(details))


def _other_media_type(request: Request) -> str | None:
    """The media type that the route takes, where the body has another: FastAPI only finds fields missing."""
    field = getattr(request.scope.get("route"), "body_field", None)
    wanted: str | None = getattr(field and field.field_info, "media_type", None)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"
    return wanted if wanted and has_body and kind != wanted else None


def _named(item: Mapping[str, Any]) -> str:
    """One wrong field: its name, what is wrong and its value."""
    where = ".".join(part for part in map(str, item["loc"]) if part != "body" and not _KIND.match(part)) or "body"
    if item["type"] == "json_invalid":
        # FastAPI names the place in the location, pydantic in the text.
        place = f" at character {item['loc'][-1]}" if isinstance(item["loc"][-1], int) else ""
        return f"body: no JSON: {item['ctx']['error']}{place}"
    given = "" if item["type"] == "missing" else f" (got {item.get('input')!r:.100})"
    return f"{where[:MAX_NAME]}: {item['msg'].removeprefix('Value error, ')}{given}"


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _method_not_allowed(request, error)
    phrase = HTTPStatus(error.status_code).phrase
    # One that is the phrase names nothing.
    detail = (
        error.detail if error.detail != phrase else f"{_asked(request)}: {phrase.lower()}; /docs lists what there is"
    )
    kind = _KINDS.get(error.status_code)
    if kind is None:
        # A workload's own.
        return _response(
            Problem(type="about:blank", title=phrase, status=error.status_code, detail=_text(detail)), error.headers
        )
    if error.status_code == HTTPStatus.BAD_REQUEST:
        detail = f"body: {detail}"
    return answer(kind, detail, error.headers)


def _method_not_allowed(request: Request, error: HTTPException) -> JSONResponse:
    # Starlette names the methods of the first route with this path, which may have more.
    paths, path = _paths(request), request.url.path
    items = [paths[path]] if path in paths else [each for known, each in paths.items() if _fits(known, path)]
    methods = sorted({method.upper() for item in items for method in item})
    return _not_allowed(request, ", ".join(methods) or (error.headers or {}).get("Allow", ""))


def _other_method(request: Request) -> JSONResponse | None:
    """The answer to a request for a path that is known, where another method of it was taken for one with an id.

    There is no task that is called `bulk`: `GET /tasks/bulk` is `POST /tasks/bulk` by the wrong method.
    """
    item = _paths(request).get(request.url.path)
    if item is None or request.method.lower() in item:
        return None
    return _not_allowed(request, ", ".join(sorted(method.upper() for method in item)))


def _not_allowed(request: Request, allowed: str) -> JSONResponse:
    detail = f"{_asked(request)}: method not allowed; allowed: {allowed}"
    return answer(MethodNotAllowed, detail, {"Allow": allowed})


def _paths(request: Request) -> Mapping[str, Mapping[str, Any]]:
    paths: Mapping[str, Mapping[str, Any]] = request.app.openapi()["paths"]
    return paths


def _fits(known: str, path: str) -> bool:
    return compile_path(known)[0].match(path) is not None


def _asked(request: Request) -> str:
    return f"{request.method} {request.url.path}"


async def _redis_away(request: Request, error: Exception) -> JSONResponse:
    log.warning("redis_unreachable", path=request.url.path, error=str(error))
    return error_response(Unavailable("Redis cannot be reached; try again later"))


async def _database_away(request: Request, error: Exception) -> JSONResponse:
    log.warning("database_unreachable", path=request.url.path, error=str(error))
    return error_response(Unavailable("the database cannot be reached; try again later"))


async def _client_gone(_request: Request, _error: Exception) -> Response:
    # Nobody reads this; metrics show it.
    return Response(status_code=CLIENT_GONE)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected_error", path=request.url.path, exc_info=error)
    return answer(CeleriacError, "something went wrong inside; the log has the details")


_HANDLERS = {
    CeleriacError: _celeriac_error,
    RequestValidationError: _invalid_request,
    HTTPException: _http_error,
    RedisError: _redis_away,
    OperationalError: _database_away,
    InterfaceError: _database_away,
    ClientDisconnect: _client_gone,
    Exception: _unexpected,
}
