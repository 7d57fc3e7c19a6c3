"""values.schema.json: strict, complete and in step with values.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.chart.rendering import CHART, Refused, Renderer
from tests.chart.scenarios import SCENARIOS

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())

#: Accepted for charts that hold this one, and set by nobody else.
FOR_UMBRELLAS = {"global", "enabled"}
#: Whose keys are the user's or Kubernetes'.
FREE = {
    "affinity",
    "configMapRef",
    "extraEnvFrom",
    "global",
    "limits",
    "nodeSelector",
    "podAnnotations",
    "podLabels",
    "queues",
    "requests",
    "secretRef",
    "serviceAccountAnnotations",
    "settings",
    "tolerations",
    "env",
    "valueFrom",
}


def test_the_schema_is_one():
    Draft7Validator.check_schema(SCHEMA)


def test_every_value_is_in_the_schema_and_the_other_way_round():
    schema = {path for path, _ in _walk(SCHEMA, ()) if path and path[0] not in FOR_UMBRELLAS}
    values = set(_paths(VALUES, ()))
    documented = {path for path in schema if not _below_a_free_or_empty_value(path)}
    assert values - schema == set()
    assert documented - values == set()


def test_every_value_is_described():
    undescribed = [".".join(path) for path, schema in _walk(SCHEMA, ()) if not _described(schema)]
    assert undescribed == []


def test_unknown_keys_are_refused_at_every_level():
    validator = Draft7Validator(SCHEMA)
    places = [path for path in _paths_of_maps(VALUES, ()) if not FREE & set(path[-1:])]
    assert len(places) > 20
    for path in [*places, ("queues", "default")]:
        values = json.loads(json.dumps(VALUES))
        place = values
        for part in path:
            place = place[part]
        place["mispelt"] = 1
        problems = [problem.message for problem in validator.iter_errors(values)]
        assert problems, path
        assert all("mispelt" in problem for problem in problems), path


def test_every_object_of_the_schema_is_closed_or_known_to_be_free():
    for path, schema in _walk(SCHEMA, ()):
        if "object" in schema.get("type", ()) and "allOf" not in schema:
            assert schema.get("additionalProperties") is False or path[-1] in FREE, path


def test_helm_applies_the_schema(render: Renderer):
    with pytest.raises(Refused, match=r"queues.default.*replica"):
        render({"queues": {"default": {"replica": 3}}})


@pytest.mark.parametrize(
    "values",
    [
        {"queues": {"default": {"replicas": -1}}},
        {"queues": {"default": {"concurrency": 0}}},
        {"queues": {"default": {"pool": "eventlet"}}},
        {"queues": {"a": None}},
        {"settings": {"CELERIAC_WORKER__TIME_LIMIT": 1800}},
        {"settings": {"REDIS_URL": "redis://host"}},
        {"api": {"existingSecret": "Not A Name"}},
        {"api": {"scaling": {"enabled": "yes"}}},
        {"api": {"scaling": {"maxReplicas": 0}}},
        {"api": {"resources": {"request": {"cpu": 1}}}},
        {"redis": {"maxMemory": "256Mi"}},
        {"redis": {"persistence": {"appendfsync": "no"}}},
        {"database": {"persistence": {"appendfsync": "always"}}},
        {"images": {"api": {"repository": ""}}},
        {"workloads": ["not a module"]},
        {"database": None},
    ],
    ids=json.dumps,
)
def test_values_that_cannot_be_meant_are_refused(render: Renderer, values):
    assert render.refusal(values), "rendered"


@pytest.mark.parametrize("values", [{"global": {"any": {"thing": 1}}}, {"enabled": True}], ids=json.dumps)
def test_an_umbrella_chart_may_hold_this_one(render: Renderer, values):
    assert len(list(render(values))) == len(list(render({})))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_helm_3_and_4_render_the_same(render_with_helm_3: Renderer, render_with_helm_4: Renderer, scenario: str):
    three, four = (each(SCENARIOS[scenario]) for each in (render_with_helm_3, render_with_helm_4))

    def shown(rendered):
        return sorted((each for each in rendered if each["kind"] != "Secret"), key=json.dumps)

    assert shown(three) == shown(four)


def _resolve(schema: dict[str, Any]) -> dict[str, Any]:
    while reference := schema.get("$ref"):
        schema = SCHEMA["definitions"][reference.rpartition("/")[2]]
    if "allOf" in schema:
        return _resolve(schema["allOf"][0]) | {"description": schema["description"]}
    return schema


def _walk(schema: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    schema = _resolve(schema)
    yield path, schema
    for key, child in schema.get("properties", {}).items():
        yield from _walk(child, (*path, key))
    items = schema.get("items", {})
    if items:
        yield from ((each, child) for each, child in _walk(items, path) if each != path)


def _described(schema: dict[str, Any]) -> bool:
    return len(schema.get("description", "")) > 3


def _paths(values: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if path:
        yield path
    if isinstance(values, dict) and not FREE & set(path[-1:]):
        for key, value in values.items():
            yield from _paths(value, (*path, key))


def _paths_of_maps(values: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(values, dict):
        yield path
        if not FREE & set(path[-1:]):
            for key, value in values.items():
                yield from _paths_of_maps(value, (*path, key))


def _below_a_free_or_empty_value(path: tuple[str, ...]) -> bool:
    value: Any = VALUES
    for part in path[:-1]:
        if not isinstance(value, dict) or not value.get(part):
            return True
        value = value[part]
    return False
