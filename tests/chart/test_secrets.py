"""Secrets, and what restarts when they change: templates/_secrets.tpl."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.chart.rendering import Renderer, environment, is_workload, pod_spec, pod_template, secret_data
from tests.chart.scenarios import EXISTING_SECRETS, EXTERNAL, SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_secret_stands_outside_a_secret(render: Renderer, scenario: str):
    rendered = render(SCENARIOS[scenario])
    secrets = [each for each in rendered if each["kind"] == "Secret"]
    values = {value for each in secrets for value in secret_data(each).values()}
    values |= {value for each in secrets for value in each["data"].values()}
    # A plain digest of a weak password can be guessed.
    values |= {hashlib.sha256(value.encode()).hexdigest() for value in values}
    for each in rendered:
        if each["kind"] != "Secret":
            text = json.dumps(each)
            assert not [value for value in values if value in text], each["metadata"]["name"]


def test_parts_of_given_urls_stand_outside_no_secret(render: Renderer):
    for each in render(EXTERNAL):
        if each["kind"] != "Secret":
            text = json.dumps(each)
            assert not [word for word in ("pw-of-redis", "pw-of-database", "tok3n") if word in text]


def test_given_values_win_over_generated_ones(render: Renderer):
    rendered = render(EXTERNAL)
    assert secret_data(rendered.get("Secret", "r-api")) == {"token": EXTERNAL["api"]["token"]}
    assert rendered.names("Secret") == ["r-api", "r-database-url", "r-redis-url"]


def test_with_existing_secrets_none_is_rendered(render: Renderer):
    assert render(EXISTING_SECRETS).names("Secret") == []


def test_bundled_servers_take_existing_secrets_too(render: Renderer):
    values = {
        "api": {"existingSecret": "a"},
        "redis": {"existingSecret": "my-redis"},
        "database": {"existingSecret": "my-database"},
    }
    rendered = render(values)
    assert rendered.names("Secret") == []
    assert rendered.names("StatefulSet") == ["r-postgresql", "r-redis"]
    (server,) = pod_spec(rendered.get("StatefulSet", "r-postgresql"))["containers"]
    assert environment(server)["POSTGRES_PASSWORD"] == ("my-database", "password")
    (worker,) = pod_spec(rendered.get("Deployment", "r-worker-default"))["containers"]
    assert environment(worker)["DATABASE_URL"] == ("my-database", "database-url")
    assert environment(worker)["REDIS_URL"] == ("my-redis", "redis-url")


def test_generated_secrets_are_long_random_and_differ(render: Renderer):
    rendered = render({})
    secrets = [
        secret_data(rendered.get("Secret", "r-api"))["token"],
        secret_data(rendered.get("Secret", "r-redis"))["password"],
        secret_data(rendered.get("Secret", "r-postgresql"))["password"],
        secret_data(render({}, release="s").get("Secret", "s-api"))["token"],
    ]
    assert len(set(secrets)) == 4
    assert all(len(secret) == 40 and secret.isalnum() for secret in secrets)


def test_generated_secrets_restart_nothing(render: Renderer):
    again = Renderer(render.helm, render.chart)({})
    assert _templates(render({})) == _templates(again)
    assert secret_data(render({}).get("Secret", "r-api")) != secret_data(again.get("Secret", "r-api"))


DATABASES = {"r-postgresql", "r-redis"}
PLATFORM = {"r-api", "r-beat", "r-worker-data-sync", "r-worker-default", "r-worker-scheduled"}


@pytest.mark.parametrize(
    ("values", "restarted"),
    [
        ({"api": {"token": "other"}}, {"r-api"}),
        ({"redis": {"url": "redis://other"}}, PLATFORM),
        ({"database": {"url": "postgresql://other"}}, PLATFORM),
        ({"queues": {"data_sync": {"concurrency": 7}}}, {"r-worker-data-sync"}),
        ({"queues": {"data_sync": {"replicas": 7}}}, set()),
        ({"queues": {"further": {}}}, PLATFORM),
        ({"settings": {"CELERIAC_LOG__LEVEL": "DEBUG"}}, PLATFORM),
        ({"images": {"worker": {"tag": "2"}}}, {name for name in PLATFORM if "worker" in name}),
        ({"api": {"service": {"port": 80}}}, set()),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_change_restarts_what_uses_it_and_nothing_else(render: Renderer, values, restarted):
    before, after = _templates(render(EXTERNAL)), _templates(render(_over(EXTERNAL, values)))
    assert {name for name in before if before[name] != after[name]} == restarted


@pytest.mark.parametrize(
    ("values", "restarted"),
    [
        ({"redis": {"maxMemory": "1gb"}}, {"r-redis"}),
        ({"api": {"token": "given"}}, {"r-api"}),
        ({"timezone": "Asia/Tokyo"}, PLATFORM),
        ({"images": {"postgresql": {"tag": "17.2"}}}, {"r-postgresql"}),
        ({"podAnnotations": {"a": "b"}}, PLATFORM | DATABASES),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_change_restarts_bundled_servers_only_where_it_concerns_them(render: Renderer, values, restarted):
    before, after = _templates(render({})), _templates(render(values))
    assert {name for name in before if before[name] != after[name]} == restarted


def _templates(rendered):
    return {
        each["metadata"]["name"]: pod_template(each)
        for each in rendered
        if is_workload(each) and each["kind"] not in {"Job", "Pod"}
    }


def _over(values, others):
    merged = dict(values)
    for key, value in others.items():
        merged[key] = _over(merged.get(key, {}), value) if isinstance(value, dict) else value
    return merged
