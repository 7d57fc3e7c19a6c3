"""Bodies that are read straight from JSON, where FastAPI's way would take longer than what the request asks for."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

M = TypeVar("M", bound=BaseModel)

_REFERENCE = "#/components/schemas/{model}"

#: All that `documented` was asked for.
_models: list[type[BaseModel]] = []


def documented(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that a route reads itself, for its `openapi_extra`."""
    _models.append(model)
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


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
        errors = error.errors(include_url=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in errors]) from None
