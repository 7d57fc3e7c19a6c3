"""One Redis URL for people and every client of the platform; `url` has its forms."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from redis import Redis
from redis.asyncio import connection as asynchronous
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, ConnectionPool, UnixDomainSocketConnection
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from celeriac.broker.sentinel import PrimaryConnection, PrimaryTLSConnection, Sentinels
from celeriac.broker.tls import AsyncTLSConnection, TLSConnection
from celeriac.broker.url import RedisUrl

_PORT, _SENTINEL_PORT = 6379, 26379

_CONNECTION_CLASSES: dict[str, type[Any]] = {
    "redis": Connection,
    "rediss": TLSConnection,
    "unix": UnixDomainSocketConnection,
    "redis+sentinel": PrimaryConnection,
    "rediss+sentinel": PrimaryTLSConnection,
}

_ASYNC_CLASSES: dict[type[Any], type[Any]] = {
    Connection: asynchronous.Connection,
    TLSConnection: AsyncTLSConnection,
    UnixDomainSocketConnection: asynchronous.UnixDomainSocketConnection,
    PrimaryConnection: asynchronous.Connection,
    PrimaryTLSConnection: AsyncTLSConnection,
}


@dataclass(frozen=True)
class Endpoint:
    """Where Redis is and how to speak to it."""

    #: What redis-py's connections take.
    options: Mapping[str, Any] = field(repr=False)
    connection_class: type[AbstractConnection]
    #: Host and port of each Sentinel; none where the server is named itself.
    sentinels: tuple[tuple[str, int], ...] = ()
    #: What the Sentinels call the primary.
    master: str = ""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Read a URL.

        Raises:
            ConfigurationError: it is none of the forms that `url` names.
        """
        parts = RedisUrl.parse(url)
        options: dict[str, Any] = {"db": parts.database, **parts.options}
        if parts.password:
            options["password"] = parts.password
        if parts.username:
            options["username"] = parts.username
        connection_class = _CONNECTION_CLASSES[parts.scheme]
        if parts.primary:
            sentinels = tuple((host, port or _SENTINEL_PORT) for host, port in parts.addresses)
            return cls(options, connection_class, sentinels, parts.primary, parts.sentinel_options)
        if parts.path:
            return cls({"path": parts.path, **options}, connection_class)
        host, port = parts.addresses[0] if parts.addresses else ("", None)
        return cls({"host": host or "localhost", "port": port or _PORT, **options}, connection_class)

    async def async_connection(self) -> Any:  # noqa: ANN401 - redis-py's connections have no types
        """Make a connection for asyncio, which decodes answers; behind Sentinels, to the primary of now.

        Raises:
            MasterNotFoundError: no Sentinel names one.
        """
        # redis-py's default protocol, and with it the form of some answers, depends on its version.
        options = {"decode_responses": True, "protocol": 2, "retry": AsyncRetry(NoBackoff(), 0), **self.options}
        if self.sentinels:
            options["host"], options["port"] = await asyncio.to_thread(self._sentinels.discover_master, self.master)
        # A connection of its own has time limits of its own.
        for name in ("socket_timeout", "max_connections"):
            options.pop(name, None)
        return _ASYNC_CLASSES[self.connection_class](**options)

    async def is_primary(self, connection: Any) -> bool:  # noqa: ANN401
        """Whether a connection's server is still the primary, by what Sentinels said at most half a second ago."""
        if not self.sentinels:
            return True
        address = connection.host, connection.port
        return not await asyncio.to_thread(self._sentinels.names_another, self.master, address)

    @cached_property
    def _sentinels(self) -> Sentinels:
        # The next Sentinel is asked sooner than the same one again.
        return Sentinels(self.sentinels, {"retry": Retry(NoBackoff(), 0), **self.sentinel_options})

    @property
    def database(self) -> int:
        """The number of the database."""
        return int(self.options["db"])

    def pool(self, connection_class: type[AbstractConnection] | None = None, **options: Any) -> ConnectionPool:  # noqa: ANN401
        """Make a connection pool. A command that fails is not tried again, for it may have been carried out.

        Args:
            connection_class: a subclass of this endpoint's connection class, or None for itself.
            options: further options of redis-py's connections.
        """
        once = Retry(NoBackoff(), 0)
        given: dict[str, Any] = {"retry": once, **self.options, **options}
        connection_class = connection_class or self.connection_class
        if not self.sentinels:
            return ConnectionPool(connection_class=connection_class, **given)
        # The next Sentinel is asked sooner than the same one again.
        sentinels = Sentinels(self.sentinels, {"retry": once, **self.sentinel_options})
        return SentinelConnectionPool(self.master, sentinels, connection_class=connection_class, **given)


def connect(url: str, **options: Any) -> Redis:  # noqa: ANN401
    """Make a client of the Redis that a URL names; it connects when it is first used.

    Args:
        url: see `url`.
        options: options of redis-py's connections, such as `socket_timeout` (seconds).

    Raises:
        ConfigurationError: the URL is wrong.
    """
    return Redis(connection_pool=Endpoint.parse(url).pool(**options))


def broker_url(redis_url: str) -> str:
    """The broker URL for Celery: the same server through Celeriac's transport.

    Raises:
        ConfigurationError: the URL is wrong.
    """
    return f"celeriac+{RedisUrl.parse(redis_url).for_kombu()}"
