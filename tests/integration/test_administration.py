"""What administrators see and do by HTTP and from the command line: workers, tasks, queues."""

from __future__ import annotations

import json
import platform as machine
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import pytest

from celeriac import CeleriacApp
from celeriac.broker.leases import Delivery
from celeriac.registry import WorkerRecord
from celeriac_api.app import create_api
from tests.api import Http
from tests.platform import Platform

TOKEN = "a-token"


@pytest.fixture
def app(redis_url: str, sqlite_url: str, make_app: Callable[..., CeleriacApp]) -> CeleriacApp:
    return make_app(
        redis_url=redis_url,
        database_url=sqlite_url,
        api_token=TOKEN,
        workloads=("workloads.examples",),
        queues=("other",),
    )


@pytest.fixture
def http(app: CeleriacApp) -> Http:
    return Http(create_api(app), TOKEN)


def work(app: CeleriacApp, name: str, *queues: str) -> None:
    record = WorkerRecord(
        name, queues, slots=2, busy=1, consumer="consuming", version="0", pid=7, started_at="2026-01-31T12:00:00+00:00"
    )
    app.registry.write(record)


def run(app: CeleriacApp, *, state: str | None = "SUCCESS") -> str:
    """Publish a task, begin it, and let it come to an end; None leaves it running."""
    task_id = str(app.send_task("examples.add", (1, 2), queue="default").id)
    _, tag, _, _ = app.leases.claim(["default"], 1)
    delivery = Delivery("default", int(tag))
    assert app.records.begin(task_id, delivery, retries=0, worker="w@host", started=None) == "run"
    if state:
        app.records.store(task_id, state, delivery=delivery, acknowledges=True)
    return task_id


def test_workers_are_listed_by_name_page_by_page(app: CeleriacApp, http: Http):
    names = [f"w{number}@host" for number in range(5)]
    for number, name in enumerate(reversed(names)):
        work(app, name, "default", *(["other"] if number == 0 else []))
    pages, cursor = [], None
    while True:
        asked: dict[str, Any] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = http.get("/admin/celery/workers", params=asked).json()
        assert page["total"] == 5
        pages.append([worker["name"] for worker in page["items"]])
        cursor = page["cursor"]
        if cursor is None:
            break
    assert pages == [names[:2], names[2:4], names[4:]]
    page = http.get("/admin/celery/workers", params={"queue": "other"}).json()
    assert ([worker["name"] for worker in page["items"]], page["total"]) == (names[4:], 1)
    assert http.get("/admin/celery/workers", params={"queue": "nothing"}).json()["items"] == []


def test_a_worker_says_what_it_is(app: CeleriacApp, http: Http):
    work(app, "one@host", "default", "other")
    (worker,) = http.get("/admin/celery/workers").json()["items"]
    seen = datetime.fromisoformat(worker.pop("last_heartbeat_at"))
    assert abs(datetime.now(UTC) - seen) < timedelta(seconds=20)
    assert worker == {
        "name": "one@host",
        "queues": ["default", "other"],
        "slots": 2,
        "busy": 1,
        "state": "consuming",
        "pool": "",
        "host": "",
        "pid": 7,
        "version": "0",
        "celery_version": "",
        "python_version": "",
        "started_at": "2026-01-31T12:00:00+00:00",
    }


def test_a_worker_of_an_older_version_is_listed_all_the_same(app: CeleriacApp, http: Http):
    work(app, "old@host", "default")
    app.redis.hdel(app.keys.worker("old@host"), "pool", "host", "celery_version", "python_version", "seen_at")
    (worker,) = http.get("/admin/celery/workers").json()["items"]
    assert (worker["name"], worker["pool"], worker["last_heartbeat_at"]) == ("old@host", "", "")


def test_tasks_are_listed_with_worker_and_run_time_and_the_names_that_there_are(app: CeleriacApp, http: Http):
    waiting = str(app.send_task("examples.add", (1, 2), queue="other").id)
    ended, running = run(app), run(app, state=None)
    started = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=90)
    for task_id in (ended, running):
        app.redis.hset(app.keys.task(task_id), "started_at", started.isoformat(timespec="milliseconds"))
    app.redis.hset(app.keys.task(ended), "finished_at", (started + timedelta(seconds=1.5)).isoformat())
    page = http.get("/admin/celery/tasks").json()
    assert page["registered"] == app.task_names
    assert "examples.add" in page["registered"]
    assert page["next_cursor"] is None
    assert [task["task_id"] for task in page["tasks"]] == [running, ended, waiting]
    shown = {task["task_id"]: task for task in page["tasks"]}
    assert (shown[ended]["state"], shown[ended]["worker"]) == ("SUCCESS", "w@host")
    assert shown[ended]["runtime_seconds"] == 1.5
    assert 90 <= shown[running]["runtime_seconds"] < 120
    assert "runtime_seconds" not in shown[waiting]
    assert "result" not in shown[ended]
    page = http.get("/admin/celery/tasks", params={"state": "STARTED", "queue": "default", "limit": 1}).json()
    assert [task["task_id"] for task in page["tasks"]] == [running]
    assert http.get("/admin/celery/tasks", params={"cursor": "x"}).status_code == 422


def test_a_task_that_has_failed_is_tried_again(app: CeleriacApp, http: Http):
    task_id = run(app, state="FAILURE")
    app.redis.set(app.keys.message(task_id), "default\n" + '{"headers": {"retries": 0}}')
    answer = http.post(f"/admin/celery/tasks/{task_id}/retry")
    assert (answer.status_code, answer.json()["task_id"]) == (202, task_id)
    assert answer.headers["Location"] == f"/tasks/{task_id}"
    assert app.records.state(task_id) == "PENDING"
    assert http.post(f"/admin/celery/tasks/{task_id}/retry").status_code == 409
    assert http.post("/admin/celery/tasks/nothing/retry").status_code == 404


def test_all_of_it_is_there_from_the_command_line(platform: Platform):
    def command(*arguments: str, code: int = 0) -> Any:
        done = platform.run(*arguments, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    platform.start_api()
    platform.start_worker("default", concurrency=1)
    (worker,) = command("workers", "--queue", "default")
    assert (worker["queues"], worker["slots"], worker["pool"]) == (["default"], 1, "prefork")
    assert (worker["host"], worker["version"]) == (socket.gethostname(), version("celeriac"))
    assert (worker["celery_version"], worker["python_version"]) == (version("celery"), machine.python_version())
    age = datetime.now(UTC) - datetime.fromisoformat(worker["last_heartbeat_at"])
    assert age < timedelta(seconds=30)
    assert command("workers", "--queue", "scheduled") == []

    assert command("queues", "pause", "default")["paused"] is True
    ids = [platform.submit("examples.add", number, 1) for number in range(3)]
    time.sleep(1)
    shown = command("queues", "show", "default")
    assert (shown["ready"], shown["paused"], shown["workers"]) == (3, True, 1)
    assert shown["queue"] in [queue["queue"] for queue in command("queues", "list")]
    assert command("tasks", "sync") == {"examined": 3, "marked": 0, "skipped": 0, "task_ids": []}
    assert command("queues", "purge", "default") == {"purged": 3}
    assert {platform.task(task_id)["state"] for task_id in ids} == {"REVOKED"}
    assert command("queues", "resume", "default")["paused"] is False
    assert platform.wait(platform.submit("examples.add", 20, 22))["result"] == 42

    assert "does not run in a cluster" in command("queues", "scale", "default", "3", code=1)
    assert "404 Not found: no queue 'nothing'" in command("queues", "pause", "nothing", code=1)
    for arguments in (["queues", "list"], ["queues", "show", "default"], ["workers"], ["tasks", "sync"]):
        done = platform.run(*arguments)
        assert done.returncode == 0
        assert "default" in done.stdout or "0 examined" in done.stdout
