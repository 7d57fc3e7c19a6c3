"""Notices, while a trial runs, that a message waits beside a free slot, and keeps what tells why."""

from __future__ import annotations

from pathlib import Path

from redis.exceptions import RedisError

from tests.soak.history import Execution, History
from tests.soak.ledger import now
from tests.soak.report import say
from tests.soak.rig import Rig
from tests.soak.server import dump
from tests.soak.waits import Wait, waits

#: A wait that is worth a look, seconds: just above the promise.
STALL_SECONDS = 1.1
#: How far back the executions go that decide which slots are busy, seconds.
WINDOW_SECONDS = 60.0
#: The first few stalls tell as much as all, and a dump takes a while.
DUMPS = 5
#: Seconds between two dumps, for one stall often holds several messages.
APART_SECONDS = 20.0


class StallWatch:
    """Looks at the messages that wait now.

    Args:
        rig: whose messages.
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._folder = rig.folder / "stalls"
        self._dumped_at: list[float] = []

    def look(self) -> None:
        """Dump the state of Redis and the stacks of all workers where a message has waited too long."""
        history = self._rig.live()
        if len(self._dumped_at) >= DUMPS or (self._dumped_at and now() < self._dumped_at[-1] + APART_SECONDS):
            return
        at = now()
        found = [wait for wait in waits(recent(history, at), at, at - WINDOW_SECONDS) if wait.start is None]
        stalled = max(found, key=lambda wait: wait.seconds, default=None)
        if stalled and stalled.seconds > STALL_SECONDS:
            self._dumped_at.append(now())
            self._dump(stalled)

    def _dump(self, wait: Wait) -> None:
        self._folder.mkdir(exist_ok=True)
        path: Path = self._folder / f"{len(self._dumped_at)}.txt"
        lines = [f"at {now():.3f}: {wait}", f"workers: {[worker.name for worker in self._rig.workers]}"]
        try:
            lines += [str(record) for record in self._rig.app.probe_registry.workers()]
            lines.append(dump(self._rig.client))
        except RedisError as error:
            lines.append(f"Redis: {error!r}")
        path.write_text("\n".join(lines) + "\n")
        for worker in self._rig.workers:
            worker.print_stacks()
        say(f"a message of {wait.queue} waits for {wait.seconds:.1f} s: {path}; stacks in {self._rig.folder / 'logs'}")


def recent(history: History, at: float) -> History:
    """What decides about the messages that wait now: those that have not started, and what ran lately."""
    kept: dict[str, Execution] = {}
    for run, execution in reversed(history.executions.items()):
        if execution.start < at - WINDOW_SECONDS:
            break  # they are about in order, and none takes so long
        kept[run] = execution
    return History(history.unstarted, executions=kept, workers=history.workers, outages=history.outages)
