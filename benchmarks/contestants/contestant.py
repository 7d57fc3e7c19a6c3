"""What all contestants have in common: their worker processes, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import redis

from benchmarks import ledger
from tests.platform import environment

ROOT = Path(__file__).parents[2]

#: The queue of most measurements.
QUEUE = "bench"

#: Slots of every worker.
SLOTS = 2

#: Seconds that a worker gets to end by itself.
STOP_SECONDS = 20.0


class Worker:
    """A worker in a session of its own, so that all its processes can be killed at once.

    Args:
        command: what starts it.
        variables: its environment.
        log: the file that takes its output.
    """

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=variables,
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        #: The id of its first process, of its process group and of its session.
        self.session = self._process.pid

    @property
    def ended(self) -> bool:
        """Whether its first process has ended."""
        return self._process.poll() is not None

    def cpu_seconds(self) -> float:
        """Processor time of all its processes so far, those that have ended included."""
        leader = psutil.Process(self.session)
        times = [process.cpu_times() for process in [leader, *leader.children(recursive=True)]]
        return sum(one.user + one.system + one.children_user + one.children_system for one in times)

    def kill(self) -> None:
        """SIGKILL to the whole process group, as the kernel does when a node or a container dies."""
        with suppress(ProcessLookupError):
            os.killpg(self.session, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it in order, or by force when it takes too long."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"worker {self.session} did not end by itself", flush=True)
        # Also after an orderly end: a child may have been left behind.
        self.kill()


class Contestant(ABC):
    """One platform on one Redis. Entering does nothing; leaving ends its workers and connections.

    Args:
        redis_url: an empty Redis.
        folder: an empty folder, for the ledger and logs.
    """

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.redis_url = redis_url
        self.folder = folder
        self.ledger = ledger.Ledger(folder / "ledger")
        self.redis = redis.Redis.from_url(redis_url)
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.kill()
        self.close()
        self.redis.close()

    @abstractmethod
    def publish(self, index: int, *, task: str = "noop", queue: str = QUEUE, priority: int | None = None) -> None:
        """Publish one task by the means that its users have.

        Args:
            index: the task's number.
            task: `noop`, `stored` (which keeps its result) or `gate`.
            queue: where to.
            priority: 0 to 9, 9 first; None for none.
        """

    @abstractmethod
    def command(self, queues: Sequence[str], number: int) -> list[str]:
        """The command of a worker with `SLOTS` slots.

        Args:
            queues: what it consumes.
            number: makes its name unique.
        """

    def variables(self) -> Mapping[str, str]:
        """What a worker needs in its environment besides the ledger."""
        return {}

    @abstractmethod
    def recorded(self) -> set[int]:
        """The numbers of the tasks that the broker still holds, wherever it does."""

    @abstractmethod
    def close(self) -> None:
        """Close the publisher's connections."""

    def start_worker(self, *queues: str) -> Worker:
        """Start a worker; it is ready when it executes something."""
        number = len(self._workers) + 1
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        own = {ledger.VARIABLE: str(self.ledger.path), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        command = self.command(queues or (QUEUE,), number)
        worker = Worker(command, environment(**own, **self.variables()), self.folder / f"worker-{number}.log")
        self._workers.append(worker)
        return worker


def script(name: str) -> str:
    """The path of a command that is installed beside this interpreter."""
    return str(Path(sys.executable).with_name(name))
