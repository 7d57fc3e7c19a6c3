"""How soon the tasks of a killed worker start elsewhere, or on the same worker when it is back.

Promise: with two workers, the tasks of a killed one start on the other within 8 s; a lone worker starts them again
within 10 s of its own restart.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.platform import wait_for
from tests.soak.history import Execution
from tests.soak.jobs import Job, task_id
from tests.soak.ledger import now
from tests.soak.options import Options
from tests.soak.report import Report, load, percentile, say
from tests.soak.rig import MakeApp, Rig, make_app
from tests.soak.verdict import violations_of_executions
from tests.soak.workers import Worker

#: Seconds from the kill of one of two workers to the start of its tasks on the other.
OTHER_SECONDS = 8.0
#: Seconds from the restart of a lone worker to the start of its tasks.
LONE_SECONDS = 10.0
#: Seconds after which a task is given up.
PATIENCE_SECONDS = 60.0
QUEUE = "soak_a"
SLOTS = 2


@dataclass(frozen=True)
class RecoveryOptions(Options):
    """How often."""

    #: kills of one of two workers
    trials: int = 50
    #: kills and restarts of a lone worker
    lone: int = 10
    #: short tasks a second beside, on the same queue
    background: float = 10.0


def run(seed: int, options: RecoveryOptions, folder: Path, make: MakeApp = make_app) -> Report:
    """Run the trial."""
    rng = random.Random(seed)
    report = Report("recovery", _promise(options), seed)
    with Rig(folder, make) as rig:
        others = _Recovery(rig, rng, options).of_two()
        lone = _Recovery(rig, rng, options).of_one()
        report.figure("load over the last minute", load())
        report.violations += violations_of_executions(rig.history())
    for name, seconds, limit in (
        ("killed, to start on the other", others, OTHER_SECONDS),
        ("lone worker, restart to start", lone, LONE_SECONDS),
    ):
        report.figure(f"{name}: tasks", len(seconds))
        for percent in (50, 90, 100):
            report.figure(f"{name}: P{percent}", f"{percentile(seconds, percent):.2f} s")
        late = [each for each in seconds if each > limit]
        report.violations += [f"{name}: {each:.2f} s, more than {limit:g} s" for each in late]
    return report


class _Recovery:
    """Kills workers in the middle of known tasks and measures when these start again."""

    def __init__(self, rig: Rig, rng: random.Random, options: RecoveryOptions) -> None:
        self._rig, self._rng, self._options = rig, rng, options

    def of_two(self) -> list[float]:
        """Kill one of two workers again and again; gives the seconds to the second start of each of its tasks."""
        seconds: list[float] = []
        if not self._options.trials:
            return seconds
        workers = [self._start(), self._start()]
        with self._background():
            for number in range(self._options.trials):
                self._rig.wait_until_ready(*workers)
                tasks = self._linger(2 * SLOTS)
                self._await_start(tasks, on=2 * SLOTS)
                victim = self._rng.choice([each for each in workers if self._running(tasks, each)])
                time.sleep(self._rng.uniform(0, 1))  # any phase of whatever is renewed meanwhile
                killed_at = victim.kill()
                held = self._running(tasks, victim)
                # The survivor's own tasks end, so that it has slots free.
                self._rig.release(*(tasks.keys() - {each.task for each in held}))
                found = self._await_again(held, killed_at)
                seconds += found
                self._rig.release(*tasks)
                workers = [each for each in workers if each is not victim] + [self._start()]
                say(f"trial {number + 1}: {', '.join(f'{each:.2f}' for each in found)} s")
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.wait()
        return seconds

    def of_one(self) -> list[float]:
        """Kill and restart a lone worker again and again."""
        seconds: list[float] = []
        if not self._options.lone:
            return seconds
        worker = self._start()
        for number in range(self._options.lone):
            self._rig.wait_until_ready(worker)
            tasks = self._linger(SLOTS)
            self._await_start(tasks, on=SLOTS)
            time.sleep(self._rng.uniform(0, 1))
            worker.kill()
            held = self._running(tasks, worker)
            time.sleep(self._rng.uniform(0, 1))
            worker = self._start()
            found = self._await_again(held, worker.spawned_at)
            seconds += found
            self._rig.release(*tasks)
            say(f"lone {number + 1}: {', '.join(f'{each:.2f}' for each in found)} s")
        worker.stop()
        worker.wait()
        return seconds

    def _start(self) -> Worker:
        return self._rig.start_worker([QUEUE], SLOTS, self._options.pool or None)

    def _linger(self, count: int) -> dict[str, Job]:
        """Submit tasks that run until they are released; by id, which is also the name of the release."""
        jobs = {}
        for _ in range(count):
            name = task_id(self._rng)
            jobs[name] = Job(name, QUEUE, "soak.linger", (name,), priority=9)
            assert self._rig.submit(jobs[name]), "Redis is up, so that submits are taken"
        return jobs

    def _await_start(self, tasks: dict[str, Job], on: int) -> None:
        """Wait until so many tasks run; one worker may hold more than it has slots, so fewer will do after a while."""

        def started() -> int:
            return len({each.task for each in self._executions() if each.task in tasks})

        wait_for(started, "a task to start", PATIENCE_SECONDS)
        deadline = now() + 3
        while started() < on and now() < deadline:
            time.sleep(0.05)

    def _await_again(self, held: list[Execution], since: float) -> list[float]:
        """Wait for the next start of each task; gives the seconds since then."""
        runs = {each.run for each in held}
        waiting = {each.task for each in held}

        def again() -> dict[str, float]:
            executions = [each for each in self._executions() if each.task in waiting and each.run not in runs]
            found: dict[str, float] = {}
            for each in executions:
                found.setdefault(each.task, each.start - since)
            return found if found.keys() == waiting else {}

        return sorted(wait_for(again, f"{len(held)} tasks to start again", PATIENCE_SECONDS).values())

    def _running(self, tasks: dict[str, Job], worker: Worker) -> list[Execution]:
        return [e for e in self._executions() if e.task in tasks and e.worker == worker.name and e.end is None]

    def _executions(self) -> list[Execution]:
        return list(self._rig.live().executions.values())

    @contextmanager
    def _background(self) -> Iterator[None]:
        """Short tasks beside, as a queue has them."""
        stopping = threading.Event()

        def publish() -> None:
            rng = random.Random(self._rng.getrandbits(64))
            while not stopping.wait(1 / self._options.background):
                self._rig.submit(Job(task_id(rng), QUEUE, args=(0.01,)))

        thread = threading.Thread(target=publish, name="background", daemon=True)
        if self._options.background:
            thread.start()
        try:
            yield
        finally:
            stopping.set()
            if thread.is_alive():
                thread.join()


def _promise(options: RecoveryOptions) -> str:
    return (
        f"One of two workers of {SLOTS} slots each is killed by SIGKILL in the middle of its tasks, {options.trials} "
        f"times, beside {options.background:g} short tasks a second on the same queue: its tasks start on the other "
        f"within {OTHER_SECONDS:g} s. A lone worker is killed and restarted within 1 s, {options.lone} times: its "
        f"tasks start within {LONE_SECONDS:g} s of the restart."
    )
