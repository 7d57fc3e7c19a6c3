"""Commands to Redis from asyncio, all over one connection."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import hiredis
from redis.commands.core import Script
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac.broker.connection import Endpoint
from celeriac.broker.sentinel import REFUSALS

#: Commands that are packed and written in one go.
_BATCH = 200

#: Sentinels are asked whether the server is still the primary once in so long, seconds.
_LOOK_SECONDS = 0.5

Command = tuple[str | int | float | bytes, ...]

#: Typed by hiredis as if all commands had one part.
_pack: Callable[[Any], bytes] = hiredis.pack_command


class Line:
    """One connection that the coroutines of an event loop share.

    What they send at the same time goes out in one packet, and no command waits for the answer to another: a hundred
    at once take hardly longer than one, where a pool would make a hundred connections.

    Args:
        endpoint: where Redis is.
        timeout_seconds: an answer that takes longer breaks the connection.
        connect_timeout_seconds: how long connecting may take.
    """

    def __init__(
        self, endpoint: Endpoint, *, timeout_seconds: float = 5.0, connect_timeout_seconds: float = 2.0
    ) -> None:
        self._endpoint = endpoint
        self._timeout_seconds = timeout_seconds
        self._connect_timeout_seconds = connect_timeout_seconds
        self._connection: Any = None
        self._look_at = 0.0
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._unsent: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        #: Those who wait for an answer, in the order of their commands.
        self._sent: deque[asyncio.Future[Any]] = deque()

    async def execute(self, *command: str | float | bytes) -> Any:  # noqa: ANN401 - what Redis answers
        """Send a command and wait for its answer; texts are decoded.

        Raises:
            RedisError: Redis is away or refuses; the command may have been carried out.
        """
        return (await self.execute_all([command]))[0]

    async def execute_all(self, commands: Iterable[Command]) -> list[Any]:
        """Send commands in one go; their answers, in their order.

        Raises:
            RedisError: Redis is away or refuses one; the others may have been carried out.
        """
        answers = await self.outcomes(commands)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    async def outcomes(self, commands: Iterable[Command]) -> list[Any]:
        """Send commands in one go; the answer to each, or the error in its place."""
        futures = [self._put(command) for command in commands]
        if not futures:
            return []
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await asyncio.gather(*futures, return_exceptions=True)
        except TimeoutError:
            error = RedisTimeoutError(f"no answer within {self._timeout_seconds:g} s")
            await self._break(error)
            return [_outcome(future, error) for future in futures]

    async def call(self, script: Script, keys: Sequence[str], args: Sequence[str | int]) -> Any:  # noqa: ANN401
        """Call a script.

        Raises:
            RedisError: Redis is away or refuses; the script may have run.
        """
        return (await self.call_all(script, [(keys, args)], raises=True))[0]

    async def call_all(
        self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[str | int]]], *, raises: bool = False
    ) -> list[Any]:
        """Call a script several times in one go; the answer to each call, or the error in its place.

        Args:
            script: the script.
            calls: keys and arguments of each.
            raises: raise the first error.

        Raises:
            RedisError: see `raises`.
        """
        rests = [(len(keys), *keys, *args) for keys, args in calls]
        answers = await self.outcomes(("EVALSHA", script.sha, *rest) for rest in rests)
        unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:  # Redis has been restarted
            await self.execute("SCRIPT", "LOAD", str(script.script))
            again = await self.outcomes(("EVALSHA", script.sha, *rests[number]) for number in unknown)
            for number, answer in zip(unknown, again, strict=True):
                answers[number] = answer
        for answer in answers:
            if raises and isinstance(answer, BaseException):
                raise answer
        return answers

    async def close(self) -> None:
        """Close the connection; who still waits gets an error."""
        await self._break(RedisConnectionError("the connection was closed"))

    def _put(self, command: Command) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._unsent.append((command, future))
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write())
        return future

    async def _write(self) -> None:
        while self._unsent:
            try:
                connection = await self._connected()
            except (RedisError, OSError, TimeoutError) as error:
                _fail([future for _, future in self._unsent], _redis_error(error))
                self._unsent.clear()
                return
            batch = [self._unsent.popleft() for _ in range(min(len(self._unsent), _BATCH))]
            self._sent.extend(future for _, future in batch)
            try:
                # redis-py's own packer for asyncio takes five times as long.
                packed = b"".join([_pack(command) for command, _ in batch])
                await connection.send_packed_command(packed, check_health=False)
            except (RedisError, OSError) as error:
                await self._break(error)

    async def _connected(self) -> Any:  # noqa: ANN401 - redis-py's connections have no types
        if await self._is_usable():
            return self._connection
        await self._break(RedisConnectionError("the connection had ended"))
        async with asyncio.timeout(self._connect_timeout_seconds):
            connection = await self._endpoint.async_connection()
            await connection.connect()
        self._connection = connection
        self._reader = asyncio.create_task(self._read(connection))
        return connection

    async def _is_usable(self) -> bool:
        connection = self._connection
        if connection is None or not connection.is_connected:
            return False
        if not self._endpoint.sentinels or time.monotonic() < self._look_at:
            return True
        self._look_at = time.monotonic() + _LOOK_SECONDS
        return await self._endpoint.is_primary(connection)

    async def _read(self, connection: Any) -> None:  # noqa: ANN401
        while True:
            try:
                answer = await connection.read_response(timeout=math.inf)
            except ResponseError as error:
                if self._endpoint.sentinels and any(word in str(error) for word in REFUSALS):
                    await self._break(error)  # the server is the primary no more
                    return
                answer = error
            except (RedisError, OSError) as error:
                await self._break(error)
                return
            if not self._sent:
                await self._break(RedisConnectionError("an answer that nobody has asked for"))
                return
            future = self._sent.popleft()
            if future.done():
                continue  # its coroutine was cancelled
            if isinstance(answer, ResponseError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def _break(self, error: BaseException) -> None:
        connection, self._connection = self._connection, None
        reader, self._reader = self._reader, None
        waiting = [*self._sent]
        self._sent.clear()
        _fail(waiting, _redis_error(error))
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
        if connection is not None:
            await connection.disconnect(nowait=True)


def _fail(futures: Iterable[asyncio.Future[Any]], error: RedisError) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


def _redis_error(error: BaseException) -> RedisError:
    return error if isinstance(error, RedisError) else RedisConnectionError(str(error) or type(error).__name__)


def _outcome(future: asyncio.Future[Any], otherwise: RedisError) -> Any:  # noqa: ANN401
    if future.done() and not future.cancelled():
        return future.exception() or future.result()
    return otherwise
