"""What this process holds of one Redis, whichever channel it came by."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Literal

import structlog
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac.broker.connection import Endpoint
from celeriac.broker.keeper import Keeper
from celeriac.broker.keys import Keys
from celeriac.broker.leases import DeathPending, Delivery, Leases
from celeriac.broker.table import EntryState, LeaseTable

log = structlog.get_logger(__name__)

#: A command is answered in this time, seconds, or done by the keeper later.
_TIMEOUT_SECONDS = 5

#: After a broken or silent connection, whatever is returned within this time is left to the keeper at once, seconds:
#: each would be waited for as long as the first.
_AWAY_SECONDS = 1.0

_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)


class Holder:
    """Acknowledges and returns deliveries; what cannot be sent now is left to the keeper, who sends it later.

    Args:
        endpoint: where Redis is.
        keys: the names of keys.
    """

    #: The table that a supervising process reads, and the process that writes it; not its children.
    _supervised: ClassVar[tuple[LeaseTable, int] | None] = None
    _known: ClassVar[dict[tuple[int, str, Keys], Holder]] = {}
    _known_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, endpoint: Endpoint, keys: Keys) -> None:
        pool = endpoint.pool(socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=2)
        self.leases = Leases(Redis(connection_pool=pool), keys)
        self._has_supervisor = self._supervised is not None and self._supervised[1] == os.getpid()
        self.table = self._supervised[0] if self._supervised and self._has_supervisor else LeaseTable()
        #: Gather acknowledgements until `flush`, which the event loop calls at each turn.
        self.gathers = False
        self._endpoint = endpoint
        self._keys = keys
        self._gathered: list[int] = []
        self._keeper: Keeper | None = None
        self._away_until = 0.0
        self._lock = threading.Lock()

    @classmethod
    def of(cls, endpoint: Endpoint, keys: Keys) -> Holder:
        """The holder of this process; a forked child gets another, and renews nothing of its parent's."""
        identity = (os.getpid(), repr((endpoint.options, endpoint.sentinels, endpoint.master)), keys)
        with cls._known_lock:
            if identity not in cls._known:
                cls._known[identity] = cls(endpoint, keys)
            return cls._known[identity]

    @classmethod
    def supervise(cls, table: LeaseTable) -> None:
        """Note what this process holds in a table that its supervisor reads, who renews it."""
        cls._supervised = (table, os.getpid())

    def keep(self) -> None:
        """Have leases renewed: by the supervising process where there is one, else by a thread of this one."""
        with self._lock:
            if not self._has_supervisor and self._keeper is None:
                self._keeper = Keeper(self._endpoint, self._keys, self.table)
                self._keeper.start()

    def acknowledge(self, tag: int) -> None:
        """Acknowledge a delivery."""
        self.table.mark(tag, EntryState.SENDING)
        with self._lock:
            self._gathered.append(tag)
        if not self.gathers:
            self.flush()

    def flush(self) -> None:
        """Send all acknowledgements that have gathered, in one round trip."""
        deliveries = self.take_gathered()
        if not deliveries:
            return
        try:
            refused = self.leases.acknowledge(deliveries)
        except (RedisError, OSError) as error:
            self.not_acknowledged(deliveries, error)
        else:
            self.acknowledged(deliveries, refused)

    def take_gathered(self) -> list[Delivery]:
        """The deliveries whose acknowledgements have gathered, for a caller who sends them."""
        with self._lock:
            tags, self._gathered = self._gathered, []
        return [delivery for tag in tags if (delivery := self.table.delivery(tag))]

    def acknowledged(self, deliveries: Sequence[Delivery], refused: Iterable[int]) -> None:
        """Note that acknowledgements have arrived, and which of them were refused."""
        self.table.drop(delivery.tag for delivery in deliveries)
        for tag in refused:
            log.warning("acknowledgement_refused", tag=tag, reason="its lease had ended, and it was given to another")

    def not_acknowledged(self, deliveries: Sequence[Delivery], error: BaseException) -> None:
        """Note that acknowledgements may not have arrived: the keeper sends them again."""
        log.warning("acknowledgements_postponed", deliveries=len(deliveries), error=str(error))
        for delivery in deliveries:
            self.table.mark(delivery.tag, EntryState.TO_ACKNOWLEDGE)

    def release(self, tags: Sequence[int], *, started: Literal["return", "leave"] = "return") -> None:
        """Return deliveries to the heads of their queues, one after the other; a started one may be left as it is."""
        later = EntryState.TO_RELEASE if started == "leave" else EntryState.TO_RETURN
        for tag in tags:
            self._settle(tag, lambda delivery: self.leases.release(delivery, started=started), later)

    def give_up(self, tag: int, error: str) -> None:
        """Return a delivery that may have been begun to the tail of its queue, or make it a dead letter."""
        self._settle(tag, lambda delivery: self.leases.give_up(delivery, error, side="tail"), EntryState.TO_GIVE_UP)

    def bury(self, tag: int, reason: str, error: str = "") -> None:
        """Make a delivery a dead letter."""
        self._settle(tag, lambda delivery: self.leases.bury(delivery, reason, error) or True, EntryState.TO_GIVE_UP)

    def postpone(self, tag: int, due_ms: int, waiting_id: str) -> bool:
        """Let a delivery wait until it is due; False where it is due already by Redis' clock, and stays held."""
        return self._settle(
            tag, lambda delivery: self.leases.postpone(delivery, due_ms, waiting_id), EntryState.TO_RETURN
        )

    def _settle(self, tag: int, settle: Callable[[Delivery], object], later: EntryState) -> bool:
        # `settle` gives False for what goes on being held.
        delivery = self.table.delivery(tag)
        if delivery is None:
            return True
        if time.monotonic() < self._away_until:
            self.table.mark(tag, later)
            return True
        try:
            while (settled := _settled(settle, delivery)) is None:
                pass  # its lease is renewed meanwhile
        except (RedisError, OSError) as error:
            if isinstance(error, _AWAY):
                self._away_until = time.monotonic() + _AWAY_SECONDS
            log.warning("return_postponed", queue=delivery.queue, tag=tag, error=str(error))
            self.table.mark(tag, later)
            return True
        if settled:
            self.table.drop([tag])
        return settled


def _settled(settle: Callable[[Delivery], object], delivery: Delivery) -> bool | None:
    try:
        return settle(delivery) is not False
    except DeathPending:
        return None
