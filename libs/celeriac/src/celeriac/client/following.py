"""Streams of events that are taken up again where they were cut off, by a client of either kind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import httpx

from celeriac.client import calls
from celeriac.client.call import Call
from celeriac.client.conversation import error_of
from celeriac.client.errors import ApiError
from celeriac.client.event_stream import Reader
from celeriac.contract.tasks import TaskChange, TaskView

E = TypeVar("E")

#: A stream on which nothing comes for so long is dead, seconds: the API sends something every 15 s.
SILENCE_SECONDS = 40.0

#: How long to wait before an interrupted stream is asked for again, seconds.
PAUSE_SECONDS = 1.0

_TEMPORARY = frozenset(
    {
        httpx.codes.TOO_MANY_REQUESTS,
        httpx.codes.BAD_GATEWAY,
        httpx.codes.SERVICE_UNAVAILABLE,
        httpx.codes.GATEWAY_TIMEOUT,
    }
)


class Following(Generic[E]):
    """A stream, over all the responses that it takes.

    Args:
        call: what to ask for, of which path and parameters count.
        parse: makes an event out of its data.
        is_last: whether nothing comes after an event.
        patience_seconds: how long an API that has answered once may be away.
    """

    def __init__(
        self, call: Call[Any], parse: Callable[[Any], E], is_last: Callable[[E], bool], patience_seconds: float
    ) -> None:
        self._call = call
        self._parse = parse
        self._is_last = is_last
        self._patience_seconds = patience_seconds
        self._reader = Reader()
        self._heard_at: float | None = None
        self.ended = False

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Ask for the stream, or for the rest of it."""
        self._reader = Reader(self._reader.last_id)
        request = self._call.request(http)
        if self._reader.last_id:
            request.headers["Last-Event-ID"] = self._reader.last_id
        request.extensions["timeout"]["read"] = SILENCE_SECONDS
        return request

    def begin(self, response: httpx.Response) -> bool:
        """Whether an answer is a stream; none comes where the last event has been had.

        Raises:
            ApiError: it is an error; the response must have been read.
        """
        if response.is_error:
            raise ApiError.of(response)
        self.ended = response.status_code == httpx.codes.NO_CONTENT
        return not self.ended

    def events(self, chunk: bytes) -> Iterator[E]:
        """The events that a piece of the stream brings."""
        for message in self._reader.feed(chunk):
            self._heard_at = time.monotonic()
            if message.data is None or message.event != "message":
                continue
            event = self._parse(json.loads(message.data))
            yield event
            if self._is_last(event):
                self.ended = True
                return

    def pause(self, error: ApiError | httpx.HTTPError | None, http: httpx.Client | httpx.AsyncClient) -> float:
        """How long to wait before it is asked for again, seconds.

        Args:
            error: why it was cut off; None where it came to an end of its own.
            http: what it came by.

        Raises:
            ApiError: the API refuses.
            Unavailable: it does not answer, or no longer.
        """
        if isinstance(error, ApiError):
            if error.http_status not in _TEMPORARY or not self._may_return():
                raise error
        elif error is not None and not self._may_return():
            raise error_of(error, http) from error
        return PAUSE_SECONDS

    def _may_return(self) -> bool:
        return self._heard_at is not None and time.monotonic() - self._heard_at < self._patience_seconds


def task(task_id: str, *, patience_seconds: float = 60) -> Following[TaskView]:
    """Follow a task: it as it is now, then after each change, until it has ended; several may come as one.

    Args:
        task_id: the task.
        patience_seconds: how long an API that has answered once may be away; the stream goes on where it was.
    """
    call = calls.follow_task(task_id)
    return Following(call, TaskView.model_validate, lambda shown: shown.ready, patience_seconds)


def tasks(
    *,
    state: str | None = None,
    queue: str | None = None,
    name: str | None = None,
    patience_seconds: float = 60,
) -> Following[TaskChange]:
    """Follow all tasks: each change from now on, for ever.

    Args:
        state: only changes to this state.
        queue: only tasks of this queue.
        name: only tasks of this name.
        patience_seconds: how long an API that has answered once may be away; the stream goes on where it was.
    """
    call = calls.follow_tasks(state=state, queue=queue, name=name)
    return Following(call, TaskChange.model_validate, lambda _change: False, patience_seconds)
