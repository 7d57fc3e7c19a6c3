"""Cancelling by a filter while workers run: nothing that was cancelled starts afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis

from celeriac import CeleriacApp
from celeriac.results import TaskFilter, TaskState
from tests.platform import Platform, wait_for

Lines = Callable[..., list[list[str]]]

TASKS = 5000
LAST_DUE_SECONDS = 12.0
NAP = "tests.workload_tasks.nap"


def cancel(trial: Platform, **chosen: Any) -> int:
    """Cancel all that match, in as many requests as it takes."""
    count, cursor = 0, None
    while True:
        answer = trial.http.post("/tasks/cancel", json=chosen | {"cursor": cursor})
        assert answer.status_code == 200, answer.text
        assert answer.json()["cancelled"] <= 1000
        count, cursor = count + answer.json()["cancelled"], answer.json()["cursor"]
        if cursor is None:
            return count


def ids(app: CeleriacApp, state: TaskState) -> set[str]:
    found, cursor = set[str](), None
    while True:
        page = app.listing.page(TaskFilter(states=[state]), limit=1000, cursor=cursor)
        found |= {record.task_id for record in page.records}
        if (cursor := page.next_cursor) is None:
            return found


def test_of_thousands_that_are_cancelled_while_workers_run_none_starts_afterwards(
    trial: Platform, app: CeleriacApp, client: redis.Redis, lines: Lines
):
    trial.start_api()
    for _ in range(2):
        trial.start_worker("trial", concurrency=2)
    first = [
        {"name": NAP, "args": [0.01], "countdown": LAST_DUE_SECONDS * number / TASKS} for number in range(TASKS // 2)
    ]
    tasks = first + [{"name": NAP, "args": [0.01]}] * (TASKS // 2)
    submitted_at = time.time()
    answer = trial.http.post("/tasks/bulk", json={"tasks": tasks})
    assert answer.json()["accepted"] == TASKS
    submitted = {task["task_id"] for task in answer.json()["tasks"]}
    wait_for(lambda: len(lines("start")) > 50, "the workers to be busy")

    count = cancel(trial, queue="trial")
    ended_at = time.time()
    assert client.zcard("celeriac:delayed:trial") == 0
    time.sleep(max(0.0, submitted_at + LAST_DUE_SECONDS + 1 - time.time()))  # all would have been due
    wait_for(lambda: client.zcard("celeriac:leases:trial") == client.llen("trial") == 0, "the queue to be empty")

    revoked, succeeded = ids(app, TaskState.REVOKED), ids(app, TaskState.SUCCESS)
    starts = lines("start")
    assert revoked | succeeded == submitted
    assert len(revoked) == count > TASKS / 2
    assert {task_id for _, task_id, at in starts if float(at) > ended_at} & revoked == set()
    assert {task_id for _, task_id, _ in starts} >= succeeded
    assert len({task_id for _, task_id, _ in starts} & revoked) <= 4 * (TASKS // 1000 + 1), "only what ran then"
    assert trial.wait(trial.submit(NAP, 0))["state"] == "SUCCESS", "the workers go on"


def test_what_runs_is_terminated(trial: Platform, app: CeleriacApp, lines: Lines):
    trial.start_api()
    trial.start_worker("trial", concurrency=2)
    running = [trial.submit("tests.workload_tasks.sleep", 60) for _ in range(2)]
    waiting = trial.submit("tests.workload_tasks.sleep", 60)
    wait_for(lambda: len(lines("start")) == 2, "both to start")
    assert cancel(trial, state="PENDING", name="tests.workload_tasks.sleep") == 1
    assert [trial.task(task_id)["state"] for task_id in (*running, waiting)] == ["STARTED", "STARTED", "REVOKED"]
    assert cancel(trial, name="tests.workload_tasks.sleep") == 2
    began = time.monotonic()
    assert trial.wait(trial.submit("tests.workload_tasks.nap", 0))["state"] == "SUCCESS"
    assert time.monotonic() - began < 30, "the slots are free again"
    assert {trial.task(task_id)["state"] for task_id in running} == {"REVOKED"}
    assert lines("end") == []
