"""Finds Celery's messages wherever a broker on Redis keeps them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, cast

import redis

# A message is JSON with a body in base64; where one is kept inside of other JSON its quotes are escaped.
_BODY = re.compile(rb'body\\*"\s*:\s*\\*"([A-Za-z0-9+/=]+)')

#: Keys that tell of tasks, and hold no message that is still to be delivered.
_RECORDS = (b"celeriac:task:", b"celeriac:tasks:", b"celeriac:message:", b"celery-task-meta-")


def recorded(client: redis.Redis) -> set[int]:
    """Collect the first argument of every message in a Redis.

    It reads all keys, so that it holds for any layout: ready, delivered, delayed or dead.

    Args:
        client: a client that does not decode.
    """
    found = set()
    for key in client.scan_iter(count=1000):
        if key.startswith(_RECORDS):
            continue
        for value in _values(client, key):
            for body in _BODY.findall(value):
                arguments = json.loads(base64.b64decode(body))[0]
                # Messages of remote control have other bodies.
                if isinstance(arguments, list) and arguments and isinstance(arguments[0], int):
                    found.add(arguments[0])
    return found


def _values(client: redis.Redis, key: bytes) -> Iterator[bytes]:
    kind = client.type(key)
    values: Any = ()
    if kind == b"list":
        values = client.lrange(key, 0, -1)
    elif kind == b"hash":
        values = client.hvals(key)
    elif kind == b"zset":
        values = client.zrange(key, 0, -1)
    elif kind == b"set":
        values = client.smembers(key)
    elif kind == b"string":
        values = [value] if (value := client.get(key)) is not None else []
    yield from cast("list[bytes]", values)
