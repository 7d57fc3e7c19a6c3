"""Calls of scripts that every task pays for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError, RedisError, ResponseError


class Caller:
    """Calls scripts over connections of its own, as many as there are calls at the same time.

    redis-py's client takes a connection out of its pool for each command, and looks for retries, callbacks and
    protocols: as much processor time again as the call. Like the platform's clients, this does not try again.

    Args:
        client: a client whose connections are as these are to be.
    """

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._idle: deque[Any] = deque()
        self._process = os.getpid()

    def call(self, script: Script, keys: Sequence[str], args: Sequence[str | int]) -> Any:  # noqa: ANN401 - what it returns
        """Call a script.

        Raises:
            RedisError: Redis is away or refuses; the script may have run.
        """
        connection = self._connection()
        rest = (len(keys), *keys, *args)
        try:
            try:
                answer = self._ask(connection, "EVALSHA", script.sha, *rest)
            except NoScriptError:
                answer = self._ask(connection, "EVAL", script.script, *rest)
        except ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            connection.disconnect()  # its answer, if there comes one, is nobody's
            raise
        self._idle.append(connection)
        return answer

    def _ask(self, connection: Any, *command: Any) -> Any:  # noqa: ANN401 - redis-py's connections have no types
        connection.send_packed_command(connection.pack_command(*command))
        return connection.read_response()

    def _connection(self) -> Any:  # noqa: ANN401
        if self._process != os.getpid():  # a fork shares its parent's
            self._idle, self._process = deque(), os.getpid()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._pool.connection_class(**self._pool.connection_kwargs)
        if connection.is_connected and _is_stale(connection):
            connection.disconnect()
        if not connection.is_connected:
            connection.connect()
        return connection


def _is_stale(connection: Any) -> bool:  # noqa: ANN401
    """Whether it has ended, or an answer is left over."""
    try:
        return bool(connection.can_read())
    except (RedisError, OSError):
        return True
