"""Judges by a ledger and the task records whether anything was lost, run twice without need, or ended twice.

An execution beyond the first of an attempt is explained where the process group that ran an earlier one was killed
after that had started and

- before its body ended: `INTERRUPTED`;
- or at most `margin` seconds after its body ended, that is perhaps before its acknowledgement: `UNACKNOWLEDGED`;
- or later, but Redis was away from then (or from `margin` seconds after) until at most `RECONNECT_SECONDS` before the
  kill, so that it could not acknowledge: `CUT_OFF`.

Each killed execution explains one further, which starts after the kill. A retry is an attempt of its own. Where an
attempt ran twice and asked for a retry each time, the next may run twice: `INHERITED`. Anything else is `UNEXPLAINED`
and a violation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from celeriac.results import TaskRecord, TaskState
from tests.soak.history import Execution, History
from tests.soak.intervals import length, subtract, union
from tests.soak.ledger import Outcome

#: How long after the end of its body a task may be unacknowledged, seconds: completions of short tasks go together.
MARGIN_SECONDS = 0.1

#: How long a worker may take to reach Redis again once it is back, seconds.
RECONNECT_SECONDS = 3.0

#: How long after a kill a line of the killed may still come; the order of two writers is not exact.
AFTERLIFE_SECONDS = 0.05

_OUTCOMES = {TaskState.SUCCESS: Outcome.SUCCESS, TaskState.FAILURE: Outcome.FAILURE}


class Cause(StrEnum):
    """Why an attempt ran once more."""

    INTERRUPTED = "its worker was killed while the body ran"
    UNACKNOWLEDGED = "its worker was killed just after the body had ended"
    CUT_OFF = "its worker was killed before it reached Redis again, which was away"
    INHERITED = "an earlier attempt ran twice and asked for two retries"
    UNEXPLAINED = "for no reason that the ledger knows"


@dataclass(frozen=True)
class Repeat:
    """One execution beyond the first of an attempt."""

    again: Execution
    cause: Cause
    #: The killed execution that explains it.
    first: Execution | None = None
    #: Seconds from the kill to this start.
    seconds: float | None = None


def repeats(history: History, margin: float = MARGIN_SECONDS) -> list[Repeat]:
    """Find and explain all executions beyond the first of their attempt."""
    attempts = history.attempts()
    found: list[Repeat] = []
    for (task, attempt), executions in attempts.items():
        earlier = attempts.get((task, attempt - 1), [])
        messages = max(1, sum(execution.outcome is Outcome.RETRY for execution in earlier))
        open_kills: list[tuple[Execution, Cause, float]] = []
        for number, execution in enumerate(executions):
            if number:
                killed = next((each for each in open_kills if each[2] <= execution.start), None)
                if killed:
                    open_kills.remove(killed)
                    found.append(Repeat(execution, killed[1], killed[0], execution.start - killed[2]))
                elif messages > 1:
                    messages -= 1
                    found.append(Repeat(execution, Cause.INHERITED))
                else:
                    found.append(Repeat(execution, Cause.UNEXPLAINED))
            if cause := _cause(execution, history, margin):
                life = history.workers[execution.worker]
                assert life.death
                open_kills.append((execution, cause, life.death[0]))
    return found


def interrupted(history: History) -> list[Execution]:
    """The executions that a kill interrupted in their body."""
    return [
        execution for execution in history.executions.values() if _cause(execution, history, 0) is Cause.INTERRUPTED
    ]


def violations_of_executions(history: History, margin: float = MARGIN_SECONDS) -> Iterator[str]:
    """What executions were there that should not have been."""
    for repeat in repeats(history, margin):
        if repeat.cause is Cause.UNEXPLAINED:
            yield f"{describe(repeat.again)} ran again {repeat.cause}: {_circumstances(history, repeat.again)}"
    for execution in history.executions.values():
        if execution.task not in history.submitted and execution.task not in history.refused:
            yield f"{describe(execution)} was never submitted"
        life = history.workers.get(execution.worker)
        last = execution.end or execution.start
        if life and life.killed and life.death and last > life.death[1] + AFTERLIFE_SECONDS:
            yield f"{describe(execution)} went on {last - life.death[1]:.2f} s after its worker was killed"


def violations_of_workers(history: History) -> Iterator[str]:
    """Workers that ended though nobody asked them to."""
    for life in history.workers.values():
        if life.code is not None and life.stopping is None:
            yield f"worker {life.worker} ended by itself with {life.code}"


def violations_of_records(
    history: History, expected: Mapping[str, TaskState], records: Mapping[str, TaskRecord | None]
) -> Iterator[str]:
    """Acknowledged tasks that are lost, or whose record does not say what happened to them.

    Args:
        history: what happened.
        expected: the state that each task is to end in.
        records: what the platform says at the end.
    """
    ran = {execution.task for execution in history.executions.values()}
    for task in history.submitted:
        record = records.get(task)
        if record is None or not record.state.ready:
            state = "has no record" if record is None else f"is still {record.state}"
            yield f"lost: task {task} {state}, {'and ran' if task in ran else 'and never ran'}"
        elif record.state is not expected[task]:
            yield f"task {task} is {record.state}, not {expected[task]}: {record.error}"
        else:
            yield from _unfounded(history, record)


def _unfounded(history: History, record: TaskRecord) -> Iterator[str]:
    """A final state must come from an execution that ended so."""
    outcome = _OUTCOMES[record.state]
    ended = {
        each.run for each in history.executions.values() if each.task == record.task_id and each.outcome == outcome
    }
    if not ended:
        yield f"task {record.task_id} is {record.state}, but no execution of it ended so"
    elif record.state is TaskState.SUCCESS and record.result["run"] not in ended:
        yield f"task {record.task_id} has the result of {record.result['run']}, which did not end"


def describe(execution: Execution) -> str:
    """Name an execution for people."""
    return f"task {execution.task} attempt {execution.attempt} on {execution.worker}"


def _circumstances(history: History, execution: Execution) -> str:
    """The earlier executions and an outage of Redis, in seconds before an execution."""
    words = []
    for each in history.attempts()[execution.task, execution.attempt]:
        if each.start < execution.start:
            life = history.workers[each.worker]
            ended = "did not end" if each.end is None else f"ended {each.end - execution.start:+.2f}"
            died = f"gone {life.death[0] - execution.start:+.2f}" if life.death else "which lives"
            words.append(f"started {each.start - execution.start:+.2f} and {ended} on {each.worker} ({died})")
    for down, up in history.outages:
        if 0 <= execution.start - down < 30:
            back = f"{up - execution.start:+.2f}" if up else "no more"
            words.append(f"Redis away {down - execution.start:+.2f} to {back}")
    return "; ".join(words)


def _cause(execution: Execution, history: History, margin: float) -> Cause | None:
    life = history.workers.get(execution.worker)
    if life is None or life.death is None or execution.start > life.death[1]:
        return None
    if not life.killed and life.stopping is not None:
        return None  # a worker that is asked to stop lets its tasks end, so it explains nothing
    if execution.end is None:
        return Cause.INTERRUPTED
    since = [(execution.end, max(execution.end, life.death[0]))]
    if length(since) <= margin:
        return Cause.UNACKNOWLEDGED
    away = union((down, (up or life.death[1]) + RECONNECT_SECONDS) for down, up in history.outages)
    return Cause.CUT_OFF if length(subtract(since, away)) <= margin else None
