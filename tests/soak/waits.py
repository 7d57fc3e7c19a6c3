"""How long messages waited though a slot was free for them, from the ledger.

A message may run from the moment its publish returned, or its delay or retry delay was over, until its body starts.
Of that time does not count:

- when no worker of its queue had a free slot. A worker counts from when the registry first knows it until it is asked
  to stop or killed. A slot is busy while a body runs, and between two bodies that follow within `HANDOVER_SECONDS`.
- when Redis was down, and `RECONNECT_SECONDS` after.
- for a message that was there before Redis went down: `LOST_CLAIM_SECONDS` after its return, for a worker may have
  claimed it in the instant of the kill, without an answer; nobody knows of such a claim until its lease has run out.
- for a message that was there when a worker of its queue was killed: `RECOVERY_SECONDS`, for it may have been claimed.

What is left falls into stretches; the longest one is the wait that is judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.soak.history import Execution, History, Life
from tests.soak.intervals import Interval, length, overlap, subtract, union
from tests.soak.ledger import Outcome
from tests.soak.verdict import RECONNECT_SECONDS

HANDOVER_SECONDS = 0.25
LOST_CLAIM_SECONDS = 15.0
RECOVERY_SECONDS = 8.0
#: A wait that needs no excuse; there are too many of them to look for one.
NEGLIGIBLE_SECONDS = 0.1


@dataclass(frozen=True)
class Wait:
    """What one attempt of one task waited."""

    task: str
    attempt: int
    queue: str
    #: When it might have started.
    eligible: float
    #: When it did; None where it has not.
    start: float | None
    #: The longest stretch during which it waited beside a free slot.
    longest: Interval
    #: Whether all slots of the worker that ran it in the end were busy meanwhile: it held the message already, while
    #: another worker had a slot free.
    prefetched: bool = False

    @property
    def seconds(self) -> float:
        """Length of that stretch."""
        return self.longest[1] - self.longest[0]


def waits(history: History, until: float, since: float = 0.0) -> Iterator[Wait]:
    """Measure the wait of every attempt that was submitted or asked for.

    Args:
        history: what happened.
        until: the end of the wait of those that have not started.
        since: from when on the executions are known; nobody can tell which slots were busy before.
    """
    attempts = history.attempts()
    by_worker = _by_worker(history)
    free: dict[str, list[Interval]] = {}
    for (task, attempt), (queue, eligible) in _eligible(history, attempts).items():
        if eligible > until:
            continue
        seen = max(eligible, since)
        executions = attempts.get((task, attempt))
        start = executions[0].start if executions else None
        end = until if start is None else start
        if queue not in free:
            free[queue] = free_times(history, queue, until)
        longest = _longest(beside := overlap(free[queue], (seen, end)), seen)
        if longest[1] - longest[0] > NEGLIGIBLE_SECONDS:
            longest = _longest(subtract(beside, excuses(history, queue, eligible)), seen)
        runner = history.workers.get(executions[0].worker) if executions else None
        prefetched = bool(
            runner
            and longest[1] - longest[0] > NEGLIGIBLE_SECONDS
            and not _was_free(runner, by_worker.get(runner.worker, []), longest)
        )
        yield Wait(task, attempt, queue, eligible, start, longest, prefetched)


def free_times(history: History, queue: str, until: float) -> list[Interval]:
    """When some worker of a queue had a slot free, in order and without overlaps."""
    by_worker = _by_worker(history)
    lives = [life for life in history.workers.values() if queue in life.queues]
    return union(gap for life in lives for gap in _idle(life, by_worker.get(life.worker, []), until))


def excuses(history: History, queue: str, eligible: float) -> list[Interval]:
    """When a message that could run from `eligible` on may wait all the same."""
    found = [
        (down, up + (LOST_CLAIM_SECONDS if eligible <= down else RECONNECT_SECONDS)) if up else (down, float("inf"))
        for down, up in history.outages
    ]
    for life in history.workers.values():
        unasked = life.death and (life.killed or life.stopping is None)
        if unasked and life.death and queue in life.queues and eligible <= life.death[1]:
            found.append((life.death[0], life.death[1] + RECOVERY_SECONDS))
    return union(found)


def _eligible(
    history: History, attempts: dict[tuple[str, int], list[Execution]]
) -> dict[tuple[str, int], tuple[str, float]]:
    """The queue of each attempt that should run, and from when on."""
    found = {(task, 0): (event.queue, event.due) for task, event in history.submitted.items()}
    for (task, attempt), executions in attempts.items():
        asked = next((each for each in executions if each.outcome is Outcome.RETRY), None)
        if asked and asked.due is not None:
            found[task, attempt + 1] = (asked.queue, asked.due)
    return found


def _by_worker(history: History) -> dict[str, list[Execution]]:
    found: dict[str, list[Execution]] = {}
    for execution in history.executions.values():
        found.setdefault(execution.worker, []).append(execution)
    return found


def _was_free(life: Life, executions: list[Execution], span: Interval) -> bool:
    """Whether a worker had a slot free for more than a moment of some time."""
    near = [each for each in executions if each.start < span[1] + 1 and (each.end is None or each.end > span[0] - 1)]
    return length(overlap(union(_idle(life, near, span[1])), span)) > NEGLIGIBLE_SECONDS


def _longest(intervals: list[Interval], otherwise: float) -> Interval:
    return max(intervals, key=lambda each: each[1] - each[0], default=(otherwise, otherwise))


def _idle(life: Life, executions: list[Execution], until: float) -> Iterator[Interval]:
    """When each slot of a worker was free."""
    working = life.working(until)
    if working is None:
        return
    #: When each slot became free; before a worker is ready it has run nothing.
    slots = [working[0]] * life.slots
    used = [False] * life.slots
    for execution in sorted(executions, key=lambda each: each.start):
        # The slot that was used last, of those that are free: the gaps are then as long as they can be.
        free = [number for number in range(life.slots) if slots[number] <= execution.start]
        number = max(free, key=slots.__getitem__) if free else min(range(life.slots), key=slots.__getitem__)
        if not used[number] or execution.start - slots[number] > HANDOVER_SECONDS:
            yield slots[number], min(execution.start, working[1])
        used[number] = True
        end = execution.end if execution.end is not None else working[1]
        slots[number] = max(slots[number], end)
    for end in slots:
        if end < working[1]:
            yield end, working[1]
