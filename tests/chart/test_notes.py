"""What Helm says after an installation: templates/NOTES.txt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.chart.rendering import CHART, Renderer
from tests.chart.scenarios import EVERYTHING, EXISTING_SECRETS


@pytest.fixture(scope="module")
def notes(render: Renderer, tmp_path_factory: pytest.TempPathFactory):
    """Renders the notes, which `helm template` does not show: a copy of the chart has them in a ConfigMap."""
    chart = tmp_path_factory.mktemp("chart") / "celeriac"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "notes.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\n"
        'data: {notes: {{ include "celeriac/templates/NOTES.txt" . | toJson }}}\n'
    )
    renderer = Renderer(render.helm, Path(chart))

    def text(values):
        return renderer(values).get("ConfigMap", "notes")["data"]["notes"]

    return text


def test_notes_lead_to_the_first_task(notes):
    text = notes({})
    assert "Celeriac 0.1.0 is installed as r in namespace n." in text
    assert "kubectl -n n port-forward service/r-api 8000:8000" in text
    assert "token=$(kubectl -n n get secret r-api -o jsonpath='{.data.token}' | base64 -d)" in text
    assert "curl -s http://127.0.0.1:8000/tasks" in text
    assert "\n\n\n" not in text


def test_notes_warn_of_what_is_for_trying_only(notes):
    assert _warnings(notes({})) == [
        (
            "The bundled PostgreSQL is one pod without failover or backup, and an uninstall removes its data. "
            "In production set database.bundled to false and use one that is looked after."
        ),
        (
            "The bundled Redis is one pod without failover or backup, and an uninstall removes its data. "
            "In production set redis.bundled to false and use one that is looked after."
        ),
    ]


def test_notes_warn_of_queues_without_workers_of_missing_schedules_and_of_plain_http(notes):
    warnings = _warnings(notes(EVERYTHING | {"beat": {"replicas": 0}}))
    assert warnings[:2] == [
        "Queue on_hold has no worker (queues.on_hold.replicas is 0): its tasks wait until it gets one.",
        "beat.replicas is 0: nothing that is scheduled runs.",
    ]
    assert "its volume stays after an uninstall" in warnings[2]
    assert warnings[-1] == (
        "The API is reachable from outside the cluster by plain HTTP: "
        "put TLS in front, or tokens can be read on the way."
    )


def test_notes_name_the_secret_of_the_user_and_show_no_warning_without_reason(notes):
    text = notes(EXISTING_SECRETS)
    assert "get secret my-api" in text
    assert "Warnings:" not in text


def _warnings(text):
    return [line.removeprefix("- ") for line in text.partition("Warnings:\n")[2].splitlines()]
