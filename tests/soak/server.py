"""Redis as a user of Celeriac has it, and what is in it."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

import redis

from tests.binaries import find_redis
from tests.servers import RedisServer

#: Ports that the system gives to no client. One that connects to a server which is down could otherwise be given the
#: server's own port, be connected to itself, and keep the server from coming back.
PORTS = range(10_000, 30_000)

#: What must be empty when all tasks have ended: leases, messages in flight, started and delayed ones; and what kombu's
#: own transport keeps in their place.
WORK_KEYS = (
    "celeriac:leases:*",
    "celeriac:inflight",
    "celeriac:started",
    "celeriac:delayed*",
    "unacked",
    "unacked_index",
)
DEAD_KEYS = ("celeriac:dead:*",)


class DurableRedis(RedisServer):
    """Redis with the persistence that `celeriac up` and the chart give it: append-only, written to disk each second."""

    def __init__(self) -> None:
        super().__init__(find_redis())  # never a container: a kill must reach the server itself
        self.port = unused_port()

    def launch(self) -> None:
        """Start the process on the same data."""
        assert self._binary
        place = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        options = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"]
        self._spawn([self._binary, *place, *options])


def unused_port() -> int:
    """A port of `PORTS` on which nobody listens."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def leftovers(client: redis.Redis, queues: Iterable[str]) -> dict[str, int]:
    """What work is left in Redis: the sizes of those keys of work that exist."""
    ready = [key for queue in queues for key in (queue, *(f"{queue}:{priority}" for priority in range(10)))]
    found = [key for pattern in WORK_KEYS for key in client.scan_iter(pattern, count=1000)]
    return {key: size for key in [*ready, *found] if (size := _size(client, key))}


def dead_letters(client: redis.Redis) -> dict[str, int]:
    """How many dead letters each queue has."""
    return {key: _size(client, key) for pattern in DEAD_KEYS for key in client.scan_iter(pattern, count=1000)}


def dump(client: redis.Redis) -> str:
    """Everything in Redis that tells why a message waits, as text."""
    lines = [f"TIME {client.time()}"]
    records = 0
    for key in sorted(client.scan_iter(count=1000)):
        if key.startswith(("celeriac:task:", "celeriac:message:", "celery-task-meta-", "celeriac:seen:")):
            records += 1
            continue
        lines.append(f"{client.type(key)!s} {key} {_size(client, key)} {_content(client, key)}")
    lines.append(f"{records} keys of records and results")
    lines += [f"INFO {section} {client.info(section)}" for section in ("clients", "persistence", "stats")]
    lines += ["CLIENT LIST", *(str(each) for each in client.client_list())]
    return "\n".join(lines)


def _size(client: redis.Redis, key: str) -> int:
    kind = str(client.type(key))
    size = {
        "list": client.llen,
        "zset": client.zcard,
        "hash": client.hlen,
        "set": client.scard,
        "string": client.strlen,
    }
    return int(size[kind](key)) if kind in size else 0


def _content(client: redis.Redis, key: str) -> str:
    kind = client.type(key)
    if kind == "zset":
        return str(client.zrange(key, 0, 19, withscores=True))
    if kind == "hash":
        return str({field: value[:200] for field, value in list(client.hgetall(key).items())[:20]})
    if kind == "list":
        return str([value[:200] for value in client.lrange(key, -3, -1)])
    if kind == "set":
        return str(client.smembers(key))
    return str(client.get(key))[:200]
