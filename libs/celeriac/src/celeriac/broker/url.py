"""A Redis URL, read. No error and no `repr` of it shows a user or a password, nor what may be a part of one.

    redis://[[user]:password@]host[:6379][/db]
    rediss://…                                              TLS
    unix://[[user]:password@]/path/to/socket
    redis+sentinel://[[user]:password@]host[:26379][,host2[:26379]…]/primary[/db]
    rediss+sentinel://…                                     TLS, to the Sentinels as well

A `/`, `?` or `#` in user, password or path is written `%2F`, `%3F` or `%23`. The query may hold these options, which
mean what they mean to redis-py:

- `db`, `client_name`, `protocol` (2 where a proxy in between does not know 3), `max_connections`, and, for clients that
  set none of their own, `socket_timeout`, `socket_connect_timeout`, `socket_keepalive` and `health_check_interval`;
- with TLS `ssl_ca_certs`, `ssl_ca_path`, `ssl_ca_data`, `ssl_certfile`, `ssl_keyfile`, `ssl_password`, `ssl_cert_reqs`,
  `ssl_check_hostname` and `ssl_ciphers`; the server's certificate is checked unless `ssl_cert_reqs` is `none`;
- with Sentinels `sentinel_username` and `sentinel_password`, for the Sentinels themselves; `sentinel_ssl`, where only
  they or only the servers speak TLS; and each option of TLS with `sentinel_` before it, where theirs is another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode

from celeriac.errors import ConfigurationError

T = TypeVar("T")

#: Each scheme with a valid URL.
FORMS: Mapping[str, str] = {
    "redis": "redis://user:password@host:6379/0",
    "rediss": "rediss://user:password@host:6379/0?ssl_ca_certs=/path/to/ca.pem",
    "unix": "unix:///path/to/socket?db=0",
    "redis+sentinel": "redis+sentinel://user:password@host:26379,host2:26379/primary/0",
    "rediss+sentinel": "rediss+sentinel://user:password@host:26379,host2:26379/primary/0",
}

#: A server's address; the port is None where the URL names none.
Address = tuple[str, int | None]

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]*))(?::([0-9]{1,5}))?")
_NUMBER = re.compile(r"[0-9]{1,9}")


class _Wrong(Exception):
    """What is wrong with a part."""


@dataclass(frozen=True)
class RedisUrl:
    """The parts of a URL, decoded."""

    scheme: str
    username: str = field(repr=False)
    password: str = field(repr=False)
    #: Of the server, or of each Sentinel; none for a socket.
    addresses: tuple[Address, ...]
    #: Of the socket.
    path: str
    #: What the Sentinels call the primary.
    primary: str
    database: int
    #: The options as they are written.
    query: tuple[tuple[str, str], ...] = field(repr=False)
    #: The options of connections to the server, read.
    options: Mapping[str, Any] = field(repr=False)
    #: The options of connections to the Sentinels, read.
    sentinel_options: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Read a URL.

        Raises:
            ConfigurationError: it is none of the forms that this module names.
        """
        scheme, separator, rest = text.strip().partition("://")
        scheme = scheme.lower()
        if not separator or scheme not in FORMS:
            # Without a separator, or with other characters, it may be a password.
            named = separator and re.fullmatch(r"[a-z0-9+.-]*", scheme)
            wrong = f"scheme {scheme!r} is not supported" if named else "no URL"
            msg = f"REDIS_URL: {wrong}; use {', '.join(f'{known}://' for known in FORMS)}"
            raise ConfigurationError(msg)
        try:
            return cls._parse(scheme, rest)
        except _Wrong as wrong_part:
            msg = f"REDIS_URL: {wrong_part}; a valid one is {FORMS[scheme]}"
        # Without the error that it comes from, whose traceback may show a password.
        raise ConfigurationError(msg)

    @classmethod
    def _parse(cls, scheme: str, rest: str) -> RedisUrl:
        head, _, query_text = rest.partition("?")
        authority, _, path = head.partition("/")
        if "#" in rest or "@" in query_text or ("@" in path and scheme != "unix"):
            raise _Wrong("one of / ? # stands in its user, password or path, where they are written %2F %3F %23")
        userinfo, _, hosts = authority.rpartition("@")
        username, _, password = userinfo.partition(":")
        if username and not password:
            raise _Wrong("the user has no password; a password alone is written :password@")
        query = _pairs(query_text)
        # kombu takes one host only, so that broker URLs have the other Sentinels in the query.
        listed = [*([hosts] if hosts else []), *(value for name, value in query if name == "sentinel")]
        addresses = tuple(_address(part) for hosts in listed for part in hosts.split(","))
        given = {name: value for name, value in query if name not in {"sentinel", "db"}}
        options, sentinel_options = _options(scheme, given)
        primary = number = ""
        if scheme == "unix":
            if addresses or not path:
                raise _Wrong("no absolute path of a socket; it begins with the third slash")
        elif scheme.endswith("+sentinel"):
            primary, _, number = path.rstrip("/").partition("/")
            if not addresses or not all(host for host, _ in addresses):
                raise _Wrong("the host of a Sentinel is missing")
            if not primary:
                raise _Wrong("the name of the primary is missing")
        else:
            number = path.rstrip("/")
            if len(addresses) > 1:
                raise _Wrong("more than one host; Sentinels are named with redis+sentinel://")
        number = dict(query).get("db", number)
        if number and not _NUMBER.fullmatch(number):
            raise _Wrong("the database is no number")
        return cls(
            scheme=scheme,
            username=unquote(username),
            password=unquote(password),
            addresses=addresses,
            path=unquote(f"/{path}") if scheme == "unix" else "",
            primary=unquote(primary),
            database=int(number or 0),
            query=tuple(given.items()),
            options=options,
            sentinel_options=sentinel_options,
        )

    def for_kombu(self) -> str:
        """The same URL, in the one form in which kombu finds, and so masks, the password."""
        secret = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@" if self.password else ""
        first, *others = [_written(address) for address in self.addresses] or [""]
        query = [*self.query, *(("sentinel", other) for other in others)]
        if self.path:
            path = quote(self.path)
            query.append(("db", str(self.database)))
        else:
            path = (f"/{quote(self.primary, safe='')}" if self.primary else "") + f"/{self.database}"
        return f"{self.scheme}://{secret}{first}{path}" + (f"?{urlencode(query)}" if query else "")


def _address(text: str) -> Address:
    found = _ADDRESS.fullmatch(text)
    port = int(found[3]) if found and found[3] else None
    if found is None or (port is not None and not 0 < port < 65536):
        # It is not shown: where the @ is missing, it is the password.
        raise _Wrong("host and port are not host:port, with a port from 1 to 65535")
    return found[1] or found[2], port


def _written(address: Address) -> str:
    host, port = address
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, strict_parsing=True) if query else []
    except ValueError:
        raise _Wrong("what follows the ? is not name=value&name=value") from None


def _options(scheme: str, given: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    tls, sentinels = scheme.startswith("rediss"), scheme.endswith("+sentinel")
    known = _CONNECTION | (_TCP if scheme != "unix" else {}) | (_TLS if tls else {}) | (_SENTINEL if sentinels else {})
    if wrong := sorted(given.keys() - known):
        if wrong[0] in _TLS:
            raise _Wrong(f"{wrong[0]} needs TLS, which is rediss{scheme.removeprefix('redis')}://")
        raise _Wrong(f"no option is named {wrong[0]!r}; there are db, {', '.join(sorted(known))}")
    read = {}
    for name, text in given.items():
        try:
            read[name] = known[name](text)
        except _Wrong as wrong_value:
            raise _Wrong(f"{name} {wrong_value}") from None
    own = {name.removeprefix("sentinel_"): value for name, value in read.items() if name in _SENTINEL}
    options = {name: value for name, value in read.items() if name not in _SENTINEL}
    if sentinels and own.setdefault("ssl", tls):
        own = {name: value for name, value in options.items() if name in _TLS} | own
    return options, own


def _whole(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise _Wrong("is no whole number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _Wrong("is no number of seconds") from None


def _readable(text: str) -> str:
    if not Path(text).exists():
        raise _Wrong(f"names {text}, which does not exist")
    if not os.access(text, os.R_OK):
        raise _Wrong(f"names {text}, which cannot be read")
    return text


def _one_of(words: Mapping[str, T]) -> Callable[[str], T]:
    def read(text: str) -> T:
        if text.lower() not in words:
            raise _Wrong(f"is none of {', '.join(words)}")
        return words[text.lower()]

    return read


_flag = _one_of(
    {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "1": True, "0": False}
)

# Celery's own URLs write CERT_REQUIRED.
_requirement = _one_of({f"{start}{word}": word for start in ("", "cert_") for word in ("none", "optional", "required")})

_CONNECTION: dict[str, Callable[[str], Any]] = {
    "client_name": str,
    "health_check_interval": _whole,
    "max_connections": _whole,
    "protocol": _one_of({"2": 2, "3": 3}),
    "socket_connect_timeout": _seconds,
    "socket_timeout": _seconds,
}
_TCP: dict[str, Callable[[str], Any]] = {"socket_keepalive": _flag}
_TLS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": _readable,
    "ssl_ca_data": str,
    "ssl_ca_path": _readable,
    "ssl_cert_reqs": _requirement,
    "ssl_certfile": _readable,
    "ssl_check_hostname": _flag,
    "ssl_ciphers": str,
    "ssl_keyfile": _readable,
    "ssl_password": str,
}
_SENTINEL: dict[str, Callable[[str], Any]] = {
    "sentinel_username": str,
    "sentinel_password": str,
    "sentinel_ssl": _flag,
    **{f"sentinel_{name}": read for name, read in _TLS.items()},
}
