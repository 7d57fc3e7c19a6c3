"""A worker that stands still for longer than its leases and then goes on as if nothing had happened.

Promise: what a paused worker held is given to another; when it goes on, neither its acknowledgements nor its results
count; each task has one final state, that of the other's execution.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from celeriac.results import TaskState
from tests.platform import wait_for
from tests.soak.history import Execution
from tests.soak.jobs import Job, task_id
from tests.soak.ledger import now
from tests.soak.options import Options
from tests.soak.report import Report, load, say, spread
from tests.soak.rig import MakeApp, Rig, make_app
from tests.soak.verdict import describe
from tests.soak.workers import Worker

QUEUE = "soak_a"
#: As many as tasks, so that each worker could run all of them.
SLOTS = 4
#: A task of the first length ends on the other worker before the paused one goes on; one of the second, after it.
LENGTHS_SECONDS = (2.0, 8.0)
#: Seconds for everything to end after the paused worker goes on.
PATIENCE_SECONDS = 60.0
#: Seconds that are watched after the last execution has ended, for late acknowledgements and results.
AFTERMATH_SECONDS = 3.0


@dataclass(frozen=True)
class PauseOptions(Options):
    """How often and how long."""

    #: pauses
    trials: int = 10
    #: length of a pause, seconds
    seconds: float = 12.0


def run(seed: int, options: PauseOptions, folder: Path, make: MakeApp = make_app) -> Report:
    """Run the trial."""
    rng = random.Random(seed)
    report = Report("pause", _promise(options), seed)
    with Rig(folder, make) as rig:
        pauses = _Pauses(rig, rng, options)
        for number in range(options.trials):
            length = LENGTHS_SECONDS[number % 2]
            pauses.once(length)
            say(f"pause {number + 1}, tasks of {length:g} s: {pauses.counts['paused']} paused so far")
        left = rig.left_over()
        report.figure("load over the last minute", load())
    report.figure("pauses", options.trials)
    report.figure("tasks that were running on the paused worker", pauses.counts["paused"])
    report.figure("of these, given to the other during the pause", pauses.counts["given"])
    report.figure("from the pause to the start on the other", spread(pauses.seconds))
    report.figure("the other's execution had ended when the paused one went on", pauses.counts["ended before"])
    report.figure("the other's execution still ran when the paused one went on", pauses.counts["ran on"])
    report.violations += pauses.violations
    report.violations += [f"left over in Redis: {size} in {key}" for key, size in left.items()]
    return report


class _Pauses:
    """Two workers of which one at a time is paused."""

    def __init__(self, rig: Rig, rng: random.Random, options: PauseOptions) -> None:
        self._rig, self._rng, self._options = rig, rng, options
        pool = options.pool or None
        self._workers = [rig.start_worker([QUEUE], SLOTS, pool) for _ in range(2)]
        rig.wait_until_ready(*self._workers)
        self.counts: Counter[str] = Counter()
        #: From each pause to each start on the other worker.
        self.seconds: list[float] = []
        self.violations: list[str] = []

    def once(self, length: float) -> None:
        """Pause a worker in the middle of tasks of some length, let it go on, and see what counts."""
        tasks = [task_id(self._rng) for _ in range(SLOTS)]
        for task in tasks:
            assert self._rig.submit(Job(task, QUEUE, args=(length,))), "Redis is up, so that submits are taken"
        wait_for(lambda: len(self._executions(tasks)) >= SLOTS, "the tasks to start")
        time.sleep(self._rng.uniform(0, 0.5))  # any phase of whatever is renewed meanwhile
        victim = self._rng.choice([each for each in self._workers if self._running(tasks, each)])
        paused_at = victim.pause()
        held = {each.task: each for each in self._running(tasks, victim)}
        self.counts["paused"] += len(held)
        time.sleep(max(0.0, paused_at + self._options.seconds - now()))
        given = {each.task: each for each in self._executions(tasks) if self._is_second(each, held)}
        self.counts["given"] += len(given)
        self.counts["ended before"] += sum(each.end is not None for each in given.values())
        self.counts["ran on"] += sum(each.end is None for each in given.values())
        self.seconds += [each.start - paused_at for each in given.values()]
        missing = held.keys() - given.keys()
        self.violations += [f"{describe(held[task])} was given to nobody during the pause" for task in missing]
        victim.resume()
        self._watch(tasks, held)
        self._still_works(victim)

    def _watch(self, tasks: list[str], held: dict[str, Execution]) -> None:
        """Look at the records until all executions have ended and a while longer."""
        stale = {each.run for each in held.values()}
        ended_at: float | None = None
        deadline = now() + PATIENCE_SECONDS
        while ended_at is None or now() < ended_at + AFTERMATH_SECONDS:
            records = self._rig.records(tasks)
            # Read after the records: an end that is not in the ledger yet cannot be what a record tells of.
            executions = self._executions(tasks)
            valid = {each.task for each in executions if each.run not in stale and each.end}
            for task, record in records.items():
                if record and record.state.ready and task not in valid:
                    self._violate(f"task {task} was {record.state} before the execution that counts had ended")
                if record and record.state is TaskState.SUCCESS and record.result["run"] in stale:
                    self._violate(f"task {task} has the result of the paused worker")
            if ended_at is None and all(each.end for each in executions) and held.keys() <= valid:
                ended_at = now()
            if now() > deadline:
                self._violate(f"pause of {', '.join(sorted(held))}: not all executions ended")
                break
            time.sleep(0.05)
        for task, record in self._rig.records(tasks).items():
            if record is None or record.state is not TaskState.SUCCESS:
                self._violate(f"task {task} is {record.state if record else 'unknown'} in the end, not SUCCESS")
        runs = Counter(each.task for each in self._executions(tasks))
        for task, count in runs.items():
            if count > (allowed := 2 if task in held else 1):
                self._violate(f"task {task} ran {count} times, not {allowed}")

    def _still_works(self, victim: Worker) -> None:
        """The woken worker takes tasks as before."""

        def takes_one() -> bool:
            tasks = [task_id(self._rng) for _ in range(2 * SLOTS)]
            for task in tasks:
                self._rig.submit(Job(task, QUEUE, args=(0.3,)))
            wait_for(lambda: {e.task for e in self._executions(tasks) if e.end} == set(tasks), "short tasks to end")
            return any(each.worker == victim.name for each in self._executions(tasks))

        wait_for(takes_one, f"the woken worker {victim.name} to take a task", PATIENCE_SECONDS)

    def _executions(self, tasks: list[str]) -> list[Execution]:
        return [each for each in self._rig.live().executions.values() if each.task in tasks]

    def _running(self, tasks: list[str], worker: Worker) -> list[Execution]:
        return [each for each in self._executions(tasks) if each.worker == worker.name and each.end is None]

    @staticmethod
    def _is_second(execution: Execution, held: dict[str, Execution]) -> bool:
        return execution.task in held and execution.run != held[execution.task].run

    def _violate(self, message: str) -> None:
        if message not in self.violations:
            self.violations.append(message)


def _promise(options: PauseOptions) -> str:
    return (
        f"One of two workers is paused by SIGSTOP in the middle of its tasks for {options.seconds:g} s, "
        f"{options.trials} times, and goes on by SIGCONT. Its tasks are given to the other; its own acknowledgements "
        "and results are refused; each task has one final state, that of the other's execution."
    )
