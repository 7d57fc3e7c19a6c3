"""Tasks that run for much longer than a lease, also where nothing else of their process can run, or Redis is away.

Promise: each of them runs once: one of ten minutes; one that keeps the interpreter lock for three leases, under each
pool; one during which Redis is killed and comes back. A second worker stands by that would run them again.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from celeriac.results import TaskState
from tests.platform import wait_for
from tests.soak.jobs import Job, task_id
from tests.soak.ledger import Outcome, now
from tests.soak.options import Options
from tests.soak.report import Report, load, say, table
from tests.soak.rig import MakeApp, Rig, make_app

#: What a lease lasts, seconds; see the design.
LEASE_SECONDS = 5.0
#: How long a task keeps the interpreter lock, seconds.
GIL_SECONDS = 3 * LEASE_SECONDS + 1
#: How long Redis is away, seconds: shorter and longer than a lease.
OUTAGES_SECONDS = (0.5, 2.4 * LEASE_SECONDS)
#: How long a task runs around an outage, seconds: until two leases after it.
AROUND_OUTAGE_SECONDS = 40.0
#: How long is waited for a second execution after the first has ended, seconds.
AFTERMATH_SECONDS = 12.0


@dataclass(frozen=True)
class LongOptions(Options):
    """How long."""

    #: length of the longest task, minutes
    minutes: float = 10.0
    #: pools in which a task keeps the interpreter lock, comma-separated; the other tasks run in `pool`
    pools: str = "prefork,threads,solo"


def run(seed: int, options: LongOptions, folder: Path, make: MakeApp = make_app) -> Report:
    """Run the trial."""
    rng = random.Random(seed)
    report = Report("long", _promise(options), seed)
    pool = options.pool or None
    with Rig(folder / "calm", make) as calm:
        long = _Watched(calm, "soak_a", pool, Job(task_id(rng), "soak_a", args=(options.minutes * 60,)))
        say(f"a task of {options.minutes:g} minutes runs")
        for name in filter(None, options.pools.split(",")):
            job = Job(task_id(rng), "soak_b", "soak.hold_gil", (GIL_SECONDS,))
            gil = _Watched(calm, "soak_b", name, job)
            report.violations += gil.finish(f"interpreter lock kept for {GIL_SECONDS:g} s, pool {name}", GIL_SECONDS)
            held = gil.longest_hold()
            if held < 3 * LEASE_SECONDS:
                report.violations.append(f"pool {name}: the lock was kept for {held:.1f} s only; run it again")
            report.details.append(gil.row)
        with Rig(folder / "outages", make) as rig:
            for seconds in OUTAGES_SECONDS:
                cut = _Watched(rig, "soak_c", pool, Job(task_id(rng), "soak_c", args=(AROUND_OUTAGE_SECONDS,)))
                time.sleep(rng.uniform(1, 3))
                rig.kill_redis()
                time.sleep(seconds)
                rig.start_redis()
                what = f"Redis killed and away for {seconds:g} s, pool {name_of(pool)}"
                report.violations += cut.finish(what, AROUND_OUTAGE_SECONDS)
                report.details.append(cut.row)
            report.violations += [f"left over in Redis: {size} in {key}" for key, size in rig.left_over().items()]
        report.violations += long.finish(f"{options.minutes:g} minutes, pool {name_of(pool)}", options.minutes * 60)
        report.details.append(long.row)
        report.violations += [f"left over in Redis: {size} in {key}" for key, size in calm.left_over().items()]
        report.figure("load over the last minute", load())
    rows = [row.split(" | ") for row in report.details]
    report.details = [table(("task", "executions", "ran for", "state"), rows)]
    return report


class _Watched:
    """One task on a queue of its own with two workers."""

    def __init__(self, rig: Rig, queue: str, pool: str | None, job: Job) -> None:
        self._rig, self._job = rig, job
        self._workers = [rig.start_worker([queue], 1, pool, place=name_of(pool)) for _ in range(2)]
        rig.wait_until_ready(*self._workers)
        assert rig.submit(job), "Redis is up, so that submits are taken"
        wait_for(lambda: job.task_id in {each.task for each in rig.live().executions.values()}, "the task to start")
        self._started_at = now()
        #: The outcome as a row of a table, after `finish`.
        self.row = ""

    def finish(self, what: str, seconds: float) -> list[str]:
        """Wait for the end of the task and for what may come after it; gives the violations."""
        patience = self._started_at + seconds + 60 - now()
        try:
            wait_for(self._has_ended, f"{what}: to end", patience)
            time.sleep(AFTERMATH_SECONDS)
        except AssertionError as error:
            say(str(error))
        executions = [e for e in self._rig.history().executions.values() if e.task == self._job.task_id]
        record = self._rig.app.records.get(self._job.task_id)
        state = record.state if record else None
        for worker in self._workers:
            worker.stop()
        violations = [f"{what}: worker {each.name} ended by itself" for each in self._workers if each.over]
        for worker in self._workers:
            worker.wait()
        if len(executions) != 1:
            violations.append(f"{what}: ran {len(executions)} times")
        if state is not TaskState.SUCCESS:
            violations.append(f"{what}: is {state} in the end, not SUCCESS")
        elif record and record.result["run"] != executions[0].run:
            violations.append(f"{what}: has the result of {record.result['run']}")
        ran = f"{executions[0].end - executions[0].start:.1f} s" if executions[0].end else "did not end"
        self.row = f"{what} | {len(executions)} | {ran} | {state}"
        say(self.row)
        return violations

    def longest_hold(self) -> float:
        """For how long the task kept the interpreter lock without a break, seconds."""
        record = self._rig.app.records.get(self._job.task_id)
        return float(record.result["longest"]) if record and record.result else 0.0

    def _has_ended(self) -> bool:
        executions = [e for e in self._rig.live().executions.values() if e.task == self._job.task_id]
        return any(each.outcome is Outcome.SUCCESS for each in executions) and all(each.end for each in executions)


def name_of(pool: str | None) -> str:
    """The pool's name for people."""
    return pool or "default"


def _promise(options: LongOptions) -> str:
    return (
        f"A task of {options.minutes:g} minutes, tasks that keep the interpreter lock for {GIL_SECONDS:g} s (a lease "
        f"lasts {LEASE_SECONDS:g} s) under each pool, and tasks of {AROUND_OUTAGE_SECONDS:g} s during which Redis is "
        "killed and comes back, each with a second worker at its queue: every one runs exactly once and succeeds."
    )
