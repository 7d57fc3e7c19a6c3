"""Clients and commands against a running platform."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from celeriac import CeleriacApp
from celeriac.broker.leases import Delivery
from celeriac.client import ApiError, AsyncClient, Client, calls
from celeriac.contract.tasks import TaskSubmit
from tests.platform import TOKEN, Platform
from tests.servers import free_port
from workloads.data_sync.calls import DataSyncClient


def bury(app: CeleriacApp) -> None:
    """Make a dead letter."""
    app.send_task("examples.add", (1, 2), queue="scheduled")
    _, tag, _, _ = app.leases.claim(["scheduled"], 1)
    assert app.leases.bury(Delivery("scheduled", int(tag)), "rejected", "it is tired")


@contextmanager
def losing_answers(port: int, lost: int) -> Iterator[int]:
    """A way to the API on which the first answers are lost; gives its port."""
    own = free_port()
    left = [lost]

    def forward(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", port), timeout=10) as api, suppress(OSError):
            asked = b""
            while not asked.endswith(b"}"):  # httpx sends head and body one after the other
                asked += client.recv(65536)
            api.sendall(asked)
            answer = api.recv(65536)
            left[0] -= 1
            if left[0] < 0:
                client.sendall(answer)

    def accept() -> None:
        with suppress(OSError):
            while True:
                forward(listening.accept()[0])

    with socket.create_server(("127.0.0.1", own)) as listening:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield own
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(15)


def test_a_submit_whose_answers_are_lost_runs_once(platform: Platform):
    platform.start_api()
    platform.start_worker("default")
    with losing_answers(platform.port, lost=3) as port, Client(f"http://127.0.0.1:{port}", TOKEN) as client:
        submitted = client.submit_task("examples.add", args=[20, 22])
    with Client(f"http://127.0.0.1:{platform.port}", TOKEN) as client:
        assert client.wait(submitted.task_id).result == 42
        assert [task.task_id for task in client.each(calls.list_tasks())] == [submitted.task_id]


def test_both_clients_submit_follow_and_cancel(platform: Platform):
    platform.start_api()
    platform.start_worker("default", concurrency=1)
    url = f"http://127.0.0.1:{platform.port}"
    with Client(url, TOKEN) as client:
        submitted = client.submit_task("examples.add", args=[1, 2], priority=9)
        assert client.wait(submitted.task_id).result == 3
        assert client.show_result(submitted.task_id) == 3
        bulk = client.submit_tasks([TaskSubmit(name="examples.add", args=[number, 1]) for number in range(2500)])
        assert bulk.accepted == 2500
        assert len(list(client.each(calls.list_tasks(name="examples.add", limit=1000)))) >= 2500
        late = client.submit_task("examples.add", args=[1, 2], countdown=3600)
        assert client.cancel_task(late.task_id).state == "REVOKED"
        assert sum(part.cancelled for part in client.pages(calls.cancel_tasks(state="PENDING"))) >= 0
        failed = client.submit_task("examples.process_data", args=[1])
        assert client.wait(failed.task_id).state == "FAILURE"
        assert client.retry_task(failed.task_id).task_id == failed.task_id

    async def run() -> None:
        async with AsyncClient(url, TOKEN) as client:
            submitted = await client.submit_task("examples.add", args=[1, 2])
            assert (await client.wait(submitted.task_id)).result == 3
            assert [task.state async for task in client.follow_task(submitted.task_id)][-1] == "SUCCESS"
            some = await asyncio.gather(*(client.submit_task("examples.add", args=[n, n]) for n in range(50)))
            results = await asyncio.gather(*(client.wait(each.task_id) for each in some))
            assert [task.result for task in results] == [2 * n for n in range(50)]
            async for task in client.each(calls.list_tasks(limit=10)):
                assert task.name == "examples.add"
                break
            with pytest.raises(ApiError, match="404 Not found"):
                await client.show_task("never")

    asyncio.run(run())


def test_an_administrator_does_all_by_the_client(platform: Platform, make_app: Callable[..., CeleriacApp]):
    platform.start_api()
    platform.start_worker("default", concurrency=1)
    app = make_app(redis_url=platform.environment["REDIS_URL"])
    for _ in range(4):
        bury(app)
    with Client(f"http://127.0.0.1:{platform.port}", TOKEN) as client:
        assert {queue.queue for queue in client.list_queues().items} >= {"default", "data_sync"}
        assert client.pause_queue("scheduled").paused
        assert not client.resume_queue("scheduled").paused
        assert client.purge_queue("scheduled").purged == 0
        with pytest.raises(ApiError, match="409 Conflict") as caught:
            client.scale_queue("default", 2)
        assert caught.value.problem is not None
        assert caught.value.problem.type.endswith(":conflict")
        tags = [letter.tag for letter in client.each(calls.list_dead_letters(limit=1))]
        assert len(tags) == 4
        assert client.show_dead_letter(tags[0]).reason == "rejected"
        assert client.replay_dead_letter(tags[0]).queue == "scheduled"
        assert client.drop_dead_letter(tags[1]).tag == tags[1]
        assert client.replay_dead_letters(reason="rejected").replayed == 2
        assert client.drop_dead_letters().dropped == 0
        acts = [act.what for act in client.each(calls.list_acts(limit=2))]
        assert acts[0] == "POST /admin/dead-letters/drop"
        assert "POST /admin/queues/{queue}/pause" in acts
        assert client.show_redis().keys > 0
        assert [worker.queues for worker in client.each(calls.list_workers())] == [["default"]]
        assert client.health().status == "healthy"
        assert (client.live().status, client.ready().status) == ("alive", "ready")
        assert "celeriac_queue_ready" in client.metrics()


def test_all_tasks_are_followed_by_both_clients(platform: Platform):
    platform.start_api()
    platform.start_worker("default")
    url = f"http://127.0.0.1:{platform.port}"
    with Client(url, TOKEN) as client, Client(url, TOKEN) as other:
        changes = client.follow_tasks(state="SUCCESS")
        first = threading.Thread(target=lambda: seen.append(next(changes)))
        seen: list[Any] = []
        first.start()
        while first.is_alive():
            other.wait(other.submit_task("examples.add", args=[1, 2]).task_id)
        assert (seen[0].name, seen[0].state) == ("examples.add", "SUCCESS")

    async def run() -> None:
        async with AsyncClient(url, TOKEN) as client:
            following = asyncio.ensure_future(anext(aiter(client.follow_tasks(queue="default"))))
            while not following.done():
                await client.wait((await client.submit_task("examples.add", args=[1, 2])).task_id)
            assert (await following).queue == "default"

    asyncio.run(run())


def test_files_are_uploaded_and_synced_by_client_and_command(platform: Platform, tmp_path: Path):
    platform.start_api()
    platform.start_worker("data_sync")
    file = tmp_path / "orders.csv"
    file.write_text("id,name\n1,a\n2,b\n3\n")
    with file.open("rb") as content, DataSyncClient(f"http://127.0.0.1:{platform.port}", TOKEN) as client:
        registered = client.upload_file(file.name, content, platform="generic", key_columns="id")
        submitted = client.sync_single_file(registered.file_id)
        assert client.wait(submitted.celery_task_id).successful
        assert client.task_status(submitted.task_id).state == "SUCCESS"
        assert client.show_file(registered.file_id).status == "synced"
        assert client.cancel_sync(client.sync_batch().task_id).state == "REVOKED"

    def run(*arguments: str) -> Any:
        ran = platform.run("data-sync", *arguments, "--json")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    uploaded = run("upload", str(file), "--platform", "generic", "--key-columns", "id")
    synced = run("sync", str(uploaded["file_id"]), "--wait", "30")
    assert synced["state"] == "SUCCESS"
    assert run("status", synced["task_id"])["state"] == "SUCCESS"
    assert [each["file_id"] for each in run("files", "--limit", "1")] == [uploaded["file_id"]]
    assert run("file", str(uploaded["file_id"]))["rejected"] == 1
    assert [each["line"] for each in run("rejections", str(uploaded["file_id"]))] == [4]
    assert [row["data"]["name"] for row in run("rows", "--platform", "generic")] == ["a", "b"]
    batch = run("sync-batch", "--platform", "generic", "--limit", "5")
    assert run("cancel", batch["task_id"])["state"] == "REVOKED"
    assert "orders.csv" in platform.run("data-sync", "files").stdout


def test_every_command_prints_json(platform: Platform, make_app: Callable[..., CeleriacApp], tmp_path: Path):
    platform.start_api()
    platform.start_worker("default")
    app = make_app(redis_url=platform.environment["REDIS_URL"])
    for _ in range(2):
        bury(app)

    def run(*arguments: str, code: int = 0) -> Any:
        ran = platform.run(*arguments, "--json")
        assert ran.returncode == code, ran.stderr
        return json.loads(ran.stdout)

    many = tmp_path / "many"
    many.write_text('{"name": "examples.add", "args": [1, 2]}\n\n{"name": "examples.add", "args": [1]}\n')
    first, second = run("tasks", "submit-many", str(many), code=1)
    assert "task_id" in first
    assert second["error"]["status"] == 422
    many.write_text('{"name": "examples.add"}\n{"names": 5}\n')
    refused = platform.run("tasks", "submit-many", str(many))
    assert refused.returncode == 1
    assert "line 2: name: Field required" in refused.stderr
    key = ["--idempotency-key", "order 7"]
    once, again = (run("tasks", "submit", "examples.add", "--args", "[1, 2]", *key) for _ in range(2))
    assert once["task_id"] == again["task_id"]
    late = run("tasks", "submit", "examples.add", "--args", "[1, 2]", "--countdown", "3600", "--expires", "7200")
    assert run("tasks", "show", late["task_id"])["state"] == "PENDING"
    assert run("tasks", "cancel", late["task_id"])["state"] == "REVOKED"
    assert run("tasks", "cancel", "--queue", "default") == {"cancelled": 0}
    assert run("tasks", "submit", "examples.add", "--args", "[1, 2]", "--wait", "30")["result"] == 3
    assert run("tasks", "result", once["task_id"]) == 3
    assert len(run("tasks", "list", "--limit", "2")["tasks"]) == 2
    assert "registered" in run("tasks", "list", "--measured")
    assert run("tasks", "sync")["marked"] == 0
    failed = run("tasks", "submit", "examples.process_data", "--args", "[1]", "--wait", "30")
    assert run("tasks", "retry", failed["task_id"], "--as-administrator")["task_id"] == failed["task_id"]
    assert [worker["queues"] for worker in run("workers")] == [["default"]]
    assert {queue["queue"] for queue in run("queues", "list")} >= {"default"}
    assert run("queues", "pause", "scheduled")["paused"]
    assert not run("queues", "resume", "scheduled")["paused"]
    assert run("queues", "purge", "scheduled") == {"purged": 0}
    tags = [letter["tag"] for letter in run("dead-letters", "list")]
    assert run("dead-letters", "show", tags[0])["task"] == "examples.add"
    assert run("dead-letters", "drop", tags[0]) == {"dropped": 1}
    assert run("dead-letters", "replay", "--all") == {"replayed": 1}
    assert run("audit", "--limit", "1")[0]["what"] == "POST /admin/dead-letters/replay"
    assert run("redis")["role"] == "master"
    assert run("status", "--live") == {"status": "alive"}
    assert run("status", "--ready")["status"] == "ready"
    assert run("status")["status"] == "healthy"
    names = {sample["name"] for sample in run("metrics")}
    assert {"celeriac_queue_ready", "celeriac_http_request_seconds_bucket"} <= names
    assert platform.run("metrics").stdout.startswith("# HELP")
