"""One Redis URL for people and every client of the platform.

    redis://[user:password@]host:port/db
    rediss://…?ssl_ca_certs=/path/to/ca.pem             TLS; the server's certificate is checked
    unix://[user:password@]/path/to/socket?db=0
    redis+sentinel://[user:password@]host:26379,host2:26379/master/db      rediss+sentinel:// for TLS

The query may hold what redis-py's connections take, such as `ssl_certfile`; for Sentinel, `sentinel_username` and
`sentinel_password` are for the Sentinels themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, ConnectionPool, SSLConnection
from redis.connection import parse_url as parse_redis_url
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection

from celeriac.errors import ConfigurationError

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")

_SENTINEL_PORT = 26379


class SentinelManagedSSLConnection(SentinelManagedConnection, SSLConnection):
    """A TLS connection to the primary that the Sentinels name."""


@dataclass(frozen=True)
class Endpoint:
    """Where Redis is and how to speak to it."""

    #: What redis-py's connections take.
    options: Mapping[str, Any]
    connection_class: type[AbstractConnection]
    #: Host and port of each Sentinel; none where the server is named itself.
    sentinels: tuple[tuple[str, int], ...] = ()
    #: What the Sentinels call the primary.
    master: str = ""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Read a URL.

        Raises:
            ConfigurationError: it is none of the forms that this module names.
        """
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in SCHEMES:
            msg = f"REDIS_URL: scheme {scheme!r} is not supported; use one of {', '.join(f'{s}://' for s in SCHEMES)}"
            raise ConfigurationError(msg)
        if scheme.endswith("+sentinel"):
            return _parse_sentinel(scheme, rest)
        try:
            options = dict(parse_redis_url(url))
        except (ValueError, TypeError) as error:
            msg = f"REDIS_URL: {error}; a valid one is redis://user:password@host:6379/0"
            raise ConfigurationError(msg) from error
        connection_class = options.pop("connection_class", Connection)
        return cls(options, connection_class)

    @property
    def database(self) -> int:
        """The number of the database."""
        return int(self.options.get("db") or 0)

    def pool(self, connection_class: type[AbstractConnection] | None = None, **options: Any) -> ConnectionPool:  # noqa: ANN401
        """Make a connection pool. A command that fails is not tried again, for it may have been carried out.

        Args:
            connection_class: a subclass of this endpoint's connection class, or None for itself.
            options: further options of redis-py's connections.
        """
        given: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), **self.options, **options}
        connection_class = connection_class or self.connection_class
        if not self.sentinels:
            return ConnectionPool(connection_class=connection_class, **given)
        limits = {name: given[name] for name in ("socket_timeout", "socket_connect_timeout") if name in given}
        sentinel = Sentinel(list(self.sentinels), sentinel_kwargs={**limits, **self.sentinel_options})
        client = sentinel.master_for(self.master, connection_class=connection_class, **given)
        return cast("ConnectionPool", client.connection_pool)


def connect(url: str, **options: Any) -> Redis:  # noqa: ANN401
    """Make a client of the Redis that a URL names; it connects when it is first used.

    Args:
        url: see this module.
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
    endpoint = Endpoint.parse(redis_url)
    if not endpoint.sentinels:
        return f"celeriac+{redis_url}"
    # kombu takes one host and port only; the other Sentinels go into the query.
    parts = urlsplit(redis_url)
    userinfo, at, hosts = parts.netloc.rpartition("@")
    first, *others = hosts.split(",")
    query = parse_qsl(parts.query) + [("sentinel", host) for host in others]
    return f"celeriac+{parts.scheme}://{userinfo}{at}{first}{parts.path}?{urlencode(query)}"


def _parse_sentinel(scheme: str, rest: str) -> Endpoint:
    form = f"{scheme}://[user:password@]host:26379[,host2:26379]/master[/db]"
    parts = urlsplit(f"sentinel://{rest}")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    query = parse_qsl(parts.query)
    master, _, database = parts.path.strip("/").partition("/")
    try:
        addresses = [*hosts.split(","), *(value for name, value in query if name == "sentinel")]
        sentinels = tuple(_address(address) for address in addresses)
        number = int(database or 0)
    except ValueError as error:
        msg = f"REDIS_URL: {error}; a valid one is {form}"
        raise ConfigurationError(msg) from error
    if not master:
        msg = f"REDIS_URL: the name of the primary is missing; a valid one is {form}"
        raise ConfigurationError(msg)
    options: dict[str, Any] = {"db": number}
    if username:
        options["username"] = unquote(username)
    if password:
        options["password"] = unquote(password)
    rest_of_query = urlencode([(name, value) for name, value in query if not name.startswith("sentinel")])
    if rest_of_query:
        tls_or_not = "rediss" if scheme.startswith("rediss") else "redis"
        parsed = parse_redis_url(f"{tls_or_not}://host?{rest_of_query}")
        options |= {name: value for name, value in parsed.items() if name not in {"host", "connection_class"}}
    prefix = "sentinel_"
    sentinel_options = {name.removeprefix(prefix): value for name, value in query if name.startswith(prefix)}
    tls = scheme.startswith("rediss")
    connection_class = SentinelManagedSSLConnection if tls else SentinelManagedConnection
    return Endpoint(options, connection_class, sentinels, master, sentinel_options)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.strip().rpartition(":")
    if not host:
        host, port = port, str(_SENTINEL_PORT)
    if not host or not port.isdigit():
        msg = f"{text!r} is no host:port of a Sentinel"
        raise ValueError(msg)
    return host.strip("[]"), int(port)
