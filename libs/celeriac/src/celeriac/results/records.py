"""Records are written here: hashes in Redis that expire, each in the index of its queue and state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import cast

from redis import Redis

from celeriac.broker import Keys, scripts
from celeriac.broker.caller import Caller
from celeriac.broker.leases import Delivery
from celeriac.broker.line import Line
from celeriac.broker.publication import Companion
from celeriac.contract.tasks import TaskState
from celeriac.errors import NotFound
from celeriac.results.files import LINGER_SECONDS
from celeriac.results.record import EPOCH, TaskRecord, parse, read_stored


@dataclass(frozen=True)
class StoredResult:
    """What `AsyncResult` is to find."""

    #: JSON, as Celery writes it.
    text: str
    #: Seconds until it expires; None for never.
    expires_seconds: int | None
    #: The file that it names; None where it holds all itself.
    file: str | None = None


class Records:
    """Reads and writes task records.

    Args:
        client: a client of the platform's Redis that decodes responses.
        keys: the names of keys.
        expires_seconds: how long the record of a finished task is kept.
        unfinished_expires_seconds: how long any other is kept after its last change.
    """

    def __init__(self, client: Redis, keys: Keys, *, expires_seconds: int, unfinished_expires_seconds: int) -> None:
        self._client = client
        self._keys = keys
        self._expires_seconds = expires_seconds
        self._unfinished_expires_seconds = unfinished_expires_seconds
        self._caller = Caller(client)
        self._add = client.register_script(script("add"))
        self._begin = client.register_script(script("move", "begin"))
        self._store = client.register_script(script("move", "store"))
        self._revoke = client.register_script(script("move", "revoke"))

    def new(
        self,
        task_id: str,
        *,
        name: str,
        queue: str,
        priority: int,
        mode: str = "celery",
        eta: str | None = None,
        parent_id: str | None = None,
        root_id: str | None = None,
        slot: str | None = None,
    ) -> Companion:
        """The record of a task that is published with its message; one that is delayed is kept so much longer.

        Args:
            task_id: the task.
            name: its name.
            queue: its queue.
            priority: 0 to 9, 9 first.
            mode: how it runs.
            eta: the moment before which it may not run, ISO 8601 with its offset from UTC; None for none.
            parent_id: the task that submits it; None for none.
            root_id: the first task of its workflow; None where that is itself.
            slot: the slot of the schedule that it belongs to; None for none.
        """
        now = datetime.now(UTC)
        fields: dict[str, str | int] = {
            "name": name,
            "queue": queue,
            "priority": priority,
            "mode": mode,
            "state": TaskState.PENDING,
            "submitted_at": _iso(now),
        }
        origin = {"parent_id": parent_id, "root_id": None if root_id == task_id else root_id, "slot": slot}
        fields |= {name: value for name, value in origin.items() if value is not None}
        delay = 0.0
        if eta is not None:
            fields["eta"] = eta
            delay = max(0.0, datetime.fromisoformat(eta).timestamp() - now.timestamp())
        expires_seconds = self._unfinished_expires_seconds + int(delay)
        submitted_ms = (now - EPOCH) // timedelta(milliseconds=1)
        return Companion(self._keys.task(task_id), task_id, expires_seconds, submitted_ms, fields)

    def add(self, task_id: str, *, name: str, queue: str, priority: int) -> None:
        """Record a task that is ended without having been published, unless it has a record."""
        record = self.new(task_id, name=name, queue=queue, priority=priority)
        keys = [record.key, self._keys.index(TaskState.PENDING, queue), self._keys.queues, self._keys.prefix]
        self._add(keys=keys, args=[queue, *record.arguments()])

    def get(self, task_id: str) -> TaskRecord | None:
        """Read a task's record and result; None for an id that is not known, or no longer."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._keys.task(task_id))
            pipe.get(self._keys.result(task_id))
            fields, stored = pipe.execute()
        return _read(task_id, fields, stored)

    def require(self, task_id: str) -> TaskRecord:
        """Read a task's record and result.

        Raises:
            NotFound: the id is not known, or no longer.
        """
        return _known(task_id, self.get(task_id))

    async def get_by(self, line: Line, task_ids: Sequence[str]) -> list[TaskRecord | None]:
        """Do as `get` does for some tasks, over the connection of an event loop."""
        # In this order: where the record says that its task has ended, the result is that of the end.
        commands: list[tuple[str, str]] = []
        for task_id in task_ids:
            commands += [("HGETALL", self._keys.task(task_id)), ("GET", self._keys.result(task_id))]
        answers = await line.execute_all(commands)
        return [
            _read(task_id, dict(zip(flat[::2], flat[1::2], strict=True)), stored)
            for task_id, flat, stored in zip(task_ids, answers[::2], answers[1::2], strict=True)
        ]

    async def require_by(self, line: Line, task_id: str) -> TaskRecord:
        """Do as `require` does, over the connection of an event loop."""
        return _known(task_id, (await self.get_by(line, [task_id]))[0])

    def state(self, task_id: str) -> TaskState | None:
        """Read only the state."""
        state = cast("str | None", self._client.hget(self._keys.task(task_id), "state"))
        return TaskState(state) if state else None

    def begin(
        self, task_id: str, delivery: Delivery | None, *, retries: int, worker: str, started: StoredResult | None
    ) -> str:
        """Record the start of a task, unless there is a reason not to run it.

        Args:
            task_id: the task.
            delivery: the lease that it runs under; None where its message is acknowledged early.
            retries: how often it has been tried before.
            worker: who runs it.
            started: what `AsyncResult` finds while it runs; None for a task whose results are ignored.

        Returns:
            `run`; or why not, as `begin.lua` says.
        """
        queue, tag = (delivery.queue, delivery.tag) if delivery else ("", "")
        text, expires = (started.text, started.expires_seconds) if started else ("", None)
        return str(
            self._caller.call(
                self._begin,
                [],
                [
                    self._keys.prefix,
                    task_id,
                    queue,
                    tag,
                    retries,
                    now_iso(),
                    worker,
                    self._unfinished_expires_seconds,
                    text,
                    expires or self._unfinished_expires_seconds,
                ],
            )
        )

    def store(
        self,
        task_id: str,
        state: str,
        *,
        delivery: Delivery | None = None,
        worker: str | None = None,
        retries: int = 0,
        next_try: int | None = None,
        result: StoredResult | None = None,
        acknowledges: bool = False,
    ) -> str:
        """Record a change of state and store a result, both or neither.

        Args:
            task_id: the task.
            state: its new state; one of the task's own, set by `update_state`, has no place in the record.
            delivery: the lease that it ran under, which must still stand; None to check none.
            worker: the worker that reports it.
            retries: how often it has been tried again.
            next_try: the try that has been published in this one's place, whose message supersedes it; None for none.
            result: what `AsyncResult` is to find; None for a task whose results are ignored.
            acknowledges: end the delivery in the same step.

        Returns:
            `stored`; or why not, as `store.lua` says.
        """
        known = state in TaskState.__members__
        ready = known and TaskState(state).ready
        fields: list[str | int] = ["retries", retries]
        if worker:
            fields += ["worker", worker]
        if ready:
            fields += ["finished_at", now_iso()]
        if next_try is not None:
            fields += ["next_try", next_try]
        queue, tag = (delivery.queue, delivery.tag) if delivery else ("", "")
        text, expires = (result.text, result.expires_seconds) if result else ("", None)
        file, file_expires = "", ""
        if result and result.file:
            file, file_expires = result.file, "inf" if expires is None else str(expires + LINGER_SECONDS)
        return str(
            self._caller.call(
                self._store,
                [],
                [
                    self._keys.prefix,
                    task_id,
                    queue,
                    file,
                    file_expires,
                    tag,
                    state if known else "",
                    self._expires_seconds if ready else self._unfinished_expires_seconds,
                    text,
                    "" if expires is None else expires,
                    int(acknowledges and delivery is not None),
                    *fields,
                ],
            )
        )

    def revoke(self, task_id: str, result: StoredResult | None = None, *, if_waiting: bool = False) -> TaskState | None:
        """Cancel a task that has not ended: from now on it is `REVOKED` and no worker starts it.

        Args:
            task_id: the task.
            result: what `AsyncResult` is to find.
            if_waiting: leave one that runs alone; one of which nothing is known may still come, and is not started.

        Returns:
            The state before; None for an id that is not known.
        """
        state = self._revoke(args=self._revocation(task_id, result, if_waiting=if_waiting))
        return TaskState(cast("str", state)) if state else None

    async def revoke_all(
        self, line: Line, tasks: Iterable[tuple[TaskRecord, StoredResult]], *, if_waiting: bool
    ) -> list[TaskState | BaseException | None]:
        """Do as `revoke` does with many tasks in one go, over the connection of an event loop.

        Returns:
            For each what `revoke` returns, or the error in its place.
        """
        calls = [self._revocation(task.task_id, result, if_waiting=if_waiting) for task, result in tasks]
        answers = await line.call_all(self._revoke, [([], arguments) for arguments in calls])
        return [TaskState(answer) if isinstance(answer, str) else answer for answer in answers]

    def _revocation(self, task_id: str, result: StoredResult | None, *, if_waiting: bool) -> list[str | int]:
        text, expires = (result.text, result.expires_seconds) if result else ("", None)
        return [
            self._keys.prefix,
            task_id,
            self._unfinished_expires_seconds,
            now_iso(),
            int(if_waiting),
            self._expires_seconds,
            text,
            "" if expires is None else expires,
        ]


def _read(task_id: str, fields: Mapping[str, str], stored: str | None) -> TaskRecord | None:
    if "state" not in fields:
        return None
    return parse(task_id, fields, read_stored(stored) if stored else {})


def _known(task_id: str, record: TaskRecord | None) -> TaskRecord:
    if record is None:
        raise NotFound("task", task_id, "it was never submitted here, or its record has expired")
    return record


def now_iso() -> str:
    """The time now, as records hold it."""
    return _iso(datetime.now(UTC))


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def script(*names: str) -> str:
    """The text of a Lua script and of those that it needs."""
    own = [files(__package__).joinpath(f"{name}.lua").read_text() for name in names]
    return "\n".join([scripts.source("event"), *own])
