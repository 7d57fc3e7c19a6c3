"""Whatever a task has returned, raised or reported, the API shows it, or says that it cannot be shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celeriac import CeleriacApp
from celeriac_api.app import create_api
from tests.api import Http

TOKEN = "a-token"


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


#: What a task has given, and how it is shown; none where that is a matter of its depth.
VALUES: dict[str, tuple[Any, ...]] = {
    "NaN": (float("nan"), "NaN"),
    "infinity": ({"a": [float("-inf")]}, {"a": ["-Infinity"]}),
    "a lone surrogate": ("a\ud800b", "a\ufffdb"),
    "a lone surrogate as a name": ({"a\ud800b": 1}, {"a\ufffdb": 1}),
    "an emoji": ("\N{GRINNING FACE}", "\N{GRINNING FACE}"),
    "NUL": ("a\0b", "a\0b"),
    "a large integer": (10**4000, 10**4000),
    "a text": ("x" * 100_000, "x" * 100_000),
    "190 deep": (nested(190), nested(190)),
    "300 deep": (nested(300),),
    "900 deep": (nested(900),),
    "a boolean": (True, True),
    "a list": ([1], [1]),
    "a fraction": (1.5, 1.5),
    "nothing": (None, None),
}


@pytest.fixture
def app(redis_url: str, sqlite_url: str, make_app: Callable[..., CeleriacApp]) -> CeleriacApp:
    return make_app(redis_url=redis_url, database_url=sqlite_url, api_token=TOKEN, workloads=("workloads.examples",))


@pytest.fixture
def http(app: CeleriacApp) -> Http:
    return Http(create_api(app), TOKEN)


@pytest.fixture(params=VALUES)
def given(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    return VALUES[request.param]


@pytest.fixture
def value(given: tuple[Any, ...]) -> Any:
    return given[0]


def stored(app: CeleriacApp, state: str, value: Any) -> str:
    task_id = str(app.send_task("examples.add", (1, 2)).id)
    app.backend.store_result(task_id, value, state, traceback=str(value)[:5000])
    return task_id


def test_any_result_is_shown(app: CeleriacApp, http: Http, given: tuple[Any, ...]):
    value, *shown_as = given
    answer = http.get(f"/tasks/{stored(app, 'SUCCESS', value)}")
    assert answer.status_code == 200, answer.text
    if shown_as:
        assert answer.json()["result"] == shown_as[0]
    else:
        assert "cannot be shown: it is nested too deeply" in answer.text
    assert http.get("/tasks").status_code == 200


def test_any_error_is_shown(app: CeleriacApp, http: Http, value: Any):
    task_id = stored(app, "FAILURE", ValueError(value))
    for answer in (http.get(f"/tasks/{task_id}"), http.get("/tasks")):
        assert answer.status_code == 200, answer.text
    assert http.get(f"/tasks/{task_id}").json()["error"].startswith("ValueError: ")


def test_any_progress_is_shown(app: CeleriacApp, http: Http, value: Any):
    # Two at a time: of all four the largest would be more than is stored of a task that has not ended.
    for fields in (("current", "total"), ("percent", "message")):
        task_id = stored(app, "PROGRESS", dict.fromkeys(fields, value))
        for answer in (http.get(f"/tasks/{task_id}"), http.get("/tasks")):
            assert answer.status_code == 200, answer.text
    task_id = stored(app, "PROGRESS", value)
    assert http.get(f"/tasks/{task_id}").json()["state"] == "PROGRESS"
