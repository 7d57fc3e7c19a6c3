"""No-op tasks per second, end to end: what one worker with two slots gets through.

The tasks are queued first. Two tasks that wait at a gate fill both slots, so the worker is up and warm when the gate
opens; the rate is counted from the first to the last no-op that the ledger shows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.arena import Arena, Maker
from benchmarks.contestants.contestant import SLOTS, Contestant, Worker
from benchmarks.ledger import GATE, tasks_of
from tests.platform import wait_for

#: Seconds for a worker to start, and for a run.
START_SECONDS, RUN_SECONDS = 60.0, 300.0


@dataclass(frozen=True)
class Course:
    """One contestant with one kind of task."""

    make: Maker
    task: str = "noop"


@dataclass
class Rates:
    """One value a round."""

    #: Tasks per second.
    published: list[float] = field(default_factory=list)
    #: Tasks per second.
    executed: list[float] = field(default_factory=list)
    #: Processor time of an execution, the worker's and Redis' together, milliseconds: it does not change with what
    #: else the machine does.
    cpu_ms: list[float] = field(default_factory=list)


def measure(arena: Arena, courses: Mapping[str, Course], *, rounds: int, tasks: int) -> dict[str, Rates]:
    """Run all courses in turn, in the other direction every second round.

    Args:
        arena: where.
        courses: what, by name.
        rounds: how often each.
        tasks: how many no-ops a run.
    """
    rates = {name: Rates() for name in courses}
    for number in range(rounds):
        for name in list(courses)[:: -1 if number % 2 else 1]:
            with arena.run(courses[name].make) as contestant:
                _run(contestant, courses[name].task, tasks, rates[name])
            last = rates[name]
            print(
                f"  round {number + 1}: {name}: {last.executed[-1]:,.0f} tasks/s, {last.cpu_ms[-1]:.2f} ms processor",
                flush=True,
            )
    return rates


def _run(contestant: Contestant, task: str, tasks: int, rates: Rates) -> None:
    fill_slots(contestant)
    started = time.perf_counter()
    for index in range(tasks):
        contestant.publish(index, task=task)
    published = time.perf_counter() - started
    worker = start_at_gate(contestant)
    before = _cpu_seconds(contestant, worker)
    contestant.ledger.open_gate()
    wait_for(lambda: contestant.ledger.count() >= tasks + SLOTS, "all tasks to run", RUN_SECONDS)
    rates.cpu_ms.append(1000 * (_cpu_seconds(contestant, worker) - before) / tasks)
    worker.stop()
    entries = tasks_of(contestant.ledger.entries())
    rates.published.append(tasks / published)
    rates.executed.append((tasks - 1) / ((entries[-1].at_ns - entries[0].at_ns) / 1e9))


def _cpu_seconds(contestant: Contestant, worker: Worker) -> float:
    info = contestant.redis.info("cpu")
    return worker.cpu_seconds() + float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def fill_slots(contestant: Contestant) -> None:
    """Queue the tasks that hold a worker's slots; before any other."""
    for _ in range(SLOTS):
        contestant.publish(GATE, task="gate")


def start_at_gate(contestant: Contestant) -> Worker:
    """Start a worker and wait until its slots are filled."""
    worker = contestant.start_worker()
    wait_for(lambda: contestant.ledger.count() >= SLOTS, "the worker to start", START_SECONDS)
    return worker
