"""The connection that reads the stream of events, for all listeners of a process."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac.broker import Endpoint
from celeriac.events.event import START, Entry, place

log = structlog.get_logger(__name__)

#: Events that are read in one go.
_READ: Final = 1000

#: From one answer to the next question, seconds: where changes come in thousands a second, they are read in batches.
_PACE_SECONDS: Final = 0.005

#: How long Redis keeps a question open while nothing happens, seconds; what then does not answer at all is away.
_BLOCK_SECONDS: Final = 5.0
#: The same behind Sentinels, which may have named another primary meanwhile.
_LOOK_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 3.0

_CONNECT_SECONDS: Final = 2.0
#: From one attempt to connect to the next, seconds.
_PAUSE_SECONDS: Final = 0.5

_STOPPED: Final = "nobody reads events any more"


class Reader:
    """Reads on while it runs, from the end of the stream as it is at first; connects anew when it has to.

    Args:
        endpoint: where Redis is.
        key: the stream.
        tell: is given the entries, in their order.
        missed: is called where there may have been others: Redis was away, or had trimmed them before they were read.
    """

    def __init__(
        self, endpoint: Endpoint, key: str, tell: Callable[[Sequence[Entry]], None], missed: Callable[[], None]
    ) -> None:
        self._endpoint = endpoint
        self._key = key
        self._tell = tell
        self._missed = missed
        self._task: asyncio.Task[None] | None = None
        #: The present attempt to connect; or the last one, while there is none.
        self._connecting: asyncio.Future[None] | None = None
        #: The id of the last event that was read; None before the first connection.
        self._after: str | None = None

    async def connected(self) -> str:
        """Begin to read, if need be; gives the id of the event after which all others are told.

        Raises:
            RedisError: Redis is away, and reading begins by itself when it is back; or it was stopped meanwhile.
        """
        if self._task is None:
            self._connecting = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._run())
        if self._connecting is not None:
            await asyncio.shield(self._connecting)
        if self._after is None:
            raise RedisConnectionError(_STOPPED)
        return self._after

    def stop(self) -> None:
        """Stop reading; what happens until it begins again is not told."""
        task, self._task = self._task, None
        self._after = None
        if task is not None:
            task.cancel()
            self._fail(RedisConnectionError(_STOPPED))

    async def _run(self) -> None:
        away = False
        while True:
            try:
                async with self._connection() as connection:
                    await self._begin(connection)
                    if away:
                        log.info("events_resumed", after=self._after)
                    away = False
                    await self._follow(connection)
            except (RedisError, OSError, TimeoutError) as error:
                if not away:
                    log.warning("events_interrupted", error=str(error) or type(error).__name__)
                away = True
                self._fail(error)
            except Exception as error:  # a mistake of ours: those who listen must not wait forever
                log.exception("events_interrupted")
                away = True
                self._fail(error)
            await asyncio.sleep(_PAUSE_SECONDS)
            self._connecting = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        async with asyncio.timeout(_CONNECT_SECONDS):
            connection = await self._endpoint.async_connection()
            await connection.connect()
        try:
            yield connection
        finally:
            await connection.disconnect(nowait=True)

    async def _begin(self, connection: Any) -> None:  # noqa: ANN401 - redis-py's connections have no types
        (last,) = await self._ask(connection, [("XREVRANGE", self._key, "+", "-", "COUNT", 1)])
        end = str(last[0][0]) if last else START
        if self._after is None:
            self._after = end
        else:
            if place(end) < place(self._after):
                self._after = end  # Redis has lost what it had
            self._missed()
        connecting = self._connecting
        if connecting is not None and not connecting.done():
            connecting.set_result(None)

    async def _follow(self, connection: Any) -> None:  # noqa: ANN401
        block = _LOOK_SECONDS if self._endpoint.sentinels else _BLOCK_SECONDS
        while True:
            # Both are answered in one step, unless nothing is there to be read, and then nothing can be missing.
            first, answer = await self._ask(
                connection,
                [
                    ("XRANGE", self._key, "-", "+", "COUNT", 1),
                    ("XREAD", "COUNT", _READ, "BLOCK", int(block * 1000), "STREAMS", self._key, self._after),
                ],
            )
            if first and place(self._after or START) < place(first[0][0]):
                self._missed()
            if answer:
                ((_, entries),) = answer
                self._after = entries[-1][0]
                self._tell(entries)
                await asyncio.sleep(_PACE_SECONDS)
            elif not await self._endpoint.is_primary(connection):
                raise RedisConnectionError("another server is the primary now")

    async def _ask(self, connection: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:  # noqa: ANN401
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        try:
            async with asyncio.timeout(_BLOCK_SECONDS + _PATIENCE_SECONDS):
                return [await connection.read_response(timeout=math.inf) for _ in commands]
        except TimeoutError:
            raise RedisTimeoutError("no answer") from None

    def _fail(self, error: BaseException) -> None:
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.get_running_loop().create_future()
        failure = error if isinstance(error, RedisError) else RedisConnectionError(str(error) or type(error).__name__)
        self._connecting.set_exception(failure)
        self._connecting.exception()  # perhaps nobody waits for it
