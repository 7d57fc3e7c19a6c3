"""What every trial runs on: one Redis, one SQLite database, one ledger and any number of workers in one folder.

    with Rig(folder) as rig:
        worker = rig.start_worker(QUEUES, slots=2)
        rig.submit(job)
        rig.kill_redis()

Leaving it ends every process that it started, however it is left. Nothing of the platform runs in the trial's own
process but an app that submits and reads records.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import redis
from redis.exceptions import RedisError

from celeriac import CeleriacApp, create_app
from celeriac.results import TaskRecord
from celeriac.settings import Settings
from tests.platform import CELERIAC, environment, wait_for
from tests.soak.history import History
from tests.soak.jobs import Job
from tests.soak.ledger import Follower, Ledger, RedisDown, RedisUp, Refused, Scene, Submitted, now
from tests.soak.server import DurableRedis, leftovers
from tests.soak.workers import Worker
from tests.soak.workload import QUEUES

ROOT = Path(__file__).parents[2]
#: Seconds that a worker has to appear in the registry; a machine that is busy with kills takes its time.
READY_SECONDS = 60

MakeApp = Callable[..., CeleriacApp]


def make_app(**settings: Any) -> CeleriacApp:
    """Make an app of some settings."""
    return create_app(Settings.model_validate(settings))


class Rig:
    """The processes of one trial.

    Args:
        folder: where everything lies; it is kept.
        make: makes the app that submits; tests give one that undoes what Celery keeps of it.
    """

    def __init__(self, folder: Path, make: MakeApp = make_app) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        self.folder = folder
        self.releases = folder / "releases"
        self.releases.mkdir()
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.server = DurableRedis()
        self.environment = environment(
            REDIS_URL=self.server.url,
            DATABASE_URL=f"sqlite:///{folder / 'celeriac.db'}",
            CELERIAC_WORKLOADS="tests.soak.workload",
            CELERIAC_DATA_DIR=str(folder),
            CELERIAC_LOG__FORMAT="console",
            # The longest trial reads the records of its first tasks at its end, more than an hour later.
            CELERIAC_RESULTS__EXPIRES_SECONDS="10800",
            PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            SOAK_LEDGER=str(self.ledger.path),
            SOAK_RELEASES=str(self.releases),
        )
        self._follower, self._live = Follower(self.ledger.path), History()
        self._make = make
        self._stack = ExitStack()
        self._workers: list[Worker] = []
        self._count = 0

    def __enter__(self) -> Self:
        try:
            self._stack.callback(self.ledger.close)
            self._stack.enter_context(self.server)
            self._stack.callback(self._end_workers)
            self._prepare()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_worker(
        self, queues: Sequence[str] = QUEUES, slots: int = 2, pool: str | None = None, *, place: str = "w"
    ) -> Worker:
        """Start a worker; `place` begins its name."""
        self._count += 1
        worker = Worker(
            f"{place}-{self._count}",
            queues,
            slots,
            pool,
            ledger=self.ledger,
            environment=self.environment,
            folder=self.folder,
        )
        self._workers.append(worker)
        return worker

    def wait_until_ready(self, *workers: Worker) -> None:
        """Wait until the registry knows some workers."""

        def all_ready() -> bool:
            self.note_ready(workers)
            for worker in workers:
                if worker.has_ended():
                    message = f"worker {worker.name} ended while it was awaited; see {worker.log}"
                    raise AssertionError(message)
            return all(worker.ready for worker in workers)

        wait_for(all_ready, f"the registry to know {', '.join(each.name for each in workers)}", READY_SECONDS)

    def note_ready(self, workers: Iterable[Worker]) -> None:
        """Tell the ledger of those workers that the registry has come to know."""
        new = [worker for worker in workers if not worker.ready and not worker.over]
        if not new:
            return
        with suppress(RedisError):
            known = [record.pid for record in self.app.probe_registry.workers()]
            for worker in new:
                if any(worker.is_me(pid) for pid in known):
                    worker.note_ready()

    @property
    def workers(self) -> list[Worker]:
        """Those that have not ended."""
        return [worker for worker in self._workers if not worker.has_ended()]

    def submit(self, job: Job) -> bool:
        """Submit a job, and tell the ledger whether the platform took it."""
        options: dict[str, Any] = {"countdown": job.countdown, "priority": job.priority}
        given = {name: value for name, value in options.items() if value is not None}
        try:
            self.app.send_task(job.name, args=list(job.args), queue=job.queue, task_id=job.task_id, **given)
        except Exception as error:  # noqa: BLE001 - whatever it raises, it is no acknowledgement
            self.ledger.append(Refused(at=now(), task=job.task_id, queue=job.queue, error=repr(error)))
            return False
        at = now()
        self.ledger.append(Submitted(at=at, task=job.task_id, queue=job.queue, due=at + (job.countdown or 0)))
        return True

    def release(self, *names: str) -> None:
        """End the tasks that wait for these releases."""
        for name in names:
            (self.releases / name).touch()

    def kill_redis(self) -> None:
        """Kill Redis by SIGKILL."""
        self.ledger.append(RedisDown(at=now()))
        self.server.kill()

    def start_redis(self) -> None:
        """Start Redis again on what its file holds; nothing happens where it runs."""
        if self.server.is_running:
            return
        self.server.start()
        self.ledger.append(RedisUp(at=now()))

    def cut_connections(self) -> None:
        """Close every client's connection, as a network does."""
        self.ledger.append(RedisDown(at=now()))
        for kind in ("pubsub", "normal"):
            self.client.client_kill_filter(_type=kind)
        self.ledger.append(RedisUp(at=now()))

    def scene(self, name: str) -> None:
        """Tell the ledger what happens from now on."""
        self.ledger.append(Scene(at=now(), name=name))

    def history(self) -> History:
        """What happened so far."""
        return History.of(self.ledger.read())

    def live(self) -> History:
        """The same, read on from the last call: for loops that wait. It grows with each call; use it in one thread."""
        for event in self._follower.read():
            self._live.add(event)
        return self._live

    def records(self, tasks: Iterable[str]) -> dict[str, TaskRecord | None]:
        """Read the records of tasks."""
        return {task: self.app.records.get(task) for task in tasks}

    def settle(self, tasks: Iterable[str], quiet_seconds: float) -> dict[str, TaskRecord | None]:
        """Wait until tasks have ended, or nothing has happened for a while; gives their records.

        Args:
            tasks: the tasks.
            quiet_seconds: when neither a record nor the ledger has changed for so long, nothing is awaited any more.
        """
        records: dict[str, TaskRecord | None] = dict.fromkeys(tasks)
        waiting, progress, changed_at = set(records), (0, 0), now()
        while waiting and now() - changed_at < quiet_seconds:
            found = self.records(waiting)
            records |= found
            waiting = {task for task, record in found.items() if record is None or not record.state.ready}
            if (current := (len(waiting), self.ledger.path.stat().st_size)) != progress:
                progress, changed_at = current, now()
            time.sleep(min(2.0, 0.1 + 0.001 * len(waiting)))  # each look costs Redis two commands a task
        return records

    def left_over(self, seconds: float = 20) -> dict[str, int]:
        """What work is still in Redis after some time to clear up."""
        deadline = now() + seconds
        while (left := leftovers(self.client, QUEUES)) and now() < deadline:
            time.sleep(0.2)
        return left

    def _prepare(self) -> None:
        self.client: redis.Redis = self._stack.enter_context(
            redis.Redis.from_url(self.server.url, decode_responses=True, socket_timeout=5)
        )
        self.app = self._make(
            redis_url=self.server.url,
            database_url=self.environment["DATABASE_URL"],
            workloads=("tests.soak.workload",),
            data_dir=self.folder,
        )
        self._stack.callback(self.app.close)
        command = [str(CELERIAC), "migrate"]
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def _end_workers(self) -> None:
        for worker in self.workers:
            worker.kill()
