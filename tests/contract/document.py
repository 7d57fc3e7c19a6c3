"""Holds every answer that a test gets against the OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from celeriac.contract.problem import MEDIA_TYPE

#: Where the document is while it is looked into; a reference of a part of it alone would lead nowhere.
_HERE = "urn:contract"

#: Answered before the request's operation is known.
BEFORE_THE_OPERATION = frozenset({400, 401, 403, 404, 405, 431, 503})


class Contract:
    """What the OpenAPI document promises.

    Args:
        document: the document.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document: Mapping[str, Any] = json.loads(json.dumps(document).replace('"#/', f'"{_HERE}#/'))
        self._registry: Registry[Any] = Registry().with_resource(_HERE, Resource(self.document, DRAFT202012))
        self._paths = {
            path: re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part) for part in _parts(path)))
            for path in document["paths"]
        }

    def operation(self, method: str, path: str) -> Mapping[str, Any] | None:
        """The operation that answers a request; None where there is none."""
        # One without parameters comes first, as it does among the routes.
        for known in sorted(self._paths, key=lambda known: "{" in known):
            if self._paths[known].fullmatch(path) and method.lower() in self.document["paths"][known]:
                found: Mapping[str, Any] = self.document["paths"][known][method.lower()]
                return found
        return None

    def resolve(self, thing: Mapping[str, Any]) -> Mapping[str, Any]:
        """The thing, or what it refers to."""
        reference = thing.get("$ref")
        return thing if reference is None else self._registry.resolver().lookup(reference).contents  # type: ignore[no-any-return]

    def errors(self, schema: Mapping[str, Any], value: Any) -> list[str]:
        """What is wrong with a value."""
        validator = Draft202012Validator(schema, registry=self._registry, format_checker=FormatChecker())
        return [error.message for error in validator.iter_errors(value)]

    def check(self, response: httpx.Response) -> None:
        """Refuse an answer that the document does not tell of."""
        request = response.request
        what = f"{request.method} {request.url.raw_path.decode()} -> {response.status_code}"
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        operation = self.operation(request.method, request.url.path)
        if operation is None or str(response.status_code) not in operation["responses"]:
            assert operation is None or response.status_code == 500, f"{what} is not documented: {response.text[:500]}"
            if response.status_code in BEFORE_THE_OPERATION:
                problem = {"$ref": f"{_HERE}#/components/schemas/Problem"}
                assert kind == MEDIA_TYPE, what
                assert not self.errors(problem, response.json()), what
            return
        described = self.resolve(operation["responses"][str(response.status_code)])
        for name, header in described.get("headers", {}).items():
            assert name in response.headers or not header.get("required"), f"{what} without {name}"
        if "content" in described:
            assert kind in described["content"], f"{what} as {kind}"
            if kind.endswith("json"):
                wrong = self.errors(described["content"][kind]["schema"], json.loads(response.content))
                assert not wrong, f"{what}: {wrong}"


def _parts(path: str) -> list[str]:
    return re.split(r"(\{\w+\})", path)
