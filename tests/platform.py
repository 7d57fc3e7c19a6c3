"""Runs the processes of a platform as users do, by the `celeriac` command, and waits for what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from tests.servers import free_port

T = TypeVar("T")

CELERIAC = Path(sys.executable).with_name("celeriac")
TOKEN = "a-token-for-tests"


def wait_for(condition: Callable[[], T | None], what: str, timeout_seconds: float = 30) -> T:
    """Wait until a condition gives something true, and return that."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            message = f"waited {timeout_seconds:g} s for {what}"
            raise AssertionError(message)
        time.sleep(0.05)


def environment(**variables: str) -> dict[str, str]:
    """This process' environment without what would change the platform's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CELERIAC", "CELERY"))}
    for name in ("REDIS_URL", "DATABASE_URL"):
        kept.pop(name, None)
    return kept | variables


def api_client(port: int, timeout_seconds: float) -> httpx.Client:
    """A client of the API on a port."""
    return httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=timeout_seconds,
        # The API closes what was idle for 5 s; a client that waits as long may send just then, and gets no answer.
        limits=httpx.Limits(keepalive_expiry=2),
    )


class Platform:
    """Processes that share a Redis, a database and a folder; all are killed at the end."""

    def __init__(self, folder: Path, redis_url: str, database_url: str, **variables: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.environment = environment(
            REDIS_URL=redis_url,
            DATABASE_URL=database_url,
            CELERIAC_API_TOKEN=TOKEN,
            CELERIAC_API__URL=f"http://127.0.0.1:{self.port}",
            CELERIAC_API__PORT=str(self.port),
            CELERIAC_FILE_STORE=f"file://{folder / 'files'}",
            CELERIAC_DATA_DIR=str(folder),
            CELERIAC_LOG__FORMAT="console",
            **variables,
        )
        self.http = api_client(self.port, timeout_seconds=30)
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.http.close()
        self._stack.close()

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [CELERIAC, *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,
        )

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own; its output goes to a file in the folder."""
        log = self._stack.enter_context((self.folder / f"{'-'.join(arguments)[:60]}.log").open("ab"))
        process = subprocess.Popen(
            [CELERIAC, *arguments],
            env=self.environment | variables,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def start_api(self) -> subprocess.Popen[bytes]:
        """Bring the database up to date, start the API and wait until it answers."""
        migrated = self.run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        process = self.start("api")
        wait_for(self._answers, "the API to answer")
        return process

    def start_worker(self, *queues: str, concurrency: int | None = None) -> subprocess.Popen[bytes]:
        """Start a worker and wait until the registry knows it."""
        before = self.workers()
        options = [f"--concurrency={concurrency}"] if concurrency else []
        process = self.start("worker", *(f"--queue={queue}" for queue in queues), *options)
        wait_for(lambda: self.workers() > before, f"a worker of {', '.join(queues)}")
        return process

    def workers(self) -> int:
        """How many workers the API counts."""
        words = self.http.get("/health").json()["checks"]["celery_worker"]
        return 0 if words == "no active workers" else int(words.removeprefix("ok (").split()[0])

    def submit(self, name: str, *args: object, **options: object) -> str:
        """Submit a task and return its id."""
        answer = self.http.post("/tasks", json={"name": name, "args": list(args), **options})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        """Read a task."""
        answer = self.http.get(f"/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait(self, task_id: str, timeout_seconds: float = 60) -> dict[str, Any]:
        """Wait for a task's end and read it."""

        def ended() -> Mapping[str, Any] | None:
            task = self.task(task_id)
            return task if task["ready"] else None

        return dict(wait_for(ended, f"task {task_id} to end", timeout_seconds))

    def wait_for_state(self, task_id: str, *states: str) -> dict[str, Any]:
        """Wait until a task is in one of some states and read it."""
        wait_for(lambda: self.task(task_id)["state"] in states, f"task {task_id} to be {' or '.join(states)}")
        return self.task(task_id)

    def log(self, command: str) -> str:
        """What a command printed."""
        return "".join(path.read_text() for path in self.folder.glob(f"{command}*.log"))

    def _answers(self) -> bool:
        try:
            return self.http.get("/health/live").status_code == 200
        except httpx.HTTPError:
            return False
