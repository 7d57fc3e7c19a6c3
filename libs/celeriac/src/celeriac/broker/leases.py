"""What a process does with leases: each operation is one script, and safe to race with any other."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from redis import Redis
from redis.client import NEVER_DECODE
from redis.commands.core import Script

from celeriac.broker import messages, scripts
from celeriac.broker.caller import Caller
from celeriac.broker.keys import Keys
from celeriac.broker.publication import Publication
from celeriac.workload import MAX_DELIVERIES

#: How long a message stays with a worker that has stopped renewing, seconds.
LEASE_SECONDS = 5.0

#: How often queues are looked at; what is due earlier wakes one of those who look.
TEND_SECONDS = 0.5

#: How many dead letters a queue keeps; the oldest go first.
DEAD_LETTERS_KEPT = 10_000

#: What `give_back.lua` answers for a delivery that was started and is left.
_LEFT = -2

#: What `postpone.lua` answers for a delivery that is due already.
_DUE = 2

#: Messages moved, and ended leases looked at, in one go for each queue.
_TEND_LIMIT = 100


@dataclass(frozen=True)
class Delivery:
    """A message that is leased: its queue, and the tag that is its fencing token."""

    queue: str
    tag: int

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> Delivery | None:
        """The delivery of a message by its properties; None where it came without a lease, as by another transport."""
        queue, tag = properties.get(messages.QUEUE_PROPERTY), str(properties.get("delivery_tag"))
        return cls(queue, int(tag)) if isinstance(queue, str) and tag.isdigit() else None


@dataclass(frozen=True)
class Tended:
    """What a look at all queues has shown."""

    #: Until the next message is due, seconds; None where none waits, or others come for it.
    next_due_seconds: float | None
    #: Deliveries whose lease has ended, with its end, ms.
    ended: Mapping[Delivery, str]


class DeathPending(Exception):
    """The listener has not done yet what a death asks for; it is to be told again."""


@dataclass(frozen=True)
class DeathNotice:
    """A delivery that is about to become a dead letter."""

    delivery: Delivery
    #: The message as Python; None where it is no message.
    message: dict[str, Any] | None
    reason: str
    error: str


def _tell_nobody(_notice: DeathNotice) -> None:
    return


@dataclass
class DeathPolicy:
    """When a message is given up, and who is told before it is.

    The listener is told first: should the process die in between, it is told again, and never too little. One that
    raises `DeathPending` is told again soon, and the message stays where it is until then.
    """

    #: Deliveries, by queue; `MAX_DELIVERIES` for others.
    limits: Mapping[str, int] = field(default_factory=dict)
    listener: Callable[[DeathNotice], None] = _tell_nobody

    def limit(self, queue: str) -> int:
        """Deliveries that are started before a message of a queue is given up."""
        return self.limits.get(queue, MAX_DELIVERIES)


#: Of this process; the platform sets it.
POLICY = DeathPolicy()


class Leases:
    """The scripts on one Redis.

    Args:
        client: a client of it; it may decode responses or not.
        keys: the names of keys.
        clock: see `scripts.source`; for tests.
    """

    def __init__(self, client: Redis, keys: Keys, clock: str | None = None) -> None:
        self.client = client
        self._caller = Caller(client)
        self.keys = keys
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        #: Who looks at the queues: several may in one process.
        self._looker = secrets.token_hex(8)
        self._clock = clock
        self._acknowledge = self._script("acknowledge")
        self._bury = self._script("bury")
        self._claim = self._script("claim")
        self._give_back = self._script("give_back")
        self._postpone = self._script("postpone")
        self._publish = self._script("publish")
        self._renew = self._script("renew")
        self._take_over = self._script("take_over")
        self._tend = self._script("tend")

    def _script(self, name: str) -> Script:
        return self.client.register_script(scripts.source(name, self._clock))

    def publish(self, publication: Publication) -> None:
        """Add a message to a queue, or to what waits until it is due."""
        self._caller.call(self._publish, [], publication.arguments(self.keys.prefix))

    def claim(
        self, queues: Sequence[str], count: int, *, no_ack: Iterable[str] = (), marks_starts: bool = True
    ) -> list[Any]:
        """Claim messages; see `claim_command` for what comes back."""
        keys, args = self._claim_parts(queues, count, no_ack, marks_starts=marks_starts)
        return cast("list[Any]", self._claim(keys=keys, args=args))

    def claim_command(
        self, queues: Sequence[str], count: int, *, no_ack: Iterable[str], marks_starts: bool, whole: bool
    ) -> list[str | int]:
        """The command that claims messages, for a connection that does not wait for its answer.

        The answer is a flat list: for each message the number of its queue from 1, its delivery tag, whether its task
        is revoked, and the raw message.

        Args:
            queues: where to claim from; they share what they have of the same priority.
            count: how many messages at most.
            no_ack: those queues whose messages need no acknowledgement.
            marks_starts: whether the result backend is told when a task starts.
            whole: send the script itself and not its digest, as after a restart of Redis.
        """
        keys, args = self._claim_parts(queues, count, no_ack, marks_starts=marks_starts)
        what = ["EVAL", str(self._claim.script)] if whole else ["EVALSHA", self._claim.sha]
        return [*what, len(keys), *keys, *args]

    def _claim_parts(
        self, queues: Sequence[str], count: int, no_ack: Iterable[str], *, marks_starts: bool
    ) -> tuple[list[str], list[str | int]]:
        modes = "".join("1" if queue in set(no_ack) else "0" for queue in queues)
        lease_ms = int(LEASE_SECONDS * 1000)
        args: list[str | int] = [self.keys.prefix, self.owner, lease_ms, count, modes, "0" if marks_starts else "1"]
        return [self.keys.ready(queue) for queue in queues], args

    def acknowledge(self, deliveries: Iterable[Delivery]) -> set[int]:
        """End deliveries in one round trip.

        Returns:
            The tags that had been given to somebody else meanwhile.
        """
        pairs = [part for delivery in deliveries for part in (delivery.queue, delivery.tag)]
        if not pairs:
            return set()
        return {int(tag) for tag in self._acknowledge(args=[self.keys.prefix, *pairs])}

    def acknowledge_command(self, deliveries: Iterable[Delivery]) -> list[str | int]:
        """The command of `acknowledge`, for a connection that does not wait for its answer."""
        pairs = [part for delivery in deliveries for part in (delivery.queue, delivery.tag)]
        return ["EVALSHA", self._acknowledge.sha, 0, self.keys.prefix, *pairs]

    def renew(self, deliveries: Iterable[Delivery]) -> set[int]:
        """Renew leases in one round trip.

        Returns:
            The tags that had been given to somebody else meanwhile.
        """
        groups: dict[str, list[int]] = {}
        for delivery in deliveries:
            groups.setdefault(delivery.queue, []).append(delivery.tag)
        if not groups:
            return set()
        args: list[str | int] = [self.keys.prefix, int(LEASE_SECONDS * 1000)]
        for queue, tags in groups.items():
            args += [queue, len(tags), *tags]
        return {int(tag) for tag in self._renew(args=args)}

    def tend(self) -> Tended:
        """Move what is due to its queues, and look for leases that have ended."""
        again_ms = int(TEND_SECONDS * 1000)
        next_due, *rest = self._tend(args=[self.keys.prefix, _TEND_LIMIT, self._looker, again_ms])
        triples = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        ended = {Delivery(_text(queue), int(tag)): _text(end) for queue, tag, end in triples}
        return Tended(None if next_due < 0 else next_due / 1000, ended)

    def release(self, delivery: Delivery, *, started: Literal["return", "leave"] = "return") -> bool:
        """Return a delivery to the head of its queue, and do not count it.

        Args:
            delivery: the delivery.
            started: what to do if its task was started.

        Returns:
            False where it was left.
        """
        return self._return(delivery, side="head", end="", started=started) != _LEFT

    def give_up(self, delivery: Delivery, error: str, *, ended: str = "", side: str = "head") -> str | None:
        """Return a delivery that may have been begun; beyond its queue's limit it becomes a dead letter.

        Args:
            delivery: the delivery.
            error: why it comes back.
            ended: the end of its lease, ms, as `tend` has shown it: it is left alone if it was renewed since.
            side: `head` to be the next, `tail` to be the last.

        Returns:
            `returned` or `dead`; None where it is gone, or was renewed.

        Raises:
            DeathPending: it is to become a dead letter, but not yet.
        """
        if self._was_last(delivery):
            if ended and not self._is_taken_over(delivery, ended):
                return None  # all reapers have seen it; one tells of it
            reason = f"delivered {POLICY.limit(delivery.queue)} times without an end"
            return "dead" if self.bury(delivery, reason, error) else None
        return "returned" if self._return(delivery, side=side, end=ended, started="count") == 1 else None

    def bury(self, delivery: Delivery, reason: str, error: str = "") -> bool:
        """Move a delivery to the dead letters of its queue; False where it is gone.

        Raises:
            DeathPending: not yet.
        """
        raw = self.raw(delivery)
        if raw is None:
            return False
        POLICY.listener(DeathNotice(delivery, messages.parse(raw), reason, error))
        where: list[str | int] = [self.keys.prefix, delivery.queue, delivery.tag]
        return bool(self._bury(args=[*where, reason, error, DEAD_LETTERS_KEPT]) == 1)

    def postpone(self, delivery: Delivery, due_ms: int, waiting_id: str) -> bool:
        """Let a delivery wait until it is due; False where it is due already, and stays leased."""
        args: list[str | int] = [self.keys.prefix, delivery.queue, delivery.tag, due_ms, waiting_id]
        return int(self._postpone(args=args)) != _DUE

    def is_held(self, delivery: Delivery) -> bool:
        """Whether a lease still stands."""
        return self.client.zscore(self.keys.leases(delivery.queue), str(delivery.tag)) is not None

    def raw(self, delivery: Delivery) -> str | None:
        """The raw message of a delivery; None where it is gone."""
        # It may hold any bytes, which a client that decodes responses would stumble over.
        client: Any = self.client
        value = client.execute_command("HGET", self.keys.inflight, delivery.tag, **{NEVER_DECODE: True})
        return None if value is None else _text(value).split("\n", 2)[2]

    def register(self, queues: Iterable[str]) -> None:
        """Make queues known to those who tend them."""
        self.client.sadd(self.keys.queues, *queues)

    def _was_last(self, delivery: Delivery) -> bool:
        if not self.client.sismember(self.keys.started, str(delivery.tag)):
            return False
        raw = self.raw(delivery)
        message = messages.parse(raw) if raw is not None else None
        return message is not None and messages.delivery_count(message) + 1 >= POLICY.limit(delivery.queue)

    def _is_taken_over(self, delivery: Delivery, ended: str) -> bool:
        args: list[str | int] = [self.keys.prefix, delivery.queue, delivery.tag, ended, int(LEASE_SECONDS * 1000)]
        return bool(self._take_over(args=args) == 1)

    def _return(self, delivery: Delivery, *, side: str, end: str, started: str) -> int:
        args: list[str | int] = [self.keys.prefix, delivery.queue, delivery.tag, side, end, started]
        return int(self._give_back(args=args))


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
