"""The OpenAPI document: what FastAPI knows of the routes, completed by what follows for all of them by rule.

A route declares the errors of its own by `celeriac.contract.problem.fails`; the rules of `_errors` add the others. So
the document names every status that an operation can answer.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from celeriac.contract.headers import LOCATION, RETRY_AFTER, WWW_AUTHENTICATE
from celeriac.contract.problem import MEDIA_TYPE, Problem
from celeriac.errors import CeleriacError, InvalidInput, NotFound, Unavailable
from celeriac_api import direct
from celeriac_api.auth import Forbidden, Unauthorized, needed_scope
from celeriac_api.problems import RequestTimeout, TooLarge, UnsupportedMediaType

#: The name of the security scheme.
SCHEME: Final = "bearer"

TAGS: Final = [
    {"name": "tasks", "description": "Submit, list, follow, cancel and retry tasks."},
    {"name": "administration", "description": "Queues, dead letters, the audit log; all need scope `admin`."},
    {"name": "operations", "description": "Health and metrics; none needs a token."},
]

_SCHEMAS: Final = "#/components/schemas/"
#: What FastAPI thinks a wrong request is answered with.
_NOT_OURS: Final = ("HTTPValidationError", "ValidationError")


def operation_id(route: APIRoute) -> str:
    """Name an operation by its function, which is also the method of `celeriac.client` that sends it."""
    return route.name


def install_document(api: FastAPI, is_open: Callable[[str], bool]) -> None:
    """Let the API describe itself completely.

    Args:
        api: the API, with all its routes.
        is_open: says which paths need no token.
    """
    describe = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            _complete(describe(), is_open)
        return describe()

    api.openapi = openapi  # type: ignore[method-assign]


def known_errors() -> dict[str, type[CeleriacError]]:
    """All errors whose classes have been imported, by their codes."""
    found: dict[str, type[CeleriacError]] = {}
    waiting: list[type[CeleriacError]] = [CeleriacError]
    while waiting:
        error = waiting.pop(0)
        found.setdefault(error.code, error)
        waiting += error.__subclasses__()
    return found


def _complete(document: dict[str, Any], is_open: Callable[[str], bool]) -> None:
    components = document["components"]
    schemas = components["schemas"]
    for name in _NOT_OURS:
        schemas.pop(name, None)
    schemas |= direct.schemas()
    schemas["Problem"] = Problem.model_json_schema()
    components["schemas"] = dict(sorted(schemas.items()))
    components["securitySchemes"] = {
        SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of `celeriac tokens create`, or CELERIAC_API_TOKEN.",
        }
    }
    responses: dict[str, Any] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            guarded = not is_open(path)
            if guarded:
                operation["security"] = [{SCHEME: [needed_scope(method.upper(), path).value]}]
            _describe_errors(operation, [*_declared(operation), *_errors(path, operation, guarded=guarded)], responses)
            _describe_location(operation, schemas)
            operation["responses"] = dict(sorted(operation["responses"].items()))
    _describe_links(document)
    components["responses"] = dict(sorted(responses.items()))


def _errors(path: str, operation: dict[str, Any], *, guarded: bool) -> Iterator[type[CeleriacError]]:
    """What an operation can answer without raising it itself."""
    if guarded:
        yield Unauthorized
        yield Forbidden
        # The token cannot be checked, or the operation needs Redis or the database.
        yield Unavailable
    if "{" in path:
        yield NotFound
    if "requestBody" in operation:
        yield RequestTimeout
        yield TooLarge
        yield UnsupportedMediaType
    if "requestBody" in operation or "parameters" in operation:
        yield InvalidInput


def _declared(operation: dict[str, Any]) -> Iterator[type[CeleriacError]]:
    known = known_errors()
    for response in operation["responses"].values():
        for code in response.get("x-errors", ()):
            yield known[code]


def _describe_errors(operation: dict[str, Any], errors: list[type[CeleriacError]], shared: dict[str, Any]) -> None:
    by_status: dict[str, list[type[CeleriacError]]] = {}
    for error in errors:
        same = by_status.setdefault(str(error.status), [])
        if error not in same:
            same.append(error)
    for status, same in by_status.items():
        # One that many operations answer stands in the document once.
        name = "Or".join(error.__name__ for error in same)
        shared.setdefault(name, _response(same))
        operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}


def _response(errors: list[type[CeleriacError]]) -> dict[str, Any]:
    first = errors[0]
    types = [error.type_uri() for error in errors]
    headers = WWW_AUTHENTICATE if first is Unauthorized else RETRY_AFTER if first.status in {429, 503} else {}
    examples = {
        error.code: {
            "value": {
                "type": error.type_uri(),
                "title": error.title,
                "status": error.status,
                "detail": summary(error),
            }
        }
        for error in errors
    }
    kind = {"properties": {"type": {"enum": types}, "status": {"const": first.status}}}
    return {
        "description": " ".join(f"{error.title}: {summary(error)}" for error in errors),
        **({"headers": headers} if headers else {}),
        "content": {MEDIA_TYPE: {"schema": {"allOf": [{"$ref": f"{_SCHEMAS}Problem"}, kind]}, "examples": examples}},
    }


def summary(error: type[CeleriacError]) -> str:
    """When an error is raised: the first sentence of its docstring."""
    return (inspect.getdoc(error) or "").split("\n\n")[0].replace("\n", " ")


def _describe_location(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Whatever answers 202 with a `status_url` says the same in `Location`."""
    response = operation["responses"].get("202", {})
    reference = response.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    schema = schemas.get(reference.removeprefix(_SCHEMAS), {})
    if found := schema.get("properties", {}).get("status_url"):
        # There is none where the URL is null.
        response["headers"] = {"Location": {**LOCATION["Location"], "required": found.get("type") == "string"}}


def _describe_links(document: dict[str, Any]) -> None:
    """What is made or listed under a name leads to the operations that take a thing of that name in their path."""
    schemas = document["components"]["schemas"]
    operations = [(path, method, each) for path, item in document["paths"].items() for method, each in item.items()]
    takers: dict[str, list[str]] = {}
    for path, _, operation in operations:
        names = re.findall(r"\{(\w+)\}", path)
        if len(names) == 1:
            takers.setdefault(names[0], []).append(operation["operationId"])
    for path, method, operation in operations:
        # What is shown by its name is known by it already.
        if "{" in path or method not in {"get", "post"}:
            continue
        for status, response in operation["responses"].items():
            if status.startswith("2"):
                links = {
                    taker: {"operationId": taker, "parameters": {name: f"$response.body#{place}"}}
                    for name, place in _places(response, schemas)
                    for taker in takers.get(name, ())
                }
                response.update({"links": links} if links else {})


def _places(response: dict[str, Any], schemas: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields of an answer, and those of the first entry of one that is a page, with their JSON pointers."""

    def properties(schema: dict[str, Any]) -> dict[str, Any]:
        known = schemas.get(schema.get("$ref", "").removeprefix(_SCHEMAS), {})
        found: dict[str, Any] = known.get("properties", {})
        return found

    for name, field in properties(response.get("content", {}).get("application/json", {}).get("schema", {})).items():
        yield name, f"/{name}"
        for inner in properties(field.get("items", {})):
            yield inner, f"/{name}/0/{inner}"
