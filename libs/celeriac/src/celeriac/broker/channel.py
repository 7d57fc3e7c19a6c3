"""A channel that claims messages by script and leases them.

In place of BRPOP, which pops a message that nobody has noted yet, it claims up to its free prefetch in one round trip.
While its queues are empty it blocks on their lists of wake-up tokens, of which none matters, and the next claim stands
behind that in the same packet: Redis makes it as soon as a token comes. What it delivers is in the
hands of the process' `Holder`, and does not depend on the channel any more.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from queue import Empty
from typing import Any

import structlog
from kombu.asynchronous import get_event_loop
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from celeriac.broker import messages
from celeriac.broker.connection import Endpoint
from celeriac.broker.holder import Holder
from celeriac.broker.keys import MAX_PRIORITY, Keys
from celeriac.broker.leases import LEASE_SECONDS, Delivery, Leases
from celeriac.broker.publication import Publication, PublishingChannel
from celeriac.broker.purge import Purge
from celeriac.broker.qos import QoS

log = structlog.get_logger(__name__)

#: How many messages a consumer without a prefetch limit claims at a time.
_UNLIMITED_CLAIM = 16

#: A channel that finds its queues empty looks again after so long, for publishers that leave no token, seconds.
WAIT_SECONDS = 0.5

#: A claim whose answer was read later than this is returned, seconds: its leases may have ended.
_STALE_SECONDS = LEASE_SECONDS / 2

#: A channel that is closed waits so long for the answer to its claim, seconds.
_CLOSE_SECONDS = 1.0

Raw = dict[str, Any]


class _UndecodableError(Exception):
    """The body of a message cannot be decoded."""


class Message(virtual.Message):
    """A message, which says so if its body cannot be decoded."""

    def __init__(self, payload: Raw, channel: Any = None, **options: Any) -> None:  # noqa: ANN401 - kombu's signature
        try:
            super().__init__(payload, channel=channel, **options)
        except Exception as error:  # each decoder has its own
            raise _UndecodableError(repr(error)) from error


class Channel(PublishingChannel, kombu_redis.Channel):
    """A channel that claims messages and leases them."""

    QoS = QoS
    Message = Message
    priority_steps = list(range(MAX_PRIORITY + 1))  # noqa: RUF012 - kombu's own way
    socket_timeout = 5
    socket_connect_timeout = 2
    socket_keepalive = True
    #: What stands between queue and priority.
    sep = ":"
    #: Whether the task's start is marked by the result backend; where it is not, each delivery counts as a start.
    marks_starts = False
    #: How long records and results are kept of tasks that `celery purge` cancels, seconds.
    ended_expires_seconds = 3600
    #: Called at each turn of the loop.
    on_turn: Callable[[], None] | None = None
    #: Gives how many messages may be claimed now; None for as many as the prefetch limit allows.
    claim_limit: Callable[[], int | None] | None = None
    from_transport_options = (
        *kombu_redis.Channel.from_transport_options,
        "marks_starts",
        "ended_expires_seconds",
    )

    def __init__(self, connection: Any, **options: Any) -> None:  # noqa: ANN401 - kombu's signature
        self._no_ack: set[str] = set()
        self._claiming: list[str] = []
        self._claim_sent_at = 0.0
        #: Whether a wait for a token stands before the claim that is under way.
        self._waiting = False
        self._registered_queues: set[str] = set()
        #: What is acknowledged in the same packet as the claim that is under way.
        self._acknowledging: list[Delivery] = []
        self._endpoint = Endpoint.parse(_redis_url(connection.client))
        super().__init__(connection, **options)
        keys = Keys(self.global_keyprefix)
        self._leases = Leases(Redis(connection_pool=self.pool), keys)

    @cached_property
    def holder(self) -> Holder:
        """What this process holds, and how it ends."""
        return Holder.of(self._endpoint, self._leases.keys)

    # Connections

    def _get_pool(self, asynchronous: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=self._endpoint.database)
        given = {
            "socket_timeout": self.socket_timeout,
            "socket_connect_timeout": self.socket_connect_timeout,
            "health_check_interval": self.health_check_interval,
            "client_name": self.client_name,
        }
        if "path" not in self._endpoint.options:
            given |= {"socket_keepalive": self.socket_keepalive}
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if not asynchronous:
            return self._endpoint.pool(max_connections=self.max_connections, **options)
        channel = self

        class Connection(self._endpoint.connection_class):  # type: ignore[name-defined]
            def disconnect(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
                super().disconnect(*args, **kwargs)
                if channel._registered:
                    channel._on_connection_disconnect(self)

        return self._endpoint.pool(Connection, **options)

    # Publishing

    @property
    def supports_batch_publish(self) -> bool:
        """Never: a message and what belongs to it are published in one script."""
        return False

    def publish(self, publication: Publication) -> None:
        """Publish a message."""
        self._leases.publish(publication)
        queue = publication.queue
        if queue in self._expires:
            with self.conn_or_acquire() as client, client.pipeline() as pipe:
                for priority in self.priority_steps:
                    pipe.pexpire(self._q_for_pri(queue, priority), self._expires[queue])
                pipe.execute()

    def _q_for_pri(self, queue: str, pri: int) -> str:
        return Keys().ready(queue, pri)

    def _purge(self, queue: str) -> int:
        purge = Purge(
            Redis(connection_pool=self.pool),
            Keys(self.global_keyprefix),
            expires_seconds=int(self.ended_expires_seconds),
        )
        return purge(queue)

    # Consuming

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, FBT001
        """Consume a queue; with acknowledgements, its messages are leased from now on."""
        tag = super().basic_consume(queue, no_ack, *args, **kwargs)
        if queue in self.active_fanout_queues:
            return tag
        if no_ack:
            self._no_ack.add(queue)
        else:
            self._no_ack.discard(queue)
            self._leases.register([queue])
            self.holder.keep()
        return tag

    def bury(self, delivery_tag: str, reason: str, error: str = "") -> None:
        """Make a delivered message a dead letter."""
        self.holder.bury(int(delivery_tag), reason, error)
        virtual.QoS.ack(self.qos, delivery_tag)
        self.credit_changed()

    def forget(self, message: Any) -> None:  # noqa: ANN401 - kombu.Message
        """Forget a message that another process of this worker has acknowledged."""
        self.holder.table.drop([int(message.delivery_tag)])
        virtual.QoS.ack(self.qos, message.delivery_tag)
        message._state = "ACK"  # noqa: SLF001 - so that kombu does not acknowledge it again
        self.credit_changed()

    def return_waiting(self, delivery_tags: Sequence[str]) -> None:
        """Return delivered messages that have not begun to the head of their queues, in their order."""
        self.holder.release([int(tag) for tag in reversed(delivery_tags)], started="leave")
        for tag in delivery_tags:
            virtual.QoS.ack(self.qos, tag)

    def credit_changed(self) -> None:
        """Look at the credit again, if the consuming thread waits for events in the meantime."""
        if self.connection is not None and self.connection.cycle is not None:
            self.connection.cycle.wake()
        loop = get_event_loop()
        if loop is not None and threading.current_thread() is not threading.main_thread():
            loop.call_soon(_nothing)  # a task of the pool `threads` ends in a thread of its own

    @property
    def _credit(self) -> int:
        if "can_consume" in vars(self.qos):
            return 1  # replaced for `worker_disable_prefetch`: it counts slots, and knows only yes or no
        estimate = self.qos.can_consume_max_estimate()
        limit = self.claim_limit() if self.claim_limit is not None else None
        allowed = _UNLIMITED_CLAIM if estimate is None else estimate
        return min(allowed if limit is None else min(allowed, limit), self.holder.table.room)

    def _brpop_start(self, timeout: float | None = None) -> None:  # noqa: ARG002 - kombu's signature
        if self._may_claim():
            self._send_claim()

    def _may_claim(self) -> bool:
        # Afresh for each claim: queues of replies come and go.
        self._claiming = list(self._queue_cycle.consume(len(self.active_queues)))
        ready = bool(self._claiming) and not self.holder.table.stopping and self._credit > 0
        self._in_poll = self.client.connection if ready else None
        return ready

    def _claim(self, *, whole: bool = False) -> list[str | int]:
        self._claim_sent_at = self._brpop_sent_at = time.monotonic()
        return self._leases.claim_command(
            self._claiming, self._credit, no_ack=self._no_ack, marks_starts=self.marks_starts, whole=whole
        )

    def _send_claim(self, *, whole: bool = False) -> None:
        claim, self._waiting = self._claim(whole=whole), False
        connection = self.client.connection
        self._give_up_acknowledging("its connection was lost")
        self._acknowledging = self.holder.take_gathered()
        if not self._acknowledging:
            connection.send_command(*claim)
            return
        acknowledge = self._leases.acknowledge_command(self._acknowledging)
        connection.send_packed_command(connection.pack_commands([acknowledge, claim]))

    def _read_acknowledged(self) -> None:
        if not self._acknowledging:
            return
        try:
            refused = self._read()
        except NoScriptError:
            refused = self._leases.acknowledge(self._acknowledging)
        deliveries, self._acknowledging = self._acknowledging, []
        self.holder.acknowledged(deliveries, (int(tag) for tag in refused))

    def _give_up_acknowledging(self, error: str) -> None:
        if self._acknowledging:
            self.holder.not_acknowledged(self._acknowledging, ConnectionError(error))
            self._acknowledging = []

    def _send_wait(self) -> None:
        # Acknowledgements do not go along: they would wait, too.
        keys = [self._leases.keys.wake(queue) for queue in self._claiming]
        connection = self.client.connection
        self._waiting = True
        connection.send_packed_command(connection.pack_commands([("BRPOP", *keys, WAIT_SECONDS), self._claim()]))

    def _read_claimed(self) -> Any:  # noqa: ANN401 - what `claim.lua` returns
        if self._waiting:
            self._read()
            self._waiting = False
        return self._read()

    def _brpop_read(self, **_options: Any) -> bool:  # noqa: ANN401 - kombu's signature
        sent_at = self._claim_sent_at
        try:
            self._read_acknowledged()
            answer = self._read_claimed()
        except NoScriptError:
            self._send_claim(whole=True)
            raise Empty from None
        except BaseException as error:
            self._in_poll = None
            self._waiting = False
            self._give_up_acknowledging(str(error))
            # No answer is left over, to be taken for that of the next command.
            self.client.connection.disconnect()
            raise
        self.holder.table.answered(len(answer))
        if not answer:
            # It waits with the queues and the credit of now.
            if not self._closing and self._may_claim():
                self._send_wait()
            else:
                self._in_poll = None
            raise Empty
        self._in_poll = None
        self._deliver(answer, time.monotonic() - sent_at)
        return True

    def _read(self) -> Any:  # noqa: ANN401 - an answer of Redis
        connection = self.client.connection
        try:
            return connection.read_response()
        except self.connection_errors:
            connection.disconnect()
            raise

    def _poll_error(self, type: str, **options: Any) -> None:  # noqa: A002, ANN401 - kombu's signature
        if type == "LISTEN":
            super()._poll_error(type, **options)
        else:
            self._read()

    def _deliver(self, answer: list[Any], seconds: float) -> None:
        names = self._claiming
        items = [
            (names[number - 1], int(tag), bool(revoked), raw)
            for number, tag, revoked, raw in zip(answer[::4], answer[1::4], answer[2::4], answer[3::4], strict=True)
        ]
        leased = [Delivery(queue, tag) for queue, tag, _, _ in items if queue not in self._no_ack]
        self.holder.table.hold(leased)
        for queue in dict.fromkeys(queue for queue, *_ in items):
            self._queue_cycle.rotate(queue)
        if self.holder.table.stopping or seconds > _STALE_SECONDS:
            log.info("claim_returned", deliveries=len(leased), claim_seconds=round(seconds, 3))
            self.holder.release([delivery.tag for delivery in reversed(leased)])
            return
        delivered = 0
        try:
            for queue, tag, revoked, raw in items:
                delivered += 1
                self._deliver_one(queue, tag, raw, revoked=revoked)
        finally:
            left = [tag for queue, tag, _, _ in items[delivered:] if queue not in self._no_ack]
            self.holder.release(list(reversed(left)))

    def _deliver_one(self, queue: str, tag: int, raw: bytes, *, revoked: bool) -> None:
        message = messages.parse(raw)
        if message is None:
            self.holder.bury(tag, "it is no message", repr(raw[:200]))
            return
        headers, properties = message["headers"], message["properties"]
        properties["delivery_tag"] = str(tag)
        properties[messages.QUEUE_PROPERTY] = queue
        if messages.delivery_count(message):
            properties["delivery_info"]["redelivered"] = True
        if (due := messages.due_ms(headers)) is not None and queue not in self._no_ack:
            # A second for clocks that differ: who published it knew no delays.
            early = due / 1000 > time.time() + 1
            if early and self.holder.postpone(tag, due, messages.waiting_id(message)):
                return
            headers[messages.ETA_HEADER], headers["eta"] = headers["eta"], None
        if revoked:
            _revoked_here(headers["id"])
        try:
            self.connection._deliver(message, queue)  # noqa: SLF001 - kombu's own way
        except _UndecodableError as error:
            log.warning("message_not_understood", queue=queue, error=str(error))
            self.holder.bury(tag, "its body cannot be decoded", str(error))

    def basic_get(self, queue: str, no_ack: bool = False, **options: Any) -> Any:  # noqa: ANN401, FBT001, FBT002
        """Get one message; None if there is none."""
        message = super().basic_get(queue, no_ack=no_ack, **options)
        if message is not None and no_ack:
            self.holder.acknowledge(int(str(message.delivery_tag)))
            self.holder.flush()
        return message

    def _get(self, queue: str) -> Raw:
        if queue not in self._registered_queues:
            self._leases.register([queue])
            self._registered_queues.add(queue)
        no_ack = [queue] if queue in self._no_ack else []
        answer = self._leases.claim([queue], 1, no_ack=no_ack, marks_starts=self.marks_starts)
        if not answer:
            raise Empty
        _, tag, _, raw = answer
        if not no_ack:
            self.holder.table.hold([Delivery(queue, int(tag))])
            self.holder.keep()
        message = messages.parse(raw)
        if message is None:
            self.holder.bury(int(tag), "it is no message", repr(raw[:200]))
            raise Empty
        message["properties"] |= {"delivery_tag": str(int(tag)), messages.QUEUE_PROPERTY: queue}
        return message

    def close(self) -> None:
        """Close the channel; what was claimed and not delivered, or waits in this worker, is returned."""
        if self._in_poll and self.client.connection is not None:
            self._drain_claim()
        self._give_up_acknowledging("the channel was closed")
        if "holder" in vars(self):
            self.holder.flush()
        super().close()

    def _drain_claim(self) -> None:
        self._closing = True
        try:
            sock = self.client.connection._sock  # noqa: SLF001 - redis-py offers no other way
            if sock is not None:
                sock.settimeout(_CLOSE_SECONDS)
                self._read_acknowledged()
                answer = self._read_claimed()
                leased = zip(answer[::4], answer[1::4], strict=False)
                deliveries = [Delivery(self._claiming[number - 1], int(tag)) for number, tag in leased]
                kept = [delivery for delivery in deliveries if delivery.queue not in self._no_ack]
                self.holder.table.hold(kept)
                self.holder.release([delivery.tag for delivery in reversed(kept)])
        except (RedisError, OSError) as error:
            log.info("claim_abandoned", error=str(error))  # its leases end by themselves
        finally:
            self._in_poll = None
            self._waiting = False
            self._give_up_acknowledging("the channel was closed")


def _nothing() -> None:
    """What ends an event loop's wait."""


def _redis_url(client: Any) -> str:  # noqa: ANN401 - kombu.Connection
    """The Redis URL in a broker URL, `celeriac+redis://…`; `celeriac://` is short for it."""
    if "://" in (client.hostname or ""):
        return str(client.hostname)
    return str(client.as_uri(include_password=True)).replace("celeriac://", "redis://", 1)


def _revoked_here(task_id: str) -> None:
    state = sys.modules.get("celery.worker.state")
    if state is not None:
        state.revoked.add(task_id)
