"""Connections to the primary that Sentinels name, which find the next one after a failover.

A primary that was killed has broken its connections. One that was replaced while it lives, by a planned failover or
because it was paused, takes commands until the Sentinels make it a replica, 11 s later, and all of them are lost; so
the Sentinels are asked twice a second whether it is still the one. What it is told in the second and a half that is
left is lost, unless its clients were paused before the failover (`CLIENT PAUSE 20000 WRITE`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from redis import Redis
from redis.connection import Connection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelManagedConnection

from celeriac.broker.tls import TLSConnection

#: A Sentinel answers in this time, or the next one is asked, seconds.
_TIMEOUT_SECONDS = 1.0

#: How long an answer of the Sentinels is good for, seconds.
_LOOK_SECONDS = 0.5

#: When they are asked again if none has answered, seconds: the primary may be well without them.
_LOOK_LATER_SECONDS = 10.0

#: How a server that is the primary no more refuses. Within a script's error Redis 6.2 says so only in the text.
REFUSALS = ("READONLY", "UNBLOCKED", "NOREPLICAS")

Address = tuple[str, int]


class Sentinels(Sentinel):
    """Asks one Sentinel after the other which server is the primary.

    redis-py's own exchanges two items of its list when one does not answer: two threads that do so at once lose one.

    Args:
        addresses: where they are.
        options: of redis-py's connections; `ssl` for TLS.
    """

    def __init__(self, addresses: Sequence[Address], options: Mapping[str, Any]) -> None:
        super().__init__([])
        given = {"socket_timeout": _TIMEOUT_SECONDS, "socket_connect_timeout": _TIMEOUT_SECONDS, **options}
        connection_class = TLSConnection if given.pop("ssl", False) else Connection
        pools = [ConnectionPool(connection_class, host=host, port=port, **given) for host, port in addresses]
        self.sentinels = [Redis(connection_pool=pool) for pool in pools]
        self._known: Address | None = None
        self._look_at = 0.0

    def discover_master(self, service_name: str) -> Address:
        """Find the primary.

        Raises:
            MasterNotFoundError: no Sentinel names one; the message has the reason of each.
        """
        problems = []
        asked: list[Redis] = self.sentinels
        for sentinel in asked:
            try:
                found = sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", service_name)
            except (RedisError, OSError) as error:
                problem = str(error)
            else:
                if found:
                    # Whoever has answered is asked first the next time.
                    self.sentinels = [sentinel, *(other for other in asked if other is not sentinel)]
                    self._known = _text(found[0]), int(found[1])
                    self._look_at = time.monotonic() + _LOOK_SECONDS
                    return self._known
                problem = "knows no primary of this name"
            place = sentinel.connection_pool.connection_kwargs
            problems.append(f"{place['host']}:{place['port']}: {problem}")
        msg = f"no Sentinel names a primary {service_name!r}: {'; '.join(problems)}"
        raise MasterNotFoundError(msg)

    def names_another(self, service_name: str, address: Address) -> bool:
        """Whether a server is known to be the primary no more, by what was heard at most half a second ago."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_LATER_SECONDS  # nor do other threads ask meanwhile
            try:
                self.discover_master(service_name)
            except MasterNotFoundError:
                self._known = None
        return self._known is not None and self._known != address


class PrimaryConnection(SentinelManagedConnection):
    """A connection to the primary; one to a server that is the primary no more counts as broken."""

    def connect(self) -> None:
        """Connect, or go on with the connection there is, if it is still to the primary."""
        if self._sock and self._is_stale():
            self.disconnect()
        super().connect()

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: ANN401, FBT001, FBT002 - redis-py's signature
        """Send a command.

        Raises:
            ConnectionError: the server does not hear it, or is the primary no more.
        """
        if self._sock and self._is_stale():
            self._break("the Sentinels name another primary")
        super().send_packed_command(command, check_health)

    def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - redis-py's signature
        """Read an answer.

        Raises:
            ConnectionError: there is none, or the server is the primary no more.
        """
        try:
            return super().read_response(*args, **options)
        except ResponseError as error:
            if not any(word in str(error) for word in REFUSALS):
                raise
            self._break(str(error))

    def _is_stale(self) -> bool:
        pool = self.connection_pool
        return bool(pool.sentinel_manager.names_another(pool.service_name, (self.host, self.port)))

    def _break(self, reason: str) -> NoReturn:
        self.disconnect()
        msg = f"{self.host}:{self.port} is given no more commands: {reason}"
        raise RedisConnectionError(msg)


class PrimaryTLSConnection(PrimaryConnection, TLSConnection):
    """The same by TLS."""


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
