"""What the trials submit: jobs drawn from a seed, and the publisher that submits them in time."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from celeriac.results import TaskState
from tests.soak.ledger import now
from tests.soak.workload import QUEUES

if TYPE_CHECKING:
    from tests.soak.rig import Rig


#: How long a publisher waits before it submits something again, seconds.
AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """One task to submit."""

    task_id: str
    queue: str
    name: str = "soak.work"
    args: tuple[Any, ...] = ()
    priority: int | None = None
    #: Seconds until it may run.
    countdown: float | None = None
    #: The state it is to end in.
    expected: TaskState = TaskState.SUCCESS


def task_id(rng: random.Random) -> str:
    """A task id that the seed decides."""
    return str(UUID(int=rng.getrandbits(128), version=4))


def mixed(rng: random.Random, queue: str | None = None) -> Job:
    """Draw a job as real work is mixed: mostly short, some delayed, some retried, a few that fail for good.

    Args:
        rng: where from.
        queue: its queue; None for any.
    """
    seconds = rng.uniform(0.5, 1.0) if rng.random() < 0.05 else rng.uniform(0.005, 0.03)
    retries = rng.choice((1, 1, 2)) if rng.random() < 0.1 else 0
    countdown = rng.uniform(0.1, 1.0) if rng.random() < 0.5 else None  # None: it raises TemporaryError
    fails = rng.random() < 0.02
    return Job(
        task_id=task_id(rng),
        queue=queue or rng.choice(QUEUES),
        args=(round(seconds, 4), retries, countdown, fails),
        priority=rng.choice((None, None, 0, 3, 9)),
        countdown=round(rng.uniform(0, 5), 3) if rng.random() < 0.2 else None,
        expected=TaskState.FAILURE if fails else TaskState.SUCCESS,
    )


def in_bursts(rng: random.Random, jobs: Iterable[Job], seconds: float) -> Iterator[tuple[float, Job]]:
    """Spread jobs over some seconds, in bursts of 1 to 40: each with the seconds from the start to its submit."""
    remaining = list(jobs)
    total, done = len(remaining), 0
    while remaining:
        burst, remaining = remaining[: (size := rng.randint(1, 40))], remaining[size:]
        for job in burst:
            yield seconds * done / total, job
        done += len(burst)


class Publisher:
    """A thread that submits jobs at their times, as well as it can while Redis is away.

    Args:
        rig: where to.
        timed: seconds from the start, and the job.
        again: makes the job that is submitted in the place of one that was refused; without it, none is.
    """

    def __init__(self, rig: Rig, timed: Iterable[tuple[float, Job]], again: Callable[[Job], Job] | None = None) -> None:
        self._rig = rig
        self._timed = deque(timed)
        self._again = again
        #: All that were submitted or refused, by task id.
        self.jobs: dict[str, Job] = {}
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def done(self) -> bool:
        """Whether all was submitted."""
        if self._error:
            raise self._error
        return not self._thread.is_alive()

    def _run(self) -> None:
        began = now()
        try:
            while self._timed:
                offset, job = self._timed.popleft()
                if self._stopping.wait(max(0.0, began + offset - now())):
                    return
                self.jobs[job.task_id] = job
                if not self._rig.submit(job) and self._again:
                    self._timed.append((now() - began + AGAIN_SECONDS, self._again(job)))
        except BaseException as error:  # noqa: BLE001 - `done` raises it where it is seen
            self._error = error
