"""Every error as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Self

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.exceptions import HTTPException

from celeriac.errors import CeleriacError, TooMany

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An error: what, where and the way out."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    retry_after: int | None = Field(
        None, description="Seconds after which it may work, as in the header; where that is known."
    )

    @classmethod
    def of(cls, error: CeleriacError) -> Self:
        """One of our own errors."""
        retry_after = error.retry_after_seconds if isinstance(error, TooMany) else None
        return cls(title=error.title, status=error.status, detail=str(error), retry_after=retry_after)

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """Make the response of it."""
        retry = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        content = self.model_dump(exclude_none=True)
        return JSONResponse(content, self.status, {**(headers or {}), **retry}, MEDIA_TYPE)


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "The request cannot be fulfilled as it is",
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    },
    "503": {
        "description": "A part that is needed is away",
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    },
}


def problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Make the response of an error."""
    return Problem(title=title, status=status, detail=detail).response(headers)


def install_problem_handlers(api: FastAPI) -> None:
    """Answer every error that can leave a route as a problem."""
    for kind, handler in _HANDLERS.items():
        api.add_exception_handler(kind, handler)


def error_response(error: CeleriacError) -> JSONResponse:
    """Make the response of one of our own errors."""
    headers = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else None
    return Problem.of(error).response(headers)


async def _celeriac_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CeleriacError)  # noqa: S101 - registered for it
    return error_response(error)


async def _invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    details = []
    for item in error.errors():
        if item["type"] == "json_invalid":
            # FastAPI names the place in the location, pydantic in the text.
            place = f" at character {item['loc'][-1]}" if isinstance(item["loc"][-1], int) else ""
            details.append(f"body: no JSON: {item['ctx']['error']}{place}")
            continue
        where = ".".join(str(part) for part in item["loc"] if part != "body") or "body"
        given = "" if item["type"] == "missing" else f" (got {item.get('input')!r:.100})"
        details.append(f"{where}: {item['msg'].removeprefix('Value error, ')}{given}")
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid input", "; ".join(details))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    title = HTTPStatus(error.status_code).phrase
    headers = dict(error.headers) if error.headers else None
    detail = error.detail
    if detail == title:  # Starlette's own: it names nothing
        allowed = f"; allowed: {headers['Allow']}" if headers and "Allow" in headers else "; /docs lists what there is"
        detail = f"{request.method} {request.url.path}: {title.lower()}{allowed}"
    return problem(error.status_code, title, detail, headers)


async def _redis_away(request: Request, error: Exception) -> JSONResponse:
    log.warning("redis_unreachable", path=request.url.path, error=str(error))
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "Unavailable", "Redis cannot be reached; try again later")


async def _database_away(request: Request, error: Exception) -> JSONResponse:
    log.warning("database_unreachable", path=request.url.path, error=str(error))
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "Unavailable", "the database cannot be reached; try again later")


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected_error", path=request.url.path, exc_info=error)
    detail = "something went wrong inside; the log has the details"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error", detail)


_HANDLERS = {
    CeleriacError: _celeriac_error,
    RequestValidationError: _invalid_request,
    HTTPException: _http_error,
    RedisError: _redis_away,
    OperationalError: _database_away,
    InterfaceError: _database_away,
    Exception: _unexpected,
}
