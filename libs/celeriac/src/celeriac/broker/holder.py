"""What this process holds of one Redis, whichever channel it came by."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import ClassVar

import structlog
from redis import Redis
from redis.exceptions import RedisError

from celeriac.broker.connection import Endpoint
from celeriac.broker.keeper import Keeper
from celeriac.broker.keys import Keys
from celeriac.broker.leases import Delivery, Leases
from celeriac.broker.table import EntryState, LeaseTable

log = structlog.get_logger(__name__)

#: A command is answered in this time, seconds, or done by the keeper later.
_TIMEOUT_SECONDS = 5


class Holder:
    """Acknowledges and returns deliveries; what cannot be sent now is left to the keeper, who sends it later.

    Args:
        endpoint: where Redis is.
        keys: the names of keys.
    """

    #: Set by a supervising process before it forks: its keeper reads this table.
    supervised: ClassVar[LeaseTable | None] = None

    _known: ClassVar[dict[tuple[int, str, Keys], Holder]] = {}
    _known_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, endpoint: Endpoint, keys: Keys) -> None:
        pool = endpoint.pool(socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=2)
        self.leases = Leases(Redis(connection_pool=pool), keys)
        self.table = self.supervised or LeaseTable()
        #: Gather acknowledgements until `flush`, which the event loop calls at each turn.
        self.gathers = False
        self._endpoint = endpoint
        self._keys = keys
        self._gathered: list[int] = []
        self._keeper: Keeper | None = None
        self._lock = threading.Lock()

    @classmethod
    def of(cls, endpoint: Endpoint, keys: Keys) -> Holder:
        """The holder of this process; a forked child gets another, and renews nothing of its parent's."""
        identity = (os.getpid(), repr((endpoint.options, endpoint.sentinels, endpoint.master)), keys)
        with cls._known_lock:
            if identity not in cls._known:
                cls._known[identity] = cls(endpoint, keys)
            return cls._known[identity]

    def keep(self) -> None:
        """Have leases renewed: by the supervising process where there is one, else by a thread of this one."""
        with self._lock:
            if self.supervised is None and self._keeper is None:
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
        with self._lock:
            tags, self._gathered = self._gathered, []
        deliveries = [delivery for tag in tags if (delivery := self.table.delivery(tag))]
        if not deliveries:
            return
        try:
            refused = self.leases.acknowledge(deliveries)
        except (RedisError, OSError) as error:
            log.warning("acknowledgements_postponed", deliveries=len(deliveries), error=str(error))
            for delivery in deliveries:
                self.table.mark(delivery.tag, EntryState.TO_ACKNOWLEDGE)
            return
        self.table.drop(tags)
        for tag in refused:
            log.warning("acknowledgement_refused", tag=tag, reason="its lease had ended, and it was given to another")

    def release(self, tags: Sequence[int]) -> None:
        """Return deliveries that were not begun to the head of their queues, one after the other."""
        for tag in tags:
            self._settle(tag, self.leases.release)

    def give_up(self, tag: int, error: str) -> None:
        """Return a delivery that may have been begun to the tail of its queue, or make it a dead letter."""
        self._settle(tag, lambda delivery: self.leases.give_up(delivery, error, side="tail"))

    def bury(self, tag: int, reason: str, error: str = "") -> None:
        """Make a delivery a dead letter."""
        self._settle(tag, lambda delivery: self.leases.bury(delivery, reason, error))

    def postpone(self, tag: int, due_ms: int, waiting_id: str) -> None:
        """Let a delivery wait until it is due."""
        self._settle(tag, lambda delivery: self.leases.postpone(delivery, due_ms, waiting_id))

    def _settle(self, tag: int, settle: Callable[[Delivery], object]) -> None:
        delivery = self.table.delivery(tag)
        if delivery is None:
            return
        try:
            settle(delivery)
        except (RedisError, OSError) as error:
            log.warning("return_postponed", queue=delivery.queue, tag=tag, error=str(error))
            self.table.mark(tag, EntryState.TO_RELEASE)
            return
        self.table.drop([tag])
