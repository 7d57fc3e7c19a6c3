"""Random kills of workers and of Redis, and what became of every task.

Promise: every acknowledged submit ends in exactly one final state, nothing is lost, and an attempt runs more than once
only where a kill interrupted it (see `verdict`). Afterwards Redis holds no work.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from celeriac.results import TaskRecord
from tests.soak.agenda import Agenda
from tests.soak.history import History
from tests.soak.jobs import Job, Publisher, in_bursts, mixed, task_id
from tests.soak.ledger import now
from tests.soak.options import Options
from tests.soak.report import Report, load, say, spread
from tests.soak.rig import MakeApp, Rig, make_app
from tests.soak.server import dead_letters
from tests.soak.verdict import (
    MARGIN_SECONDS,
    Cause,
    interrupted,
    repeats,
    violations_of_executions,
    violations_of_records,
    violations_of_workers,
)
from tests.soak.workers import Worker
from tests.soak.workload import QUEUES


@dataclass(frozen=True)
class ChaosOptions(Options):
    """How much chaos."""

    #: tasks to submit
    tasks: int = 5000
    #: SIGKILLs of worker process groups
    kills: int = 60
    #: SIGKILLs of Redis
    redis_kills: int = 3
    #: workers at a time
    workers: int = 3
    #: slots of each worker
    slots: int = 2
    #: seconds without any event after which a task that has not ended is lost
    quiet: float = 60.0


def run(seed: int, options: ChaosOptions, folder: Path, make: MakeApp = make_app) -> Report:
    """Run the trial."""
    rng = random.Random(seed)
    # Kills come 2 s apart on average, and there is to be work until the last.
    timed = in_bursts(rng, [mixed(rng) for _ in range(options.tasks)], seconds=2.0 * options.kills)
    ids = random.Random(rng.getrandbits(64))
    with Rig(folder, make) as rig:
        chaos = _Chaos(rig, rng, options)
        began = now()
        with Publisher(rig, timed, again=lambda job: replace(job, task_id=task_id(ids))) as publisher:
            chaos.run(until=lambda: publisher.done)
        say(f"{options.kills} kills and all submits after {now() - began:.0f} s; waiting for the rest")
        chaos.let_all_live()
        records = rig.settle(rig.history().submitted, options.quiet)
        took = now() - began
        left = rig.left_over()
        dead = dead_letters(rig.client)
        settled = rig.records(records)
        workers_load = load()
        for worker in rig.workers:
            worker.stop()
        for worker in rig.workers:
            worker.wait()
        history = rig.history()
    report = Report("chaos", _promise(options), seed)
    _judge(report, history, publisher.jobs, records, settled)
    report.violations += [f"left over in Redis: {size} in {key}" for key, size in left.items()]
    report.violations += [f"dead letters: {size} in {key}" for key, size in dead.items()]
    report.figure("submits that raised", len(history.refused))
    report.figure("of these, ran all the same", _ran(history, history.refused))
    report.figure("left over in Redis", sum(left.values()))
    report.figure("dead letters", sum(dead.values()))
    report.figure("kills of Redis", len(history.outages))
    report.figure("writes to its file that waited for the disk before the kills", ", ".join(chaos.delayed) or "none")
    report.figure("from the first submit to the last end", f"{took:.0f} s")
    report.figure("load over the last minute", workers_load)
    return report


class _Chaos:
    """Kills workers and Redis at random and starts them again."""

    def __init__(self, rig: Rig, rng: random.Random, options: ChaosOptions) -> None:
        self._rig, self._rng, self._options = rig, rng, options
        self._agenda = Agenda()
        self._places: dict[str, Worker | None] = {}
        self._kills = 0
        self._redis_kills = 0
        #: `aof_delayed_fsync` at each kill of Redis: above 0, an answer may have been ahead of the file.
        self.delayed: list[str] = []

    def run(self, until: Callable[[], bool]) -> None:
        """Kill until all kills are done and a condition holds."""
        for number in range(self._options.workers):
            self._start(f"w{number}")
        self._agenda.after(self._rng.uniform(2, 4), self._kill)
        for number in range(self._options.redis_kills):
            share = (number + self._rng.uniform(0.4, 0.6)) / self._options.redis_kills
            self._agenda.after(2.0 * self._options.kills * share, self._kill_redis)
        self._agenda.every(0.5, self._replace_ended)
        self._agenda.run_until(
            lambda: self._kills >= self._options.kills and self._redis_kills >= self._options.redis_kills and until()
        )

    def let_all_live(self) -> None:
        """Bring back what is down, and leave all alone from now on."""
        self._rig.start_redis()
        for place, worker in self._places.items():
            if worker is None or worker.has_ended():
                self._start(place)

    def _start(self, place: str) -> None:
        pool = self._options.pool or None
        self._places[place] = self._rig.start_worker(QUEUES, self._options.slots, pool, place=place)

    def _kill(self) -> None:
        living = [place for place, worker in self._places.items() if worker and not worker.has_ended()]
        if living:
            place = self._rng.choice(living)
            worker = self._places[place]
            assert worker is not None
            worker.kill()
            self._places[place] = None
            self._agenda.after(self._rng.uniform(0, 1.5), lambda: self._start(place))
            self._kills += 1
            if self._kills % 10 == 0:
                say(f"{self._kills} kills")
        if self._kills < self._options.kills:
            self._agenda.after(self._rng.uniform(1, 3), self._kill)

    def _kill_redis(self) -> None:
        self.delayed.append(str(self._rig.client.info("persistence").get("aof_delayed_fsync", "?")))
        self._rig.kill_redis()
        seconds = self._rng.uniform(0.2, 4)
        say(f"Redis killed for {seconds:.1f} s")
        self._agenda.after(seconds, self._restart_redis)

    def _restart_redis(self) -> None:
        self._rig.start_redis()
        self._redis_kills += 1

    def _replace_ended(self) -> None:
        for place, worker in self._places.items():
            if worker and worker.has_ended():
                say(f"worker {worker.name} ended by itself")
                self._start(place)


def _judge(
    report: Report,
    history: History,
    jobs: dict[str, Job],
    records: dict[str, TaskRecord | None],
    settled: dict[str, TaskRecord | None],
) -> None:
    expected = {task: job.expected for task, job in jobs.items()}
    lost = [task for task, record in settled.items() if record is None or not record.state.ready]
    changed = [
        f"task {task} was {first.state} and then {last.state if last else 'gone'}"
        for task, first in records.items()
        if first and first.state.ready and (last := settled[task]) != first and (not last or last.state != first.state)
    ]
    report.violations += list(violations_of_records(history, expected, settled))
    report.violations += changed
    report.violations += list(violations_of_executions(history))
    report.violations += list(violations_of_workers(history))
    found = repeats(history)
    causes = Counter(repeat.cause for repeat in found)
    report.figure("acknowledged submits", len(history.submitted))
    report.figure("**lost**", len(lost))
    report.figure("whose final state changed", len(changed))
    report.figure("executions, retries among them", len(history.executions))
    report.figure("kills of worker groups", sum(life.killed for life in history.workers.values()))
    report.figure("executions that a kill interrupted", len(interrupted(history)))
    report.figure("attempts run again for that", causes[Cause.INTERRUPTED])
    margin = f"{MARGIN_SECONDS * 1000:.0f} ms"
    report.figure(f"run again, killed at most {margin} after the body", causes[Cause.UNACKNOWLEDGED])
    report.figure("run again, killed while Redis was away or before it was reached again", causes[Cause.CUT_OFF])
    report.figure("run again, asked for by an attempt that ran twice", causes[Cause.INHERITED])
    report.figure("**run again without a kill**", causes[Cause.UNEXPLAINED])
    report.figure("from the kill to the next start", spread([each.seconds for each in found if each.seconds]))


def _ran(history: History, tasks: Mapping[str, object]) -> int:
    return len({each.task for each in history.executions.values()} & tasks.keys())


def _promise(options: ChaosOptions) -> str:
    return (
        f"{options.tasks:,} tasks of 5 to 30 ms (5 % of 0.5 to 1 s) in three queues with priorities, delays and "
        f"retries; {options.workers} workers of {options.slots} slots whose process groups are killed by SIGKILL every "
        f"1 to 3 s; Redis (append-only, written to disk each second) killed {options.redis_kills} times and restarted. "
        "Every acknowledged submit ends in exactly one final state, and an attempt runs again only where a kill "
        "interrupted it."
    )
