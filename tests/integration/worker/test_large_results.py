"""Large results of real workers: what follows a task gets them, and what cannot be kept fails it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import chord

from celeriac import CeleriacApp
from celeriac.results import TaskState
from tests.integration.worker.test_leases import start
from tests.platform import Platform, wait_for

MakeApp = Callable[..., CeleriacApp]
Lines = Callable[..., list[list[str]]]

INLINE, MOST = 10_000, 200_000


@pytest.fixture
def app(trial: Platform, make_app: MakeApp) -> CeleriacApp:
    sizes = {"inline_bytes": INLINE, "max_bytes": MOST}
    trial.environment |= {f"CELERIAC_RESULTS__{name.upper()}": str(value) for name, value in sizes.items()}
    return make_app(
        redis_url=trial.environment["REDIS_URL"],
        file_store=trial.environment["CELERIAC_FILE_STORE"],
        workloads=("tests.workload",),
        results=sizes,
    )


@pytest.fixture
def write(app: CeleriacApp) -> Any:
    return app.tasks["tests.workload_tasks.write"]


@pytest.fixture
def measure(app: CeleriacApp) -> Any:
    return app.tasks["tests.workload_tasks.measure"]


def files(trial: Platform) -> list[str]:
    return [path.name for path in (trial.folder / "files").rglob("*") if path.is_file()]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_chains_and_chords_get_what_lies_in_files(
    trial: Platform, app: CeleriacApp, write: Any, measure: Any, pool: str
):
    start(trial, app, "--pool", pool, "--concurrency", "2")
    assert write.delay(50_000).get(timeout=30) == "x" * 50_000
    assert (write.s(50_000) | measure.s()).delay().get(timeout=30) == [50_000]
    assert chord([write.s(50_000), write.s(5), write.s(60_000)])(measure.s()).get(timeout=30) == [50_000, 5, 60_000]
    assert len(files(trial)) == 4


def test_a_result_that_is_too_large_fails_its_task_and_nothing_follows(
    trial: Platform, app: CeleriacApp, write: Any, measure: Any, lines: Lines, client: redis.Redis
):
    trial.start_api()
    start(trial, app)
    alone = write.delay(MOST).id
    assert trial.wait(alone)["error"].startswith("ResultNotStored: its result takes 200002 bytes")
    chain = (write.s(MOST) | measure.s()).delay()
    assert trial.wait(chain.parent.id)["state"] == "FAILURE"
    assert trial.wait(chain.id)["state"] == "FAILURE", "as that of any chain whose first task fails"
    assert trial.wait(measure.delay("abc").id)["result"] == [3]
    assert len(lines("measure")) == 1
    assert files(trial) == []
    wait_for(lambda: not client.exists("celeriac:inflight"), "all acknowledgements")


def test_a_file_store_that_is_away_for_a_while_delays_the_result(
    trial: Platform, app: CeleriacApp, write: Any, lines: Lines
):
    (trial.folder / "files").write_text("this is no folder")
    start(trial, app)
    task = write.delay(50_000)
    wait_for(lambda: lines("start", task.id), "the task to run")
    wait_for(lambda: "waiting_for_store" in trial.log("worker"), "the worker to notice")
    assert app.records.state(task.id) is TaskState.STARTED
    (trial.folder / "files").unlink()
    assert task.get(timeout=30) == "x" * 50_000
    assert len(lines("start", task.id)) == 1


def test_the_api_removes_the_files_of_results_that_have_expired(trial: Platform, app: CeleriacApp, write: Any):
    trial.environment["CELERIAC_RESULTS__EXPIRES_SECONDS"] = "1"
    trial.start_api()
    start(trial, app)
    task = write.delay(50_000).id
    wait_for(lambda: files(trial), "the result")
    wait_for(lambda: app.records.get(task) is None, "the record to expire")
    (name,) = app.redis.zrange(app.keys.result_files, 0, -1)
    app.redis.zincrby(app.keys.result_files, -61, name)
    wait_for(lambda: not files(trial), "the file to be removed", 15)
    wait_for(lambda: not app.redis.exists(app.keys.result_files), "its name to be forgotten")


def test_a_process_that_dies_between_file_and_result_leaves_a_file_that_is_removed(
    trial: Platform, app: CeleriacApp, lines: Lines
):
    trial.start_api()
    start(trial, app, "--concurrency", "1")
    task = app.tasks["tests.workload_tasks.write_and_die"].delay(50_000)
    assert task.get(timeout=60) == "x" * 50_000
    assert len(lines("start", task.id)) == 2
    left, stored = app.redis.zrange(app.keys.result_files, 0, -1)
    assert sorted(files(trial)) == sorted(name.removeprefix("results/") for name in (left, stored))
    app.redis.zincrby(app.keys.result_files, -900, left)
    wait_for(lambda: len(files(trial)) == 1, "the file that no result names to be removed", 15)
    assert app.AsyncResult(task.id).get(timeout=5) == "x" * 50_000


def test_the_command_line_prints_results_of_any_size(trial: Platform, app: CeleriacApp, write: Any, measure: Any):
    trial.start_api()
    start(trial, app)
    large, small = write.delay(50_000), measure.delay(["a", "bc"])
    assert (large.get(timeout=30), small.get(timeout=30)) == ("x" * 50_000, [1, 2])
    assert trial.run("tasks", "result", large.id).stdout == "x" * 50_000 + "\n"
    assert json.loads(trial.run("tasks", "result", large.id, "--json").stdout) == "x" * 50_000
    assert json.loads(trial.run("tasks", "result", small.id).stdout) == [1, 2]
    missing = trial.run("tasks", "result", "none")
    assert (missing.returncode, "404" in missing.stderr) == (1, True)
