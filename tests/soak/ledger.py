"""The ledger of a trial: what happened, one line an event, in a file that no kill can take back.

Results and task records are what a trial examines, so they cannot be its witness. A line is one `write` to a file
opened with `O_APPEND`: once a task has returned from `append`, neither its own death nor that of Redis undoes it.

    ledger = Ledger(folder / "ledger.jsonl")
    ledger.append(Started(at=now(), task=…, attempt=0, run=…, worker="w0-1", queue="soak_a"))
    events = ledger.read()

All times are seconds of the machine's monotonic clock, which its processes share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class Outcome(StrEnum):
    """How the body of a task ended."""

    SUCCESS = "success"
    #: It asked to be run again.
    RETRY = "retry"
    FAILURE = "failure"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened."""

    at: float


@dataclass(frozen=True, kw_only=True)
class Submitted(Event):
    """A publish returned: from now on the platform answers for the task."""

    task: str
    queue: str
    #: When it may run, at the earliest.
    due: float


@dataclass(frozen=True, kw_only=True)
class Refused(Event):
    """A publish raised: the task may run or not, but not twice."""

    task: str
    queue: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The body of a task began."""

    task: str
    #: 0 for the first; each retry is one more.
    attempt: int
    #: The name of this one execution.
    run: str
    worker: str
    queue: str


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """The body of a task is about to return or to raise; its worker knows nothing of it yet."""

    run: str
    outcome: Outcome
    #: When the attempt after a retry may run.
    due: float | None = None


@dataclass(frozen=True, kw_only=True)
class Spawned(Event):
    """A worker's process group was started."""

    worker: str
    queues: list[str]
    slots: int


@dataclass(frozen=True, kw_only=True)
class Ready(Event):
    """The registry knows a worker."""

    worker: str


@dataclass(frozen=True, kw_only=True)
class Stopping(Event):
    """A worker was asked to stop, by SIGTERM."""

    worker: str


@dataclass(frozen=True, kw_only=True)
class Killed(Event):
    """A worker's process group is about to be killed by SIGKILL."""

    worker: str
    #: When it was gone.
    until: float


@dataclass(frozen=True, kw_only=True)
class Exited(Event):
    """A worker ended, by itself or after `Stopping`."""

    worker: str
    code: int


@dataclass(frozen=True, kw_only=True)
class Paused(Event):
    """A worker's process group was stopped by SIGSTOP."""

    worker: str


@dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    """A worker's process group goes on, by SIGCONT."""

    worker: str


@dataclass(frozen=True, kw_only=True)
class RedisDown(Event):
    """Redis is about to be killed, or all its connections are about to be cut."""


@dataclass(frozen=True, kw_only=True)
class RedisUp(Event):
    """Redis answers again."""


@dataclass(frozen=True, kw_only=True)
class Slow(Event):
    """Something took long that no worker of Celeriac has a part in."""

    #: `machine` or `Redis`.
    what: str
    #: How long, ending at `at`.
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Scene(Event):
    """What the trial does from now on."""

    name: str


KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        Submitted, Refused, Started, Ended, Spawned, Ready, Stopping, Killed, Exited, Paused, Resumed, RedisDown,
        RedisUp, Slow, Scene,
    )
}  # fmt: skip


def now() -> float:
    """The time that all events are told in."""
    return time.monotonic()


class Ledger:
    """Appends events to a file and reads them back; any number of processes may append at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def append(self, event: Event) -> None:
        """Write one event."""
        # The line break comes first, too: a write that a kill cut short must not spoil the line after it.
        line = json.dumps({"event": type(event).__name__, **asdict(event)})
        os.write(self._file, f"\n{line}\n".encode())

    def read(self) -> list[Event]:
        """Read all events, by time."""
        return in_order(parse(self.path.read_bytes()))

    def close(self) -> None:
        """Close the file; the ledger stays."""
        os.close(self._file)


class Follower:
    """Reads what was appended to a ledger since it was last asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Event]:
        """The new events, by time."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        return in_order(parse(complete))


def parse(text: bytes) -> Iterable[Event]:
    """Read lines; one that a kill cut short is no event."""
    for line in text.splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        kind = KINDS[fields.pop("event")]
        if "outcome" in fields:
            fields["outcome"] = Outcome(fields["outcome"])
        yield kind(**fields)


def in_order(events: Iterable[Event]) -> list[Event]:
    """Events by time."""
    return sorted(events, key=lambda event: event.at)
