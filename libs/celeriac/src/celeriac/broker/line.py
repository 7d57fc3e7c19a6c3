"""Commands to Redis from asyncio, all over one connection."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import hiredis
from redis._parsers.base import BaseParser
from redis.commands.core import Script
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac.broker.connection import Endpoint
from celeriac.broker.sentinel import REFUSALS

#: Commands that are packed and written in one go.
_BATCH = 200

#: Sentinels are asked whether the server is still the primary once in so long, seconds.
_LOOK_SECONDS = 0.5

Command = tuple[str | int | float | bytes, ...]

#: Typed by hiredis as if all commands had one part. redis-py's own packer for asyncio takes five times as long.
_pack: Callable[[Any], bytes] = hiredis.pack_command

#: What hiredis says when an answer has not come whole.
_NOT_YET = object()


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
        self._wire: _Wire | None = None
        self._look_at = 0.0
        #: Whether `_flush` is about to be called, now or by the task that connects.
        self._flushing = False
        self._connecting: asyncio.Task[None] | None = None
        self._unsent: deque[tuple[Command, _Asked]] = deque()
        self._watch: asyncio.TimerHandle | None = None

    async def execute(self, *command: str | float | bytes) -> Any:  # noqa: ANN401 - what Redis answers
        """Send a command and wait for its answer; texts are decoded.

        Raises:
            RedisError: Redis is away or refuses; the command may have been carried out.
        """
        return await self._put(command)

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
        asked = [self._put(command) for command in commands]
        if len(asked) > 1:
            return await asyncio.gather(*asked, return_exceptions=True)
        try:
            return [await each for each in asked]
        except RedisError as error:
            return [error]

    async def call(self, script: Script, keys: Sequence[str], args: Sequence[str | int]) -> Any:  # noqa: ANN401
        """Call a script.

        Raises:
            RedisError: Redis is away or refuses; the script may have run.
        """
        command = ("EVALSHA", script.sha, len(keys), *keys, *args)
        try:
            return await self._put(command)
        except NoScriptError:  # Redis has been restarted
            await self.execute("SCRIPT", "LOAD", str(script.script))
            return await self._put(command)

    async def call_all(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[str | int]]]) -> list[Any]:
        """Call a script several times in one go; the answer to each call, or the error in its place.

        Args:
            script: the script.
            calls: keys and arguments of each.

        Raises:
            RedisError: Redis was restarted, and does not take the script again.
        """
        commands = [("EVALSHA", script.sha, len(keys), *keys, *args) for keys, args in calls]
        answers = await self.outcomes(commands)
        unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            await self.execute("SCRIPT", "LOAD", str(script.script))
            again = await self.outcomes(commands[number] for number in unknown)
            for number, answer in zip(unknown, again, strict=True):
                answers[number] = answer
        return answers

    async def close(self) -> None:
        """Close the connection; who still waits gets an error."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._watch is not None:
            self._watch.cancel()
        self._watch, self._flushing = None, False
        self._fail_all(RedisConnectionError("the connection was closed"))

    def _put(self, command: Command) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        asked = _Asked(loop)
        self._unsent.append((command, asked))
        if not self._flushing:
            self._flushing = True
            if self._wire is not None and (not self._endpoint.sentinels or time.monotonic() < self._look_at):
                # With what else is put in this turn of the loop.
                loop.call_soon(self._flush)
            else:
                self._connecting = loop.create_task(self._connect())
        if self._watch is None:
            self._watch = loop.call_later(self._timeout_seconds, self._look_for_late)
        return asked.answer

    def _flush(self) -> None:
        self._flushing = False
        while self._unsent and self._wire is not None and not self._wire.is_full:
            batch = [self._unsent.popleft() for _ in range(min(len(self._unsent), _BATCH))]
            self._wire.send(batch)
        if self._unsent and self._wire is None:
            self._flushing = True
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            if self._wire is None or not await self._is_primary(self._wire):
                self._lose(self._wire, RedisConnectionError("the server is the primary no more"))
                async with asyncio.timeout(self._connect_timeout_seconds):
                    connection = await self._endpoint.async_connection()
                    await connection.connect()
                refusals = REFUSALS if self._endpoint.sentinels else ()
                self._wire = _Wire(connection, refusals, lost=self._lose, emptied=self._flush)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self._flushing = False
            self._fail_unsent(_redis_error(error))
        else:
            self._flush()

    async def _is_primary(self, wire: _Wire) -> bool:
        self._look_at = time.monotonic() + _LOOK_SECONDS
        return await self._endpoint.is_primary(wire.connection)

    def _lose(self, wire: _Wire | None, error: BaseException) -> None:
        """Give a connection up; those who wait for its answers get the error."""
        if wire is self._wire:
            self._wire = None
        if wire is not None:
            wire.abandon(_redis_error(error))

    def _look_for_late(self) -> None:
        self._watch = None
        sent = self._wire.sent if self._wire is not None else ()
        oldest = sent[0] if sent else self._unsent[0][1] if self._unsent else None
        if oldest is None:
            return
        loop = asyncio.get_running_loop()
        late_at = oldest.at + self._timeout_seconds
        if loop.time() >= late_at:
            self._fail_all(RedisTimeoutError(f"no answer within {self._timeout_seconds:g} s"))
        else:
            self._watch = loop.call_at(late_at, self._look_for_late)

    def _fail_all(self, error: RedisError) -> None:
        self._lose(self._wire, error)
        self._fail_unsent(error)

    def _fail_unsent(self, error: RedisError) -> None:
        unsent, self._unsent = self._unsent, deque()
        for _, asked in unsent:
            asked.fail(error)


class _Asked:
    """The answer to a command, and since when somebody waits for it, by the loop's clock."""

    __slots__ = ("answer", "at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[Any] = loop.create_future()
        self.at = loop.time()

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():  # or its coroutine was cancelled
            self.answer.set_exception(error)


class _Wire(asyncio.Protocol):
    """A connection that is up.

    It takes the socket over from redis-py, which has connected, encrypted and authenticated it: its streams cost two
    more turns of the event loop for each answer.

    Args:
        connection: of redis-py, connected.
        refusals: words of errors after which the connection is of no use.
        lost: called when it has ended by itself.
        emptied: called when it can take more again.
    """

    def __init__(
        self,
        connection: Any,  # noqa: ANN401 - redis-py's connections have no types
        refusals: Iterable[str],
        *,
        lost: Callable[[_Wire, BaseException], None],
        emptied: Callable[[], None],
    ) -> None:
        self.connection = connection
        #: Those who wait for an answer, in the order of their commands.
        self.sent: deque[_Asked] = deque()
        #: Whether Redis takes no more at present.
        self.is_full = False
        self._refusals = tuple(refusals)
        self._lost = lost
        self._emptied = emptied
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=BaseParser.parse_error,
            encoding="utf-8",
            notEnoughData=_NOT_YET,
        )
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001 - there is no public way
        self._transport.set_protocol(self)
        if self._transport.is_closing():
            msg = "the connection has ended"
            raise RedisConnectionError(msg)

    def send(self, batch: Iterable[tuple[Command, _Asked]]) -> None:
        """Send commands in one packet."""
        packed = []
        for command, asked in batch:
            self.sent.append(asked)
            packed.append(_pack(command))
        self._transport.write(b"".join(packed))

    def abandon(self, error: RedisError) -> None:
        """Close it; who still waits gets the error."""
        waiting, self.sent = self.sent, deque()
        for asked in waiting:
            asked.fail(error)
        self._transport.abort()
        self.connection._reader = self.connection._writer = None  # noqa: SLF001 - it would close what is closed

    def data_received(self, data: bytes) -> None:
        """Hand on the answers that have come whole."""
        try:
            self._parser.feed(data)
            while (answer := self._parser.gets()) is not _NOT_YET:
                self._hand_on(answer)
        except (RedisError, UnicodeDecodeError) as error:
            self._lost(self, error)

    def _hand_on(self, answer: Any) -> None:  # noqa: ANN401
        if not self.sent:
            msg = "an answer that nobody has asked for"
            raise RedisConnectionError(msg)
        asked = self.sent.popleft()
        if not isinstance(answer, ResponseError):
            if not asked.answer.done():
                asked.answer.set_result(answer)
            return
        asked.fail(answer)
        if any(word in str(answer) for word in self._refusals):
            raise answer  # the server is the primary no more

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that it has ended."""
        self._lost(self, exc or RedisConnectionError("Redis has closed the connection"))

    def pause_writing(self) -> None:
        """Take no more."""
        self.is_full = True

    def resume_writing(self) -> None:
        """Take more again."""
        self.is_full = False
        self._emptied()


def _redis_error(error: BaseException) -> RedisError:
    return error if isinstance(error, RedisError) else RedisConnectionError(str(error) or type(error).__name__)
