"""Renders the chart, once for each distinct set of values, and checks every object against Kubernetes' own schemas."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

CHART = Path(__file__).parents[2] / "charts" / "celeriac"

#: The oldest Kubernetes that the chart supports, as in its Chart.yaml, and the newest that there are schemas of.
OLDEST = "1.28.0"
NEWEST = kubernetes_validate.latest_version()

#: Every object that runs pods.
WORKLOADS = {"Deployment", "StatefulSet", "Job", "Pod"}


class Refused(Exception):
    """The chart refuses the values; the message is Helm's."""

    @property
    def problems(self) -> list[str]:
        """What the chart's own checks say, without the schema's."""
        _, found, text = str(self).partition("These values cannot work:\n")
        return [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")] if found else []


@dataclass(frozen=True)
class Manifests:
    """What a chart with some values is rendered to. It is shared between tests: do not change it."""

    objects: tuple[dict[str, Any], ...]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.objects)

    def names(self, kind: str) -> list[str]:
        """The names of all objects of a kind, sorted."""
        return sorted(each["metadata"]["name"] for each in self if each["kind"] == kind)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        return next(each for each in self if (each["kind"], each["metadata"]["name"]) == (kind, name))

    def job(self) -> dict[str, Any]:
        """The migration."""
        (job,) = (each for each in self if each["kind"] == "Job")
        return job

    def pods(self) -> dict[str, dict[str, Any]]:
        """The specs of all pods, by kind and name of what runs them."""
        return {f"{each['kind']} {each['metadata']['name']}": pod_spec(each) for each in self if is_workload(each)}


class Renderer:
    """Renders a chart with one Helm.

    Args:
        helm: the program.
        chart: the folder of the chart.
    """

    def __init__(self, helm: Path, chart: Path = CHART) -> None:
        self.helm = helm
        self.chart = chart
        self._rendered: dict[str, Manifests | Refused] = {}

    def __call__(self, values: Mapping[str, Any] | None = None, *, release: str = "r") -> Manifests:
        """Render, or take what was rendered before with the same values.

        Raises:
            Refused: the schema or the chart's checks refuse the values.
        """
        key = json.dumps([release, values], sort_keys=True)
        if key not in self._rendered:
            self._rendered[key] = self._render(values or {}, release)
        known = self._rendered[key]
        if isinstance(known, Refused):
            raise Refused(*known.args)
        return known

    def refusal(self, values: Mapping[str, Any], *, release: str = "r") -> list[str]:
        """What the chart's checks say against the values; nothing if it renders."""
        try:
            self(values, release=release)
        except Refused as refused:
            return refused.problems or [str(refused)]
        return []

    def _render(self, values: Mapping[str, Any], release: str) -> Manifests | Refused:
        command = [str(self.helm), "template", release, str(self.chart), "--namespace", "n", "--kube-version", OLDEST]
        rendered = subprocess.run(
            [*command, "--values", "-"], input=json.dumps(values), capture_output=True, text=True, check=False
        )
        if rendered.returncode:
            return Refused(rendered.stderr)
        manifests = Manifests(tuple(each for each in yaml.load_all(rendered.stdout, Loader=_Strict) if each))
        for each in manifests:
            check_object(json.dumps(each, sort_keys=True))
        return manifests


class _Strict(yaml.CSafeLoader):
    """YAML as Kubernetes takes it: a key that comes twice is an error."""

    def map_once(self, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key comes twice at {node.start_mark}"
        return self.construct_mapping(node, deep=True)


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _Strict.map_once)


@cache
def check_object(text: str) -> None:
    """Check an object, as JSON, against the strict schemas of the oldest and the newest Kubernetes.

    Most objects are the same whatever the values; each is checked once.
    """
    each = json.loads(text)
    # Their files are named after the first part of the group: `role-rbac-v1` for rbac.authorization.k8s.io/v1.
    group = re.sub(r"[^/]*/", lambda found: found[0].partition(".")[0].rstrip("/") + "-", each["apiVersion"])
    for version in (OLDEST, NEWEST):
        problems = list(_validator(each["kind"].lower(), group, version).iter_errors(each))
        where = f"{each['kind']} {each['metadata']['name']}, Kubernetes {version}"
        assert not problems, f"{where}: {problems[0].json_path}: {problems[0].message}"


def is_workload(each: Mapping[str, Any]) -> bool:
    """Whether an object runs pods."""
    return each["kind"] in WORKLOADS


def pod_template(each: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pod template of an object that runs pods; a Pod is its own."""
    template: Mapping[str, Any] = each if each["kind"] == "Pod" else each["spec"]["template"]
    return template


def pod_spec(each: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of the pods of an object."""
    spec: dict[str, Any] = pod_template(each)["spec"]
    return spec


def containers(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod, the first to run first."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def environment(container: Mapping[str, Any]) -> dict[str, Any]:
    """The environment of a container: text, or (Secret, key)."""
    found: dict[str, Any] = {}
    for each in container["env"]:
        assert each["name"] not in found, f"{each['name']} comes twice, which server-side apply refuses"
        reference = each.get("valueFrom", {}).get("secretKeyRef")
        found[each["name"]] = (reference["name"], reference["key"]) if reference else each["value"]
    return found


def secret_data(secret: Mapping[str, Any]) -> dict[str, str]:
    """The content of a Secret, in plain."""
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


@cache
def _validator(kind: str, group: str, version: str) -> Draft202012Validator:
    schema = schema_contents(f"kubernetes-json-schema/v{version}-local-strict/{kind}-{group}.json", version)
    return Draft202012Validator(schema, registry=_definitions(version))


@cache
def _definitions(version: str) -> Registry[Any]:
    folder = f"kubernetes-json-schema/v{version}-local-strict"
    definitions = Resource.from_contents(schema_contents(f"{folder}/_definitions.json", version))
    return definitions @ Registry()
