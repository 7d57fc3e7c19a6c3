"""Results that are too large for Redis: where they lie, who replaces whose, and that no file is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import boto3
import pytest
from celery.app.task import Context

from celeriac import CeleriacApp, NotFound, Unavailable
from celeriac.access import Scope, Token, token_hash
from celeriac.broker.leases import Delivery
from celeriac.broker.messages import QUEUE_PROPERTY
from celeriac.broker.publication import Publication
from celeriac.database.migrate import Migrations
from celeriac.results import FileSweep, ResultFiles, ResultNotStored, TaskState, files
from celeriac.storage import FileStore
from celeriac_api.app import create_api
from celeriac_api.auth import Authenticator
from tests.api import Http
from tests.platform import wait_for
from tests.servers import S3Server
from tests.storage import use_s3

MakeApp = Callable[..., CeleriacApp]

INLINE, MOST = 4096, 100_000
LARGE = {"text": "é" * 5000, "numbers": list(range(1000))}
EXPIRES = 3600


class Folder:
    """What lies in the file store of an app, which is a folder; the store can go away."""

    def __init__(self, store: FileStore, path: Path) -> None:
        self.store = store
        self.path = path
        #: Calls that fail before it works again.
        self.failing = 0

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())

    def _check(self) -> None:
        self.failing -= 1
        if self.failing >= 0:
            raise Unavailable("the file store is away: tests")

    def put(self, key: str, content: IO[bytes]) -> int:
        self._check()
        return self.store.put(key, content)

    def open(self, key: str) -> IO[bytes]:
        self._check()
        return self.store.open(key)

    def delete(self, key: str) -> None:
        self._check()
        self.store.delete(key)


def app_of(make_app: MakeApp, redis_url: str, database_url: str, file_store: str) -> CeleriacApp:
    return make_app(
        redis_url=redis_url,
        database_url=database_url,
        file_store=file_store,
        workloads=("workloads.examples",),
        results={"inline_bytes": INLINE, "max_bytes": MOST, "expires_seconds": EXPIRES},
    )


@pytest.fixture
def app(make_app: MakeApp, redis_url: str, sqlite_url: str, tmp_path: Path) -> CeleriacApp:
    return app_of(make_app, redis_url, sqlite_url, f"file://{tmp_path / 'files'}")


@pytest.fixture
def folder(app: CeleriacApp, tmp_path: Path) -> Folder:
    folder = Folder(app.files, tmp_path / "files")
    vars(app)["files"] = folder
    return folder


@pytest.fixture(params=["file", "sqlite", "postgres", "s3"])
def any_app(
    request: pytest.FixtureRequest,
    make_app: MakeApp,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> CeleriacApp:
    """An app on each kind of file store."""
    database_url = request.getfixturevalue("postgres_url" if request.param == "postgres" else "sqlite_url")
    Migrations(database_url, []).upgrade()
    file_store = f"file://{tmp_path / 'files'}" if request.param == "file" else "db:"
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        use_s3(monkeypatch, server.url)
        bucket = f"bucket-{uuid4()}"
        boto3.client("s3").create_bucket(Bucket=bucket)
        file_store = f"s3://{bucket}/some/prefix"
    return app_of(make_app, redis_url, database_url, file_store)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "STORE_PATIENCE_SECONDS", 0.1)


def run(app: CeleriacApp, task_id: str = "one") -> Context:
    """Publish a task, claim and begin it; gives its request."""
    if app.records.get(task_id) is None:
        app.records.add(task_id, name="examples.add", queue="default", priority=5)
    raw = json.dumps({"body": "", "headers": {"id": task_id}, "properties": {"delivery_info": {}}})
    app.leases.publish(Publication("default", raw, waiting_id=task_id))
    _, tag, _, _ = app.leases.claim(["default"], 1)
    app.records.begin(task_id, Delivery("default", int(tag)), retries=0, worker="w", started=None)
    properties = {"delivery_tag": str(tag), QUEUE_PROPERTY: "default"}
    return Context({"id": task_id, "task": "examples.add", "hostname": "w", "properties": properties})


def finish(app: CeleriacApp, value: object, task_id: str = "one") -> None:
    """Run a task that returns a value."""
    app.backend.mark_as_done(task_id, value, run(app, task_id))


def http(app: CeleriacApp) -> Http:
    token = Token("all", frozenset(Scope))
    return Http(create_api(app, Authenticator({token_hash("secret"): token}, dict)), "secret")


def get(app: CeleriacApp, task_id: str = "one") -> Any:
    return app.AsyncResult(task_id).get(timeout=5)


def meta(app: CeleriacApp, task_id: str = "one") -> dict[str, Any]:
    """What Redis holds of a result."""
    found: dict[str, Any] = json.loads(app.redis.get(app.keys.result(task_id)))
    return found


def let_pass(app: CeleriacApp, seconds: float) -> None:
    """Let the time of all files pass."""
    for name, moment in app.redis.zrange(app.keys.result_files, 0, -1, withscores=True):
        app.redis.zadd(app.keys.result_files, {name: moment - seconds})


def sweep(app: CeleriacApp) -> int:
    app.redis.delete(app.keys.files_sweeper)
    return app.result_files.sweep()


# Where they lie


def test_a_large_result_is_found_by_all_ways_and_goes_with_its_record(any_app: CeleriacApp):
    app = any_app
    finish(app, LARGE)
    assert app.redis.strlen(app.keys.result("one")) < 500
    assert meta(app)["result"] is None
    assert get(app) == LARGE
    name = meta(app)["result_file"]["name"]
    task = http(app).get("/tasks/one").json()
    assert "result" not in task
    assert (task["state"], task["result_url"]) == ("SUCCESS", "/tasks/one/result")
    answer = http(app).get(task["result_url"])
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json() == LARGE
    assert int(answer.headers["Content-Length"]) == len(answer.content) == task["result_bytes"]

    let_pass(app, EXPIRES)
    assert sweep(app) == 0, "it lingers for those who read it"
    let_pass(app, files.LINGER_SECONDS + 1)
    assert sweep(app) == 1
    with pytest.raises(NotFound):
        app.result_files.open(name)
    assert not app.redis.exists(app.keys.result_files)
    gone = http(app).get("/tasks/one/result")
    assert (gone.status_code, gone.json()["title"]) == (404, "Not found")


def test_what_is_as_large_as_may_be_stays_in_redis(app: CeleriacApp, folder: Folder):
    limit = "x" * (INLINE - 2)  # and two quotation marks
    finish(app, limit)
    finish(app, limit + "x", "two")
    assert [get(app), get(app, "two")] == [limit, limit + "x"]
    assert len(folder.names()) == 1
    task = http(app).get("/tasks/one").json()
    assert (task["result"], "result_url" in task) == (limit, False)
    assert http(app).get("/tasks/one/result").json() == limit


@pytest.mark.parametrize("value", [None, 5, "text", [1.5, float("nan")], {"a": []}])
def test_a_small_result_is_got_in_the_same_way(app: CeleriacApp, folder: Folder, value: object):
    finish(app, value)
    answer = http(app).get("/tasks/one/result")
    assert answer.json() == ([1.5, "NaN"] if isinstance(value, list) else value)
    assert folder.names() == []


@pytest.mark.parametrize("state", [state for state in TaskState if state is not TaskState.SUCCESS])
def test_a_task_that_has_not_succeeded_has_no_result(app: CeleriacApp, state: TaskState):
    app.records.add("one", name="examples.add", queue="default", priority=5)
    if state is not TaskState.PENDING:
        app.records.store("one", state)
    answer = http(app).get("/tasks/one/result")
    assert answer.status_code == 409
    assert f"task one is {state} ({state.words})" in answer.json()["detail"]
    assert http(app).get("/tasks/two/result").status_code == 404


def test_a_result_that_never_expires_keeps_its_file(app: CeleriacApp, folder: Folder):
    app.backend.expires = None
    finish(app, LARGE)
    let_pass(app, 10 * 366 * 86400)
    assert sweep(app) == 0
    assert get(app) == LARGE


# Who replaces whose


def test_a_worker_that_lost_its_lease_replaces_nothing_and_leaves_no_file(app: CeleriacApp, folder: Folder):
    late = run(app)
    app.leases.give_up(Delivery("default", int(late.properties["delivery_tag"])), "its worker stopped renewing")
    _, tag, _, _ = app.leases.claim(["default"], 1)
    first = Context({**vars(late), "properties": late.properties | {"delivery_tag": str(tag)}})
    app.backend.mark_as_done("one", LARGE, first)
    stored = folder.names()
    app.backend.mark_as_done("one", ["late"] * 5000, late)
    assert get(app) == LARGE
    assert folder.names() == stored
    assert stored[0].startswith(f"results/{tag}-"), "its name says which delivery it is of"


def test_late_before_the_other_has_ended_is_refused_as_well(app: CeleriacApp, folder: Folder):
    late = run(app)
    app.leases.give_up(Delivery("default", int(late.properties["delivery_tag"])), "its worker stopped renewing")
    assert app.leases.claim(["default"], 1)
    app.backend.mark_as_done("one", LARGE, late)
    assert (app.redis.get(app.keys.result("one")), folder.names()) == (None, [])
    assert not app.redis.exists(app.keys.result_files)


def test_of_a_task_that_was_cancelled_meanwhile_no_file_stays(app: CeleriacApp, folder: Folder):
    request = run(app)
    app.records.revoke("one")
    app.backend.mark_as_done("one", LARGE, request)
    assert app.records.state("one") is TaskState.REVOKED
    assert folder.names() == []


# What is left behind


def test_what_a_worker_leaves_that_dies_before_it_has_stored_the_result_is_removed(app: CeleriacApp, folder: Folder):
    app.result_files.write(json.dumps(LARGE), 17)
    (left,) = folder.names()
    assert left.startswith("results/17-")
    assert sweep(app) == 0, "it may still be stored"
    let_pass(app, files.NAMED_SECONDS)
    assert sweep(app) == 1
    assert folder.names() == []
    assert not app.redis.exists(app.keys.result_files)


def test_a_file_whose_time_is_up_becomes_no_result(app: CeleriacApp, folder: Folder, monkeypatch: pytest.MonkeyPatch):
    """Or it would be removed under the result."""
    request, write = run(app), ResultFiles.write

    def take_long(result_files: ResultFiles, value: str, token: int | None) -> str:
        name = write(result_files, value, token)
        let_pass(app, files.NAMED_SECONDS)
        return name

    monkeypatch.setattr(ResultFiles, "write", take_long)
    with pytest.raises(ResultNotStored, match="was not stored within 900 s"):
        app.backend.mark_as_done("one", LARGE, request)
    assert app.records.state("one") is TaskState.STARTED
    assert app.redis.zcard(app.keys.leases("default")) == 1, "its message is not acknowledged by this"
    assert folder.names() == []


def test_files_are_removed_by_one_process_at_a_time_until_none_is_left(app: CeleriacApp, folder: Folder):
    for number in range(250):
        app.result_files.write("1", number)
    let_pass(app, files.NAMED_SECONDS)
    app.redis.set(app.keys.files_sweeper, "")
    assert app.result_files.sweep() == 0
    assert sweep(app) == 250
    assert 0 < app.redis.pttl(app.keys.files_sweeper) < 1000 * files.SWEEP_SECONDS
    assert folder.names() == []


def test_what_cannot_be_removed_is_removed_later(app: CeleriacApp, folder: Folder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "SWEEP_SECONDS", 0.6)
    for number in range(3):
        app.result_files.write("1", number)
    let_pass(app, files.NAMED_SECONDS)
    folder.failing = 2
    thread = FileSweep(app.result_files)
    thread.start()
    try:
        wait_for(lambda: folder.failing < 0 and not folder.names(), "the files to be removed", 10)
        wait_for(lambda: not app.redis.exists(app.keys.result_files), "their names to be forgotten", 5)
    finally:
        thread.stop()
        thread.join()


def test_what_is_refused_while_the_store_is_away_is_removed_later(app: CeleriacApp, folder: Folder):
    request = run(app)
    app.records.revoke("one")
    write, folder.failing = app.result_files.write, 0

    def write_then_go_away(value: str, token: int | None) -> str:
        name = write(value, token)
        folder.failing = 1
        return name

    app.result_files.write = write_then_go_away  # type: ignore[method-assign]
    app.backend.mark_as_done("one", LARGE, request)
    assert len(folder.names()) == 1
    let_pass(app, files.NAMED_SECONDS)
    assert sweep(app) == 1
    assert folder.names() == []


# What cannot be stored


def test_a_store_that_comes_back_in_time_gets_the_result(app: CeleriacApp, folder: Folder):
    folder.failing = 3
    finish(app, LARGE)
    assert get(app) == LARGE


def test_a_store_that_stays_away_fails_the_task_and_says_why(app: CeleriacApp, folder: Folder, no_patience: None):
    folder.failing = 10**6
    request = run(app)
    with pytest.raises(ResultNotStored, match=r"its result, \d+ bytes, could not .*: the file store is away: tests"):
        app.backend.mark_as_done("one", LARGE, request)
    assert app.records.state("one") is TaskState.STARTED, "Celery tells of the failure next"


def test_who_asks_while_the_store_is_away_is_told(app: CeleriacApp, folder: Folder):
    finish(app, LARGE)
    folder.failing = 10**6
    with pytest.raises(Unavailable, match="file store is away"):
        get(app)
    assert http(app).get("/tasks/one").json()["state"] == "SUCCESS", "which needs no file"
    assert http(app).get("/tasks/one/result").status_code == 503
    folder.failing = 0
    assert get(app) == LARGE


def test_a_result_that_is_larger_than_may_be_is_refused(app: CeleriacApp, folder: Folder):
    request = run(app)
    app.backend.mark_as_done("one", "x" * (MOST - 2), request)
    with pytest.raises(ResultNotStored, match=r"takes 100001 bytes .*CELERIAC_RESULTS__MAX_BYTES \(100000\); return"):
        finish(app, "x" * (MOST - 1), "two")
    assert len(folder.names()) == 1


def test_a_long_error_is_shortened(app: CeleriacApp, folder: Folder):
    app.backend.mark_as_failure("one", ValueError("é" * 50_000), "T" * 50_000, run(app))
    assert app.redis.strlen(app.keys.result("one")) <= INLINE
    record = app.records.require("one")
    assert str(record.error).startswith("ValueError: ééé")
    assert "(50000 characters in all)" in str(record.error)
    assert str(record.traceback).endswith("TTT")
    with pytest.raises(ValueError, match="ééé"):
        get(app)
    assert folder.names() == []


def test_what_is_no_result_yet_may_not_be_large(app: CeleriacApp, folder: Folder):
    task = app.tasks["examples.long_running"]
    with pytest.raises(ResultNotStored, match="of a task that has not ended"):
        app.backend.store_result("one", {"current": "x" * INLINE}, "PROGRESS")
    task.push_request(id="one", called_directly=False, hostname="w")
    try:
        task.progress(1, 2, "x" * INLINE)  # type: ignore[attr-defined]
    finally:
        task.pop_request()
    assert folder.names() == []
