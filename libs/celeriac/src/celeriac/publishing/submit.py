"""Submit a task by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from kombu.exceptions import OperationalError
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from celeriac.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp


@dataclass(frozen=True)
class Submission:
    """What the caller of a submit gets to know."""

    task_id: str
    #: `celery`: a worker runs it.
    mode: str = "celery"


class SubmitView(BaseModel):
    """The answer to a submit."""

    task_id: str
    status_url: str = Field(description="Where to follow the task.")
    mode: str = Field(description="How it runs: `celery`, by a worker.")


class _Headers(Protocol):
    def __setitem__(self, key: str, value: str, /) -> None: ...


class _Response(Protocol):
    @property
    def headers(self) -> _Headers: ...


def accepted(response: _Response, submission: Submission) -> SubmitView:
    """Make the answer to a submit, and say in the response's `Location` where to follow the task."""
    status_url = f"/tasks/{submission.task_id}"
    response.headers["Location"] = status_url
    return SubmitView(task_id=submission.task_id, status_url=status_url, mode=submission.mode)


async def submit(
    app: CeleriacApp,
    name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    queue: str | None = None,
    priority: int | None = None,
    countdown: float | None = None,
    eta: datetime | None = None,
    expires: float | datetime | None = None,
) -> Submission:
    """Submit a task from asyncio.

    Args:
        app: the app whose task it is.
        name: the task's name.
        args: its positional arguments, JSON.
        kwargs: its named arguments, JSON.
        queue: the queue; None for the task's own.
        priority: 0 to 9, 9 first; None for 5.
        countdown: seconds to wait before it may run.
        eta: the moment before which it may not run, aware.
        expires: seconds from now, or the moment, after which it is not run any more.

    Raises:
        InvalidInput: there is no such task or queue, or an argument is wrong.
        Unavailable: Redis is away.
    """
    if name not in app.task_names:
        raise InvalidInput("name", name, f"no such task; known are {', '.join(app.task_names)}")
    if queue is not None and queue not in app.amqp.queues:
        raise InvalidInput("queue", queue, f"no such queue; known are {', '.join(sorted(app.amqp.queues))}")
    if countdown is not None and eta is not None:
        raise InvalidInput("countdown", countdown, "give countdown or eta, not both")
    for field, value in (("args", args), ("kwargs", kwargs)):
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            raise InvalidInput(field, value, "NaN and Infinity are no JSON; give null or a text") from None
    task_id = str(uuid4())
    options = {"queue": queue, "priority": priority, "countdown": countdown, "eta": eta, "expires": expires}
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}

    def send() -> None:
        app.send_task(name, args=list(args), kwargs=dict(kwargs or {}), task_id=task_id, **given)

    try:
        await asyncio.to_thread(send)
    except (RedisError, OperationalError, OSError) as error:
        msg = f"the task was not accepted, for Redis cannot be reached: {error}"
        raise Unavailable(msg) from error
    return Submission(task_id)
