"""The OpenAPI document and the catalogue of errors say all that the API answers."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from openapi_spec_validator import validate

from celeriac import CeleriacApp
from celeriac.errors import CeleriacError
from celeriac_api.app import create_api
from celeriac_api.openapi import known_errors, summary
from tests.contract.document import Contract
from tools.reference import FOLDER, import_everything

ROOT = Path(__file__).parents[2]
SOURCES = ("libs/celeriac/src", "services/api/src", "services/embedded/src", "workloads")

#: Inputs without a limit of their own, which the size of the body limits, and why.
UNLIMITED = {
    "args": "whatever the task takes",
    "kwargs": "whatever the task takes",
    "file": "has a limit of its own, which is a setting",
}

import_everything()
#: As it is checked in; `test_docs` holds it against the API.
DOCUMENT: dict[str, Any] = json.loads((FOLDER / "openapi.json").read_text())
CONTRACT = Contract(DOCUMENT)
OPERATIONS = {
    operation["operationId"]: (path, method, operation)
    for path, methods in CONTRACT.document["paths"].items()
    for method, operation in methods.items()
}


@pytest.fixture
def routes(make_app: Callable[..., CeleriacApp]) -> dict[str | None, APIRoute]:
    """The routes by the names of their operations."""
    api = create_api(make_app(api_token="unused", file_store="db:"))
    contexts = iter_route_contexts(api.routes)
    return {each.name: each.original_route for each in contexts if isinstance(each.original_route, APIRoute)}


def schemas_of(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON bodies of an operation, that of the request and those of successes."""
    bodies = {"request": operation.get("requestBody", {})}
    bodies |= {status: each for status, each in operation["responses"].items() if status.startswith("2")}
    for where, body in bodies.items():
        if schema := body.get("content", {}).get("application/json", {}).get("schema"):
            yield where, schema


def test_the_document_is_valid():
    validate(DOCUMENT)


def test_each_operation_has_a_name_of_its_own_that_a_method_can_have():
    assert len(OPERATIONS) == sum(len(methods) for methods in CONTRACT.document["paths"].values())
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", name) for name in OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_described_with_its_parameters(name: str):
    path, _, operation = OPERATIONS[name]
    assert operation["description"].split("\n")[0].endswith((".", ","))
    assert operation["tags"]
    for parameter in operation.get("parameters", []):
        assert parameter.get("description"), parameter["name"]
    named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
    assert named == set(re.findall(r"\{(\w+)\}", path))


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_body_has_an_example_that_it_would_accept(name: str):
    for where, schema in schemas_of(OPERATIONS[name][2]):
        example = CONTRACT.resolve(schema).get("example")
        assert example is not None, f"{where} has no example"
        assert not CONTRACT.errors(schema, example), where


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_input_has_a_limit(name: str):
    _, _, operation = OPERATIONS[name]
    inputs = {each["name"]: each["schema"] for each in operation.get("parameters", [])}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        inputs |= CONTRACT.resolve(content["schema"])["properties"]
    for field, schema in inputs.items():
        for each in map(CONTRACT.resolve, schema.get("anyOf", [schema])):
            limits = {"string": {"maxLength", "enum", "format"}, "array": {"maxItems"}}.get(each.get("type", ""), set())
            limits |= {"maximum", "exclusiveMaximum"} if each.get("type") in {"integer", "number"} else set()
            assert field in UNLIMITED or not limits or limits & each.keys(), f"{field}: {each}"


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_names_every_error_that_its_code_raises(name: str, routes: dict[str | None, APIRoute]):
    """Those that it raises itself, and those that the docstrings of what it calls tell of."""
    operation = OPERATIONS[name][2]
    for error in raised_by(routes[name].endpoint):
        described = CONTRACT.resolve(operation["responses"].get(str(error.status), {}))
        content = described.get("content", {}).get("application/problem+json")
        assert content, f"{error.__name__} is missing: declare it by responses=fails({error.__name__})"
        nearest = next(each for each in error.__mro__ if each.__dict__.get("code"))
        assert nearest.code in content["examples"], f"{error.__name__}: not among {list(content['examples'])}"


def raised_by(function: Callable[..., Any]) -> set[type[CeleriacError]]:
    """The errors that a function tells of in its docstring, and those of all that it names."""
    by_name = {each.__name__: each for each in known_errors().values()}
    found: set[type[CeleriacError]] = set()
    waiting, seen = [function], set[Any]()
    while waiting:
        each = inspect.unwrap(waiting.pop())
        if each in seen:
            continue
        seen.add(each)
        told = re.search(r"\n *Raises:\n(.*)", each.__doc__ or "", re.DOTALL)
        found |= {
            by_name[name] for name in re.findall(r"^ *(\w+):", told[1] if told else "", re.MULTILINE) if name in by_name
        }
        if each.__module__.startswith(("celeriac_api.routes", "workloads.")):
            names = {
                node.id for node in ast.walk(ast.parse(inspect.getsource(each).lstrip())) if isinstance(node, ast.Name)
            }
            within = getattr(each, "__globals__", {})
            waiting += [within[name] for name in names if inspect.isfunction(within.get(name))]
    # What every operation can answer is not declared.
    return {error for error in found if error.status != 500}


def test_the_errors_that_code_raises_are_found_in_docstrings(routes: dict[str | None, APIRoute]):
    names = {error.__name__ for error in raised_by(routes["submit_task"].endpoint)}
    assert {"Conflict", "InvalidInput", "TooMany", "Unavailable"} <= names


def test_each_error_is_in_the_catalogue_with_what_to_do():
    page = (FOLDER / "errors.md").read_text()
    known = known_errors()
    assert declared() <= {each.__name__ for each in known.values()}
    for error in known.values():
        assert f"`{error.type_uri()}`" in page, f"{error.__name__}: run `make docs`"
        assert summary(error).endswith((".", ":")), error
        assert error.title, error


def declared() -> set[str]:
    """The names of all classes in the sources that are errors of ours."""
    bases: dict[str, set[str]] = {}
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    bases[node.name] = {base.id for base in node.bases if isinstance(base, ast.Name)}
    found = {"CeleriacError"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


@pytest.mark.parametrize("error", sorted(declared()))
def test_each_error_has_words_of_its_own(error: str):
    by_name = {each.__name__: each for each in subclasses(CeleriacError)}
    own = vars(by_name[error])
    for name in ("code", "title", "way_out", "__doc__"):
        assert own.get(name), f"{error} needs {name!r} of its own"
    same = [each.__name__ for each in by_name.values() if each.code == own["code"]]
    assert same == [error]


def subclasses(error: type[CeleriacError]) -> Iterator[type[CeleriacError]]:
    yield error
    for each in error.__subclasses__():
        yield from subclasses(each)
