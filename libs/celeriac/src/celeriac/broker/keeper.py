"""Keeps leases: renews what its worker holds, returns what nobody renews, moves what is due.

It runs in every worker, API and Beat, so that a queue without workers is tended, too. In a worker it runs in a process
of its own, beside the one that works: a thread beside a task that holds the interpreter's lock would starve.

A message of a killed worker is back in its queue after at most `LEASE_SECONDS + TEND_SECONDS + GRACE_SECONDS`, 7 s. A
lease is judged only by what one unbroken connection has shown: while Redis is away nobody can renew, and nobody is
judged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from celeriac.broker.connection import Endpoint
from celeriac.broker.eviction import eviction_problem
from celeriac.broker.keys import Keys
from celeriac.broker.leases import LEASE_SECONDS, TEND_SECONDS, DeathPending, Delivery, Leases
from celeriac.broker.table import Entry, EntryState, LeaseTable

log = structlog.get_logger(__name__)

#: How often leases are renewed.
RENEW_SECONDS = 1.0

#: How long a lease must have been seen ended, and unchanged, before its message is returned.
GRACE_SECONDS = 1.5

#: A keeper's commands are answered in this time, or its connection counts as broken.
TIMEOUT_SECONDS = 1.0

#: How often the chore is done; and how soon again where there is more to do.
CHORE_SECONDS = 1.0
_MORE_SECONDS = 0.05

#: Wait so long before Redis is tried again.
_RETRY_SECONDS = 0.2


class Keeper(threading.Thread):
    """A thread that keeps leases until it is told to stop, or the process ends.

    Args:
        endpoint: where Redis is.
        keys: the names of keys.
        table: what the worker holds; None where there is no worker.
        on_expired: told the queue of each lease that has ended and whose message was returned or given up.
        chore: something short to do in Redis every second; it says whether there is more.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        keys: Keys,
        table: LeaseTable | None = None,
        on_expired: Callable[[str], None] = lambda _queue: None,
        chore: Callable[[Redis], bool] | None = None,
    ) -> None:
        super().__init__(name="keeper", daemon=True)
        self._endpoint = endpoint
        self._keys = keys
        self._table = table
        self._on_expired = on_expired
        self._chore = chore
        self._chore_at = 0.0
        self._stopping = threading.Event()
        self._pool = endpoint.pool()
        self._leases: Leases | None = None
        #: A connection that waits for tokens.
        self._waiter: Any = None
        self._away = False
        #: From when on leases may be judged.
        self._judges_from = 0.0
        self._suspects: dict[Delivery, tuple[str, float]] = {}
        self._lost: set[int] = set()
        self._told: set[int] = set()

    def stop(self) -> None:
        """End the thread soon."""
        self._stopping.set()

    def run(self) -> None:
        """Keep leases."""
        renew_at = tend_at = time.monotonic()
        while not self._stopping.is_set():
            try:
                leases = self._leases or self._connect()
                now = time.monotonic()
                if now >= renew_at:
                    renew_at = now + RENEW_SECONDS
                    self._renew(leases)
                now = time.monotonic()
                if now >= tend_at:
                    next_due = self._tend(leases)
                    self._note_connected()
                    tend_at = now + (TEND_SECONDS if next_due is None else min(TEND_SECONDS, next_due))
                if time.monotonic() >= self._chore_at:
                    more = self._do_chore(leases)
                    self._chore_at = time.monotonic() + (_MORE_SECONDS if more else CHORE_SECONDS)
                    if more:
                        tend_at = min(tend_at, self._chore_at)
                wait = min(renew_at, tend_at) - time.monotonic()
                if wait > 0 and self._is_woken(wait):
                    tend_at = 0.0
            except (RedisError, OSError) as error:
                self._broken(error)
            except Exception as error:
                # A keeper that ended would lose every lease of its worker.
                log.exception("keeper_failed")
                self._broken(error)
        self._close_waiter()

    def _do_chore(self, leases: Leases) -> bool:
        try:
            return self._chore is not None and self._chore(leases.client)
        except ResponseError as error:  # it is no reason to keep leases no more
            log.warning("chore_failed", error=str(error))
            return False

    def _renew(self, leases: Leases) -> None:
        if self._table is None:
            return
        began = time.monotonic()
        entries = self._table.entries()
        lost = leases.renew(entry.delivery for entry in entries)
        self._table.renewed(began)
        for entry in entries:
            # Once may be a message that its task has just acknowledged; a second time it is gone.
            if entry.delivery.tag in lost & self._lost - self._told and entry.state is EntryState.HELD:
                log.warning("lease_lost", queue=entry.delivery.queue, tag=entry.delivery.tag)
                self._told.add(entry.delivery.tag)
        self._told &= lost
        self._lost = lost
        for entry in _oldest_last(entries):
            if entry.state is EntryState.TO_ACKNOWLEDGE:
                _acknowledge(entry, leases)
                self._table.done(entry)
            elif entry.state is EntryState.TO_RETURN:
                leases.release(entry.delivery)
                self._table.done(entry)
            elif entry.state is EntryState.TO_RELEASE and leases.release(entry.delivery, started="leave"):
                self._table.done(entry)
            elif entry.state is EntryState.TO_GIVE_UP:
                try:
                    leases.give_up(entry.delivery, "rejected while Redis was away", side="tail")
                except DeathPending:
                    continue  # whoever is to be told is not done yet: again at the next renewal
                self._table.done(entry)

    def _tend(self, leases: Leases) -> float | None:
        tended = leases.tend()
        now = time.monotonic()
        if now < self._judges_from:
            self._suspects = {}
            return tended.next_due_seconds
        suspects = {}
        for delivery, end in tended.ended.items():
            known_end, since = self._suspects.get(delivery, (end, now))
            suspects[delivery] = (end, since if known_end == end else now)
        self._suspects = suspects
        # Each goes to the head of its queue, so the oldest goes last.
        for delivery, (end, since) in sorted(suspects.items(), key=lambda each: -each[0].tag):
            if time.monotonic() - now > TEND_SECONDS:
                break  # the leases of this worker are to be renewed in between
            if now - since >= GRACE_SECONDS:
                del suspects[delivery]
                self._reap(leases, delivery, end)
        return tended.next_due_seconds

    def _reap(self, leases: Leases, delivery: Delivery, end: str) -> None:
        try:
            outcome = leases.give_up(delivery, "its worker stopped renewing the lease", ended=end)
        except DeathPending:
            return  # it is seen again when this process has had it for a lease
        if outcome is not None:
            log.warning("lease_expired", queue=delivery.queue, tag=delivery.tag, outcome=outcome)
            self._on_expired(delivery.queue)

    def _connect(self) -> Leases:
        self._pool = self._endpoint.pool(
            socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS, health_check_interval=0
        )
        # One connection, for ever: a pool would replace a broken one without a word.
        client = Redis(connection_pool=self._pool, single_connection_client=True)
        young = client.info("server")["uptime_in_seconds"] <= LEASE_SECONDS
        # Behind Sentinels a server that has been up for long may be the primary only since an instant.
        waits = self._away or young or bool(self._endpoint.sentinels)
        self._judges_from = time.monotonic() + (LEASE_SECONDS if waits else 0.0)
        self._leases = Leases(client, self._keys)
        if problem := eviction_problem(client):
            log.error("eviction_may_lose_messages", problem=problem)
        return self._leases

    def _note_connected(self) -> None:
        # Not before a look: a Redis that refuses writes answers, and would be told of with each attempt.
        if self._away:
            self._away = False
            log.info("keeper_connected")

    def _is_woken(self, seconds: float) -> bool:
        """Wait for a token, which says that something is due earlier than all before.

        The command that waits stays open: the server ends its wait up to 100 ms late (Redis 6.2), and is told no time.
        """
        if self._waiter is None:
            self._waiter = self._pool.get_connection()
            self._waiter.send_command("BRPOP", self._keys.wake_mover, 0)
        if not self._waiter.can_read(timeout=seconds):
            return False
        self._waiter.read_response()
        self._waiter.send_command("BRPOP", self._keys.wake_mover, 0)
        return True

    def _close_waiter(self) -> None:
        # One that nobody reads any more would swallow tokens.
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.disconnect()

    def _broken(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            log.warning("keeper_disconnected", error=str(error))
        self._leases = None
        self._close_waiter()
        self._suspects = {}
        self._stopping.wait(_RETRY_SECONDS)


def finish(table: LeaseTable, leases: Leases, error: str | None) -> None:
    """Do what a worker that is no more has left: acknowledge what had ended, return everything else at once.

    Args:
        table: what it held.
        leases: the scripts.
        error: what has become of the worker, which what it ran may be the cause of; None where it was told to stop, so
            that no task is given up for having outlasted several of its workers.

    Raises:
        RedisError: Redis is away; what is left comes back when its leases have ended.
    """
    for entry in _oldest_last(table.entries()):
        if entry.state in {EntryState.SENDING, EntryState.TO_ACKNOWLEDGE}:
            _acknowledge(entry, leases)
        else:
            try:
                outcome = leases.release(entry.delivery) if error is None else leases.give_up(entry.delivery, error)
            except DeathPending:
                outcome = "pending"  # it is a reaper's when its lease has ended
            log.info("delivery_returned", queue=entry.delivery.queue, tag=entry.delivery.tag, outcome=outcome)
        table.done(entry)


def _oldest_last(entries: Iterable[Entry]) -> list[Entry]:
    """The order in which they are returned: each goes to the head of its queue."""
    return sorted(entries, key=lambda entry: -entry.delivery.tag)


def _acknowledge(entry: Entry, leases: Leases) -> None:
    if leases.acknowledge([entry.delivery]):
        # It may have arrived the first time, and only the answer been lost.
        log.info("acknowledgement_not_needed", queue=entry.delivery.queue, tag=entry.delivery.tag)
