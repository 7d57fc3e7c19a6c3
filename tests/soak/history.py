"""What the lines of a ledger say together: which executions each task had, and when each worker lived."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import singledispatchmethod

from tests.soak.intervals import Interval
from tests.soak.ledger import (
    Ended,
    Event,
    Exited,
    Killed,
    Outcome,
    Ready,
    RedisDown,
    RedisUp,
    Refused,
    Slow,
    Spawned,
    Started,
    Stopping,
    Submitted,
)


@dataclass
class Execution:
    """One run of a task's body."""

    run: str
    task: str
    attempt: int
    worker: str
    queue: str
    start: float
    #: None where the body never got so far.
    end: float | None = None
    outcome: Outcome | None = None
    #: When the attempt after a retry may run.
    due: float | None = None


@dataclass
class Life:
    """One worker, from its start to its end."""

    worker: str
    queues: tuple[str, ...]
    slots: int
    #: When the registry first knew it.
    ready: float | None = None
    #: When it was asked to stop.
    stopping: float | None = None
    #: When it was killed or ended by itself, and when its processes were gone.
    death: Interval | None = None
    killed: bool = False
    #: Its exit code, where it was not killed.
    code: int | None = None

    def working(self, until: float) -> Interval | None:
        """When it could be expected to take tasks, if ever; `until` for one that still does."""
        if self.ready is None:
            return None
        ends = [until, *([self.stopping] if self.stopping else []), *([self.death[0]] if self.death else [])]
        return (self.ready, min(ends)) if min(ends) > self.ready else None


@dataclass
class History:
    """The events of a ledger, put together."""

    submitted: dict[str, Submitted] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)
    #: By execution name, in the order of their starts.
    executions: dict[str, Execution] = field(default_factory=dict)
    workers: dict[str, Life] = field(default_factory=dict)
    #: When Redis was away; the end is None while it still is.
    outages: list[tuple[float, float | None]] = field(default_factory=list)
    slow: list[Slow] = field(default_factory=list)
    #: Tasks that were submitted and have never begun.
    unstarted: dict[str, Submitted] = field(default_factory=dict)
    _begun: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, events: Iterable[Event]) -> History:
        """Put events together that are in the order of their times."""
        history = cls()
        for event in events:
            history.add(event)
        return history

    def attempts(self) -> dict[tuple[str, int], list[Execution]]:
        """The executions of each attempt of each task, in the order of their starts."""
        found: dict[tuple[str, int], list[Execution]] = {}
        for execution in self.executions.values():
            found.setdefault((execution.task, execution.attempt), []).append(execution)
        for executions in found.values():
            executions.sort(key=lambda each: each.start)
        return found

    @singledispatchmethod
    def add(self, event: Event) -> None:
        """Put in one more event, not much older than the last; what is not named below means nothing here."""

    @add.register
    def _(self, event: Submitted) -> None:
        self.submitted[event.task] = event
        if event.task not in self._begun:  # a task may begin before its publisher knows that it was taken
            self.unstarted[event.task] = event

    @add.register
    def _(self, event: Refused) -> None:
        self.refused[event.task] = event

    @add.register
    def _(self, event: Started) -> None:
        self._begun.add(event.task)
        self.unstarted.pop(event.task, None)
        self.executions[event.run] = Execution(
            event.run, event.task, event.attempt, event.worker, event.queue, event.at
        )

    @add.register
    def _(self, event: Ended) -> None:
        if execution := self.executions.get(event.run):
            execution.end, execution.outcome, execution.due = event.at, event.outcome, event.due

    @add.register
    def _(self, event: Spawned) -> None:
        self.workers[event.worker] = Life(event.worker, tuple(event.queues), event.slots)

    @add.register
    def _(self, event: Ready) -> None:
        self.workers[event.worker].ready = event.at

    @add.register
    def _(self, event: Stopping) -> None:
        self.workers[event.worker].stopping = event.at

    @add.register
    def _(self, event: Killed) -> None:
        life = self.workers[event.worker]
        life.death, life.killed = (event.at, event.until), True

    @add.register
    def _(self, event: Exited) -> None:
        life = self.workers[event.worker]
        life.death, life.code = (event.at, event.at), event.code

    @add.register
    def _(self, event: RedisDown) -> None:
        self.outages.append((event.at, None))

    @add.register
    def _(self, event: RedisUp) -> None:
        if self.outages:
            self.outages[-1] = (self.outages[-1][0], event.at)

    @add.register
    def _(self, event: Slow) -> None:
        self.slow.append(event)
