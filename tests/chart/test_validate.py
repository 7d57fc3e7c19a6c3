"""What the chart refuses, and how it says so: templates/_validate.tpl."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import CHART, Renderer
from tests.chart.scenarios import SCENARIOS, SECRETS

REFUSALS = {
    "no queue": (
        {"queues": {"default": None, "data_sync": None, "scheduled": None}},
        (
            "queues is empty: no worker would run, and every task would wait for ever. "
            "Name at least one queue, such as `queues: {default: {}}`."
        ),
    ),
    "a queue's name": (
        {"queues": {"data-sync": {}}},
        (
            'queues.data-sync: "data-sync" cannot be a queue\'s name. '
            "Use lower-case letters, digits and _, a letter first and no _ last, at most 40 characters."
        ),
    ),
    "a queue's short grace": (
        {"queues": {"default": {"terminationGracePeriodSeconds": 29}}},
        (
            "queues.default.terminationGracePeriodSeconds is 29: what a worker has not finished by then runs again "
            "elsewhere, and less than 30 leaves tasks hardly any time. Set 30 or more; 120 is the default."
        ),
    ),
    "two Beats": (
        {"beat": {"replicas": 2}},
        "beat.replicas is 2: two Beats would each send every periodic task. Set 1, or 0 for no schedules.",
    ),
    "no Redis": (
        {"redis": {"bundled": False}},
        (
            "redis.bundled is false, and nothing says what to use instead. Set redis.url (redis://host:6379/0), "
            "or redis.existingSecret to a Secret with the key redis-url."
        ),
    ),
    "no database": (
        {"database": {"bundled": False}},
        (
            "database.bundled is false, and nothing says what to use instead. Set database.url "
            "(postgresql://user:password@host/name), or database.existingSecret to a Secret with the key database-url."
        ),
    ),
    "a URL beside the bundled server": (
        {"redis": {"url": "redis://host"}},
        (
            "redis.url is set, but redis.bundled is true, so it would not be used. "
            "Set redis.bundled to false, or remove the URL."
        ),
    ),
    "a URL and a Secret": (
        {"database": {"bundled": False, "url": SECRETS["database"], "existingSecret": "mine"}},
        "database.url and database.existingSecret are both set, and only one can be used. Remove one of them.",
    ),
    "a token and a Secret": (
        {"api": {"token": "t", "existingSecret": "mine"}},
        "api.token and api.existingSecret are both set, and only one can be used. Remove one of them.",
    ),
    "another broker": (
        {"redis": {"bundled": False, "url": "amqp://me:pw@host"}},
        (
            "redis.url is none of redis://, rediss://, redis+sentinel:// and rediss+sentinel:// "
            "(its value is not shown, as it may hold a password): "
            "pods reach no other server. Use redis://host:6379/0 or redis+sentinel://host:26379/primary/0."
        ),
    ),
    "SQLite": (
        {"database": {"bundled": False, "url": "sqlite:////data/celeriac.db"}},
        (
            "database.url is an SQLite URL: each pod would have a database of its own. "
            "Use postgresql://user:password@host/name, or database.bundled: true."
        ),
    ),
    "another database": (
        {"database": {"bundled": False, "url": "mysql://me:pw@host"}},
        (
            "database.url is not postgresql:// (its value is not shown, as it may hold a password): "
            "no other database works. Use postgresql://user:password@host/name."
        ),
    ),
    "files in a folder": (
        {"fileStore": {"url": "file:///data"}},
        (
            'fileStore.url is "file:///data": the worker that reads an upload may run on another node than the API '
            "that took it, so only a store that all pods reach works. Use db: or s3://bucket/prefix."
        ),
    ),
    "a setting with a value of its own": (
        {"settings": {"CELERIAC_API_TOKEN": "t"}},
        "settings.CELERIAC_API_TOKEN: the chart sets this variable from api.token. Set that instead.",
    ),
    "a setting that a value stands for": (
        {"settings": {"CELERIAC_SCALING__ENABLED": "false"}},
        "settings.CELERIAC_SCALING__ENABLED: the chart sets this variable from api.scaling.enabled. Set that instead.",
    ),
    "a setting that the chart relies on": (
        {"settings": {"CELERIAC_PROBE__PORT": "9"}},
        "settings.CELERIAC_PROBE__PORT: probes, Services and volumes rely on what the chart sets. Remove it.",
    ),
    "a secret among the settings": (
        {"settings": {"CELERIAC_SMTP__PASSWORD": "pw"}},
        (
            "settings.CELERIAC_SMTP__PASSWORD: a secret would stand in every Deployment for all to read. Put it into a "
            "Secret, and name that in extraEnv (valueFrom.secretKeyRef) or extraEnvFrom."
        ),
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_names_key_value_reason_and_way_out(render: Renderer, refusal: str):
    values, message = REFUSALS[refusal]
    assert render.refusal(values) == [message]


def test_a_release_whose_objects_could_not_be_named_is_refused(render: Renderer):
    assert render.refusal({}, release="r" * 41) == [
        (
            f'release name "{"r" * 41}" has 41 characters, and 40 are the most: Kubernetes allows 52 for a '
            "StatefulSet and 63 for a Job, with what the chart adds. Choose a shorter one."
        )
    ]
    assert render.refusal({}, release="7up") == [
        'release name "7up" cannot begin the name of a Service. Use lower-case letters, digits and -, a letter first.'
    ]


def test_release_and_queue_that_are_too_long_together_are_refused(render: Renderer):
    release, queue = "r" * 30, "q" * 26
    assert render.refusal({"queues": {queue: {}}}, release=release) == [
        (
            f'queues.{queue}: its Deployment "{release}-worker-{queue}" would have 64 characters, '
            "and Kubernetes allows 63. Shorten the queue's name or the release's."
        )
    ]
    assert render.refusal({"queues": {queue[:-1]: {}}}, release=release) == []


def test_all_problems_are_told_at_once(render: Renderer):
    values = {"beat": {"replicas": 2}, "database": {"bundled": False}, "queues": {"A": {}}}
    assert len(render.refusal(values)) == 3


@pytest.mark.parametrize("name", ["a", "a1", "data_sync", "a" * 40, "a__b"])
def test_names_that_celeriac_takes_for_queues_are_taken(render: Renderer, name: str):
    assert render.refusal({"queues": {name: {}}}) == []


@pytest.mark.parametrize("name", ["A", "1a", "_a", "a_", "a.b", "a b", "a" * 41])
def test_names_that_celeriac_refuses_for_queues_are_refused(render: Renderer, name: str):
    (problem,) = render.refusal({"queues": {name: {}}})
    assert problem.startswith(f"queues.{name}: ")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_can_work_is_not_refused(render: Renderer, scenario: str):
    assert render.refusal(SCENARIOS[scenario]) == []


@pytest.mark.parametrize(
    "file", sorted((CHART.parents[1] / "k8s" / "values").glob("*.yaml")), ids=lambda file: file.stem
)
def test_example_values_can_be_installed(render: Renderer, file: Path):
    assert render.refusal(yaml.safe_load(file.read_text())) == []


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL))
def test_examples_of_the_readme_can_be_installed(render: Renderer, example: str):
    assert render.refusal(yaml.safe_load(example)) == []
