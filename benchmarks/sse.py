"""Listeners to tasks: a thousand streams of Server-Sent Events on one API process while a worker runs their tasks.

`python -m benchmarks.sse` takes about 3 minutes on two idle cores; `--write` also writes docs/benchmarks/sse.md. It
ends with 1 where a listener has missed the end of its task.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

from benchmarks.contestants.contestant import ROOT, script
from benchmarks.pages import deliver, page, table
from benchmarks.rounds import conditions
from celeriac.process import allow_many_connections
from tests.platform import environment, wait_for
from tests.servers import RedisServer, free_port

TOKEN = "benchmark-token-of-nobody-in-particular"

#: Whoever has not heard of the end of a task so long after it is due has missed it, seconds.
PATIENCE_SECONDS = 120

INTRODUCTION = """
`python -m benchmarks.sse --write` opens streams `GET /tasks/{id}/events` to one process of `celeriac api`, each on a
connection of its own, while one `celeriac worker` with two slots runs the tasks; Redis, API, worker and the listeners
share two cores. Redis appends to a file every second.

- **At rest**: the streams are open, and nothing happens.
- **Steady**: a listener whose task has ended submits the next one, due 10 to 30 s later, and follows it, so that there
  are always as many streams; 100 tasks a second that nobody follows run beside them.
- **At once**: all tasks become due at the same moment.
- **One for all**: all listeners follow the same task, which reports its progress for 10 s.

*Late* is the time from a task's end, `finished_at` of its worker's clock, to the last byte of the event that tells of
it, milliseconds: it holds the script that stores the result and all that follows. In the row *at once* it holds the
wait of a thousand events that come together, too. *Missed* counts listeners that have not heard of the end of their
task: there must be none. Processor time and memory are those of the API process.
"""


@dataclass
class Scene:
    """What happened in one scene."""

    name: str
    streams: int
    seconds: float = 0.0
    missed: int = 0
    #: Of each listener whose task has ended.
    late_ms: list[float] = field(default_factory=list)
    events: int = 0
    cpu_seconds: float = 0.0
    memory_mib: float = 0.0
    readers: int = 0

    def row(self) -> list[str]:
        """The scene as a row of the table."""
        late = ["", "", "", ""]
        if len(self.late_ms) > 1:
            cuts = statistics.quantiles(self.late_ms, n=100, method="inclusive")
            late = [f"{value:,.0f}" for value in (cuts[49], cuts[94], cuts[98], max(self.late_ms))]
        return [
            self.name,
            f"{self.streams:,}",
            f"{self.events:,}",
            f"{len(self.late_ms):,}",
            str(self.missed),
            *late,
            f"{100 * self.cpu_seconds / self.seconds:.0f} %",
            f"{self.memory_mib:.0f}",
            str(self.readers),
        ]


@dataclass(frozen=True)
class Rig:
    """What the scenes play on."""

    port: int
    api: psutil.Process
    client: redis.Redis
    http: httpx.AsyncClient


def main() -> int:
    """Play all scenes and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000, help="streams at a time")
    parser.add_argument("--seconds", type=float, default=60, help="of the steady scene")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/sse.md")
    options = parser.parse_args()
    allow_many_connections()
    with _platform() as rig:
        empty = _memory(rig)
        scenes = asyncio.run(_play(rig, options.streams, options.seconds))
        version = rig.client.info("server")["redis_version"]
    setup = f"{conditions('celeriac', 'fastapi', 'uvicorn', 'redis')}, Redis server {version}"
    head = ["", "streams", "events", "ends heard", "missed", "P50 late ms", "P95", "P99", "longest"]
    head += ["API, of one core", "API, MiB", "connections that read events"]
    text = page(
        "Listeners to tasks",
        INTRODUCTION,
        f"{setup}. The API process before: {empty:.0f} MiB.",
        table(head, [scene.row() for scene in scenes]),
    )
    deliver("sse.md", text, write=options.write)
    missed = sum(scene.missed for scene in scenes)
    if missed:
        print(f"{missed} listeners have missed the end of their task", file=sys.stderr)
    return 1 if missed else 0


async def _play(rig: Rig, streams: int, seconds: float) -> list[Scene]:
    return [
        await _scene(rig, Scene("at rest", streams), _rest),
        await _scene(rig, Scene("steady", streams), lambda rig, scene: _steady(rig, scene, seconds)),
        await _scene(rig, Scene("at once", streams), _at_once),
        await _scene(rig, Scene("one for all", streams), _one_for_all),
    ]


async def _scene(rig: Rig, scene: Scene, play: Callable[[Rig, Scene], Coroutine[Any, Any, None]]) -> Scene:
    print(scene.name, flush=True)
    await play(rig, scene)
    print(f"  {scene.row()}", flush=True)
    return scene


@contextmanager
def _measured(rig: Rig, scene: Scene) -> Iterator[None]:
    """Measure the API process while all streams of a scene are open."""
    cpu, began = rig.api.cpu_times(), time.monotonic()
    yield
    after = rig.api.cpu_times()
    scene.seconds = time.monotonic() - began
    scene.cpu_seconds = after.user + after.system - cpu.user - cpu.system
    scene.memory_mib = _memory(rig)
    scene.readers = sum(client["cmd"] == "xread" for client in rig.client.client_list())


async def _rest(rig: Rig, scene: Scene) -> None:
    task_ids = await _submit(rig, [{"name": "examples.add", "args": [1, 2], "countdown": 3600}] * scene.streams)
    listening = [asyncio.create_task(_follow(rig, scene, task_id)) for task_id in task_ids]
    await _until_all_listen(scene)
    with _measured(rig, scene):
        await asyncio.sleep(20)
    await _leave(listening)


async def _steady(rig: Rig, scene: Scene, seconds: float) -> None:
    def task(number: int) -> dict[str, Any]:
        return {"name": "examples.add", "args": [number, 1], "countdown": 10 + 20 * number / scene.streams}

    async def listen(number: int, task_id: str) -> None:
        await _follow_to_end(rig, scene, task_id)
        while time.monotonic() < ends_at:
            (task_id,) = await _submit(rig, [task(number)])
            await _follow_to_end(rig, scene, task_id)

    async def make_noise() -> None:
        while time.monotonic() < ends_at:
            await _submit(rig, [{"name": "examples.add", "args": [1, 2]}] * 50)
            await asyncio.sleep(0.5)

    task_ids = await _submit(rig, [task(number) for number in range(scene.streams)])
    ends_at = time.monotonic() + seconds
    noise = asyncio.create_task(make_noise())
    listening = [asyncio.create_task(listen(number, task_id)) for number, task_id in enumerate(task_ids)]
    await _until_all_listen(scene)
    with _measured(rig, scene):
        await asyncio.sleep(max(0.0, ends_at - time.monotonic()))
    await asyncio.gather(noise, *listening)


async def _at_once(rig: Rig, scene: Scene) -> None:
    due = datetime.fromtimestamp(time.time() + 15).astimezone().isoformat()
    task_ids = await _submit(rig, [{"name": "examples.add", "args": [1, 2], "eta": due}] * scene.streams)
    listening = [asyncio.create_task(_follow_to_end(rig, scene, task_id)) for task_id in task_ids]
    await _until_all_listen(scene)
    with _measured(rig, scene):
        await asyncio.gather(*listening)


async def _one_for_all(rig: Rig, scene: Scene) -> None:
    (task_id,) = await _submit(rig, [{"name": "examples.long_running", "args": [10, 50], "countdown": 10}])
    listening = [asyncio.create_task(_follow_to_end(rig, scene, task_id)) for _ in range(scene.streams)]
    await _until_all_listen(scene)
    with _measured(rig, scene):
        await asyncio.gather(*listening)


async def _submit(rig: Rig, tasks: list[dict[str, Any]]) -> list[str]:
    answer = await rig.http.post("/tasks/bulk", json={"tasks": tasks})
    return [task["task_id"] for task in answer.raise_for_status().json()["tasks"]]


async def _until_all_listen(scene: Scene) -> None:
    """Wait until each stream has had its first event."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while scene.events < scene.streams:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def _leave(listening: list[asyncio.Task[Any]]) -> None:
    for each in listening:
        each.cancel()
    await asyncio.gather(*listening, return_exceptions=True)


async def _follow_to_end(rig: Rig, scene: Scene, task_id: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            late_ms = await _follow(rig, scene, task_id)
    except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
        print(f"  {task_id}: {error!r}", flush=True)
        scene.missed += 1
    else:
        scene.late_ms.append(late_ms)


async def _follow(rig: Rig, scene: Scene, task_id: str) -> float:
    """Read a stream to its end, at as little cost as Python allows; how late the last event was, ms."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    try:
        head = f"GET /tasks/{task_id}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        while True:
            line = await reader.readuntil(b"\n")
            if line.startswith(b"data: "):
                scene.events += 1
                if b'"ready":true' in line:
                    task = json.loads(line[6:])
                    assert task["state"] == "SUCCESS", task
                    return (time.time() - datetime.fromisoformat(task["finished_at"]).timestamp()) * 1000
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _memory(rig: Rig) -> float:
    return float(rig.api.memory_info().rss) / 2**20


@contextmanager
def _platform() -> Iterator[Rig]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="celeriac-bench-")))
        server = stack.enter_context(RedisServer())
        client = stack.enter_context(redis.Redis.from_url(server.url, decode_responses=True))
        client.config_set("appendfsync", "everysec")
        port = free_port()
        variables = environment(
            PYTHONPATH=str(ROOT),
            REDIS_URL=server.url,
            DATABASE_URL=f"sqlite:///{folder / 'celeriac.db'}",
            CELERIAC_DATA_DIR=str(folder),
            CELERIAC_API_TOKEN=TOKEN,
            CELERIAC_LOG__LEVEL="WARNING",
        )
        subprocess.run([script("celeriac"), "migrate"], env=variables, cwd=folder, check=True, capture_output=True)
        processes = []
        for command in (["api", "--port", str(port)], ["worker", "--queue=default", "--concurrency=2"]):
            process = subprocess.Popen([script("celeriac"), *command], env=variables, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            processes.append(process)
        wait_for(lambda: _counts_a_worker(port), "API and worker", 60)
        url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {TOKEN}"}
        http = httpx.AsyncClient(base_url=url, headers=headers, timeout=60)
        yield Rig(port, psutil.Process(processes[0].pid), client, http)


def _counts_a_worker(port: int) -> bool:
    try:
        health = httpx.get(f"http://127.0.0.1:{port}/health").json()
    except httpx.HTTPError:
        return False
    return bool(health["checks"]["celery_worker"] == "ok (1 workers)")


if __name__ == "__main__":
    sys.exit(main())
