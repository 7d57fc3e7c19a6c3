"""TLS connections that are made quickly, and trust no authority but the one that they are given, if they are."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from redis.asyncio import connection as asynchronous
from redis.connection import SSLConnection


class TLSConnection(SSLConnection):
    """redis-py's, but for its context.

    redis-py makes one for each connection, which reads all authorities that the system trusts and takes 30 ms of a CPU;
    and it trusts them besides those that it is told to trust.
    """

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        context = _context_of(self, self.certificate_password, self.ssl_ciphers)
        return context.wrap_socket(sock, server_hostname=self.host)


class AsyncTLSConnection(asynchronous.SSLConnection):
    """The same for asyncio."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        options = self.ssl_context
        arguments = {"host": self.host, "port": self.port}
        return arguments | {"ssl": _context_of(options, options.password, options.ciphers)}


def _context_of(options: Any, password: str | None, ciphers: str | None) -> ssl.SSLContext:  # noqa: ANN401
    return _context(
        # gevent puts another class into its place, whose sockets do not block.
        ssl.SSLContext,
        (options.ca_certs, options.ca_path, options.ca_data),
        (options.certfile, options.keyfile, password),
        options.cert_reqs,
        options.check_hostname,
        ciphers,
        # Certificates are renewed in place.
        tuple(_version(file) for file in (options.ca_certs, options.ca_path, options.certfile, options.keyfile)),
    )


@lru_cache(maxsize=16)
def _context(
    _class: type,
    authorities: tuple[str | None, str | None, str | None],
    own: tuple[str | None, str | None, str | None],
    requirement: ssl.VerifyMode,
    check_hostname: bool,  # noqa: FBT001 - redis-py's own
    ciphers: str | None,
    _versions: tuple[Any, ...],
) -> ssl.SSLContext:
    ca_certs, ca_path, ca_data = authorities
    context = ssl.create_default_context(cafile=ca_certs, capath=ca_path, cadata=ca_data)
    context.check_hostname = check_hostname
    context.verify_mode = requirement
    certificate, key, password = own
    if certificate or key:
        context.load_cert_chain(str(certificate or key), key, password)
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def _version(file: str | None) -> tuple[int, int] | None:
    """What changes when a file is replaced or written."""
    if file is None:
        return None
    state = Path(file).stat()
    return state.st_ino, state.st_mtime_ns
