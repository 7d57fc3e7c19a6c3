"""Requests that are read by their endpoints, where FastAPI's way would take longer than what the request asks for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, StringConstraints, TypeAdapter, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from celeriac.contract.headers import IDEMPOTENCY_KEY

M = TypeVar("M", bound=BaseModel)

_HEADER = str(IDEMPOTENCY_KEY["alias"])
_KEY_LENGTH = {name: IDEMPOTENCY_KEY[name] for name in ("min_length", "max_length")}
_KEY = TypeAdapter[str](Annotated[str, StringConstraints(**_KEY_LENGTH)])

_REFERENCE = "#/components/schemas/{model}"

#: All that `documented` was asked for.
_models: list[type[BaseModel]] = []


class Direct(APIRoute):
    """A route whose endpoint takes the request and answers with a response, and nothing stands in between."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Give the endpoint."""
        return self.endpoint


def documented(model: type[BaseModel]) -> dict[str, Any]:
    """Describe the body and the `Idempotency-Key` that a route reads itself, for its `openapi_extra`."""
    _models.append(model)
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    header = {
        "name": _HEADER,
        "in": "header",
        "required": False,
        "description": IDEMPOTENCY_KEY["description"],
        "schema": _KEY.json_schema(),
    }
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"parameters": [header], "requestBody": body}


def schemas() -> dict[str, Any]:
    """The schemas of all such bodies, for `components` of the OpenAPI document."""
    _, definitions = models_json_schema([(model, "validation") for model in _models], ref_template=_REFERENCE)
    return dict(definitions.get("$defs", {}))


async def read(request: Request, model: type[M]) -> M:
    """Read a request's body.

    Args:
        request: the request.
        model: what its body is.

    Raises:
        HTTPException: it is not sent as JSON.
        RequestValidationError: it is no JSON, or not what the model says.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"body: send it as application/json (got Content-Type {kind!r:.100})")
    body = await request.body()
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _wrong(error, "body") from None


def read_idempotency_key(request: Request) -> str | None:
    """Read the header `Idempotency-Key`; None where there is none.

    Raises:
        RequestValidationError: it is empty or too long.
    """
    key = request.headers.get(_HEADER)
    if key is None:
        return None
    try:
        return _KEY.validate_python(key)
    except ValidationError as error:
        raise _wrong(error, "header", _HEADER) from None


def _wrong(error: ValidationError, *place: str) -> RequestValidationError:
    errors = error.errors(include_url=False)
    return RequestValidationError([{**each, "loc": (*place, *each["loc"])} for each in errors])
