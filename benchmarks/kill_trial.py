"""Kills workers by SIGKILL while they work, and counts what was lost and what ran twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass

from benchmarks.contestants.contestant import Contestant, Worker

#: Workers at a time; a killed one is replaced at once.
WORKERS = 3

#: Seconds without progress after which nobody is killed any more.
STALL_SECONDS = 60.0

#: So long must a broker hold nothing until no more is expected of it, seconds.
QUIET_SECONDS = 5.0

#: Seconds between the tasks that are published during recovery: taskiq claims what is lost only when new ones come.
TRICKLE_SECONDS = 1.0

#: Seconds in which a message that is on its way from the broker to a worker has been executed.
ARRIVAL_SECONDS = 2.0


@dataclass(frozen=True)
class Outcome:
    """What came of one contestant's tasks."""

    #: Workers that were killed.
    kills: int
    #: Not executed by the end of the limit, and still held by the broker.
    stranded: int
    #: Not executed by the end of the limit, and nowhere any more.
    gone: int
    #: Executed more than once.
    twice: int
    #: Executions beyond the first.
    extra_runs: int
    #: From the start of the workers to the last kill.
    killing_seconds: float
    #: From the last kill to the last execution of a task that had not been executed before; 0 where that was earlier.
    recovery_seconds: float
    #: From the last kill until the broker held nothing, or the limit.
    waited_seconds: float


class Trial:
    """One contestant's run.

    Args:
        contestant: who.
        tasks: how many no-ops.
        kills: how many workers are killed.
        dice: draws who and when.
    """

    def __init__(self, contestant: Contestant, *, tasks: int, kills: int, dice: random.Random) -> None:
        self._contestant = contestant
        self._tasks = tasks
        self._dice = dice
        #: Kills come when so many tasks are done: at moments that do not depend on how fast a contestant is.
        self._moments = sorted(dice.uniform(0.02, 0.95) * tasks for _ in range(kills))
        self._runs: Counter[int] = Counter()
        self._read = 0
        self._last_first_run_ns = 0
        #: Workers that have executed something since they were started: only these are killed, not those that start.
        self._working: set[int] = set()

    def run(self, limit_seconds: float) -> Outcome:
        """Publish, kill, and wait until nothing is left or the limit is over.

        Args:
            limit_seconds: from the last kill.
        """
        contestant = self._contestant
        for index in range(self._tasks):
            contestant.publish(index)
        started = time.monotonic()
        workers = [contestant.start_worker() for _ in range(WORKERS)]
        kills = self._kill(workers)
        killed = time.monotonic()
        self._wait(killed + limit_seconds)
        waited = time.monotonic() - killed
        # First what the broker holds, then what was executed: a task that ends in between is no loss.
        recorded = contestant.recorded()
        time.sleep(ARRIVAL_SECONDS)
        self._look()
        missing = {index for index in range(self._tasks) if not self._runs[index]}
        repeated = [runs for runs in self._runs.values() if runs > 1]
        return Outcome(
            kills=kills,
            stranded=len(missing & recorded),
            gone=len(missing - recorded),
            twice=len(repeated),
            extra_runs=sum(repeated) - len(repeated),
            killing_seconds=killed - started,
            recovery_seconds=max(0.0, self._last_first_run_ns / 1e9 - killed),
            waited_seconds=waited,
        )

    def _kill(self, workers: list[Worker]) -> int:
        kills = 0
        progress = (0, time.monotonic())
        while kills < len(self._moments):
            time.sleep(0.005)
            self._look()
            if len(self._runs) > progress[0]:
                progress = (len(self._runs), time.monotonic())
            elif time.monotonic() - progress[1] > STALL_SECONDS or len(self._runs) >= self._tasks:
                break
            victims = [number for number, worker in enumerate(workers) if worker.session in self._working]
            if len(self._runs) < self._moments[kills] or not victims:
                continue
            # Anywhere within what a worker does, not always right after it has appended.
            time.sleep(self._dice.uniform(0, 0.02))
            number = self._dice.choice(victims)
            workers[number].kill()
            workers[number] = self._contestant.start_worker()
            kills += 1
        return kills

    def _wait(self, deadline: float) -> None:
        quiet_since: float | None = None
        further = self._tasks
        while time.monotonic() < deadline:
            time.sleep(TRICKLE_SECONDS)
            self._contestant.publish(further)
            further += 1
            if any(index < self._tasks for index in self._contestant.recorded()):
                quiet_since = None
            elif quiet_since is None:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > QUIET_SECONDS:
                return

    def _look(self) -> None:
        entries = self._contestant.ledger.entries(start=self._read)
        self._read += len(entries)
        for entry in entries:
            self._working.add(entry.session)
            if entry.index >= self._tasks:
                continue
            if not self._runs[entry.index]:
                self._last_first_run_ns = max(self._last_first_run_ns, entry.at_ns)
            self._runs[entry.index] += 1
