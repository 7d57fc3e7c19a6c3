"""Submit tasks by name, from asyncio."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from celery.canvas import Signature
from redis.exceptions import RedisError

from celeriac.access import Token
from celeriac.broker.publication import Once, Publication, RateLimit
from celeriac.contract.tasks import SubmitView
from celeriac.errors import CeleriacError, Conflict, InvalidInput, TooMany, Unavailable
from celeriac.publishing.amqp import check_priority
from celeriac.publishing.envelopes import Args
from celeriac.publishing.outbox import Outbox

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

#: How long a submit is known by its idempotency key, seconds.
IDEMPOTENCY_SECONDS = 86_400

#: Tasks of a bulk submit that are written and sent in one go; other coroutines run in between.
_CHUNK = 100

#: When to try again where a queue is full, seconds.
_RETRY_FULL_SECONDS = 5


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A task that is to be submitted."""

    #: The task's name.
    name: str
    #: Its positional arguments, JSON.
    args: Args = ()
    #: Its named arguments, JSON.
    kwargs: dict[str, Any] = field(default_factory=dict)
    #: The queue; None for the task's own.
    queue: str | None = None
    #: 0 to 9, 9 first; None for the task's own, or 5.
    priority: int | None = None
    #: Seconds to wait before it may run.
    countdown: float | None = None
    #: The moment before which it may not run, aware.
    eta: datetime | None = None
    #: Seconds from now, or the moment, after which it is not run any more.
    expires: float | datetime | None = None

    @property
    def fingerprint(self) -> str:
        """What two requests have in common that ask for the same."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Submission:
    """What the caller of a submit gets to know."""

    task_id: str
    #: `celery`: a worker runs it.
    mode: str = "celery"
    #: It answers an earlier submit of the same idempotency key; nothing was submitted now.
    repeated: bool = False


class _Headers(Protocol):
    def __setitem__(self, key: str, value: str, /) -> None: ...


class _Response(Protocol):
    @property
    def headers(self) -> _Headers: ...


def accepted(response: _Response, submission: Submission) -> SubmitView:
    """Make the answer to a submit, and say in the response's `Location` where to follow the task."""
    url = status_url(submission.task_id)
    response.headers["Location"] = url
    return SubmitView(task_id=submission.task_id, status_url=url, mode=submission.mode)


def status_url(task_id: str) -> str:
    """Where to follow a task."""
    return f"/tasks/{task_id}"


async def submit(
    app: CeleriacApp,
    request: TaskRequest,
    *,
    by: Token | None = None,
    idempotency_key: str | None = None,
    fingerprint: str | None = None,
) -> Submission:
    """Submit a task, in one round trip to Redis.

    Args:
        app: the app whose task it is.
        request: the task.
        by: the token that submits, `request.state.token` in a route; its rate applies. None where there is none.
        idempotency_key: a name for this submit; another of the same name, by the same token and within a day, answers
            the task of the first.
        fingerprint: what a repeated submit has in common with the first; None for the request as it is.

    Raises:
        InvalidInput: there is no such task or queue, or an argument is wrong.
        Conflict: the idempotency key was used for another submit.
        TooMany: the queue is full, or the rate limit of the task or of the token is reached.
        Unavailable: Redis is away.
    """
    task_id = str(uuid4())
    publication = _written(app, request, task_id, by)
    if idempotency_key is not None:
        once = _once(app, by, idempotency_key, f"{task_id} {fingerprint or request.fingerprint}")
        publication = replace(publication, once=once)
    (answer,) = await app.publisher.send([publication])
    outcome = _outcome(publication, task_id, answer)
    if isinstance(outcome, CeleriacError):
        raise outcome
    return outcome


async def submit_all(
    app: CeleriacApp, requests: Sequence[TaskRequest], *, by: Token | None = None, idempotency_key: str | None = None
) -> list[Submission | CeleriacError]:
    """Submit many tasks; for each, in their order, its submission or what was wrong.

    Args:
        app: the app whose tasks they are.
        requests: the tasks.
        by: the token that submits; see `submit`.
        idempotency_key: a name for this submit; in another of the same name within a day each task answers that of
            the first which stood in its place.
    """
    chunks = [(start, requests[start : start + _CHUNK]) for start in range(0, len(requests), _CHUNK)]
    sent: list[asyncio.Task[list[Submission | CeleriacError]]] = []
    async with asyncio.TaskGroup() as group:
        for start, chunk in chunks:
            keys = None if idempotency_key is None else [f"{idempotency_key}\n{start + n}" for n in range(len(chunk))]
            sent.append(group.create_task(_submit_chunk(app, chunk, by, keys)))
            # While Redis takes one, the next one is written.
            await sent[max(0, len(sent) - 2)]
    return [outcome for task in sent for outcome in task.result()]


async def _submit_chunk(
    app: CeleriacApp, requests: Sequence[TaskRequest], by: Token | None, keys: Sequence[str] | None
) -> list[Submission | CeleriacError]:
    ids = [str(uuid4()) for _ in requests]
    written: list[Publication | CeleriacError] = []
    for place, (request, task_id) in enumerate(zip(requests, ids, strict=True)):
        try:
            publication = _written(app, request, task_id, by)
        except InvalidInput as error:
            written.append(error)
            continue
        if keys is not None:
            publication = replace(publication, once=_once(app, by, keys[place], f"{task_id} {request.fingerprint}"))
        written.append(publication)
    answers = iter(await app.publisher.send([each for each in written if isinstance(each, Publication)]))
    return [
        each if isinstance(each, CeleriacError) else _outcome(each, task_id, next(answers))
        for task_id, each in zip(ids, written, strict=True)
    ]


async def submit_canvas(app: CeleriacApp, signature: Signature) -> Submission:
    """Submit a chain, a group, a chord or any other signature; its id is that of its last task or group.

    Celery writes the messages, in a thread, for a chord keeps what it counts in Redis before.

    Args:
        app: the app whose tasks they are.
        signature: what to run.

    Raises:
        Unavailable: Redis is away; of a group some tasks may have been published.
    """
    outbox = Outbox()
    try:
        result = await asyncio.to_thread(signature.apply_async, producer=outbox.producer)
    except (RedisError, OSError) as error:
        raise _away(error) from error
    for answer in await app.publisher.send(outbox.take()):
        if isinstance(answer, BaseException):
            raise _away(answer)
    return Submission(str(result.id))


def _once(app: CeleriacApp, by: Token | None, idempotency_key: str, value: str) -> Once:
    # Each token has keys of its own, or one could learn the tasks of another by guessing them.
    key = hashlib.sha256(f"{by.name if by else ''}\n{idempotency_key}".encode()).hexdigest()
    return Once(app.keys.idempotency(key), value, IDEMPOTENCY_SECONDS)


def _away(error: BaseException) -> Unavailable:
    return Unavailable(f"the task was not accepted, for Redis cannot be reached: {error}")


def _written(app: CeleriacApp, request: TaskRequest, task_id: str, by: Token | None) -> Publication:
    """Write the message of a request.

    Raises:
        InvalidInput: there is no such task or queue, or an argument is wrong.
    """
    name, queue, expires = request.name, request.queue, request.expires
    task = app.tasks.get(name)
    if task is None or name.startswith("celery."):
        raise InvalidInput("name", name, f"no such task; known are {', '.join(app.task_names)}")
    if queue is not None and queue not in app.amqp.queues:
        raise InvalidInput("queue", queue, f"no such queue; known are {', '.join(sorted(app.amqp.queues))}")
    if request.countdown is not None and request.eta is not None:
        raise InvalidInput("countdown", request.countdown, "give countdown or eta, not both")
    if request.priority is not None:
        check_priority(request.priority)
    _check_arguments(task, request, app.settings.api.max_argument_bytes)
    now = datetime.now(UTC)
    eta = now + timedelta(seconds=request.countdown) if request.countdown else request.eta
    if expires is not None and not isinstance(expires, datetime):
        expires = now + timedelta(seconds=expires)
    publication = app.publisher.envelopes.write(
        name,
        request.args,
        request.kwargs,
        task_id=task_id,
        queue=queue,
        priority=request.priority,
        eta=eta,
        expires=expires,
    )
    limit, rate_limits = app.queue_limits.get(publication.queue), _rate_limits(app, name, by)
    if limit is None and not rate_limits:
        return publication
    return replace(publication, limit=limit, rate_limits=rate_limits)


def _rate_limits(app: CeleriacApp, name: str, by: Token | None) -> tuple[RateLimit, ...]:
    task, token = app.rate_limits.get(name), by.rate if by else None
    if task is None and token is None:
        return ()
    limits = []
    if task is not None:
        limits.append(RateLimit(app.keys.rate("task", name), task, f"task {name} is submitted"))
    if by is not None and token is not None:
        limits.append(RateLimit(app.keys.rate("token", by.name), token, f"token {by.name} submits"))
    return tuple(limits)


def _check_arguments(task: Any, request: TaskRequest, max_bytes: int) -> None:  # noqa: ANN401 - celery.Task
    """Refuse arguments that the task does not take, as `apply_async` does, that are no JSON, or more than `max_bytes`.

    Raises:
        InvalidInput: an argument is wrong.
    """
    try:
        task.__header__(*request.args, **request.kwargs)
    except TypeError as error:
        reason = f"{request.name} does not take these: {str(error).replace('<lambda>()', 'it')}"
        raise InvalidInput("args", [*request.args, request.kwargs], reason) from None
    try:
        size = len(json.dumps((request.args, request.kwargs), allow_nan=False))
    except ValueError:
        reason = "NaN and Infinity are no JSON; give null or a text"
        raise InvalidInput("args", [*request.args, request.kwargs], reason) from None
    if size > max_bytes:
        reason = f"a task takes {max_bytes:,} bytes of arguments; store what is larger and give its name"
        raise InvalidInput("args", f"{size:,} bytes as JSON", reason)


def _outcome(publication: Publication, task_id: str, answer: Any) -> Submission | CeleriacError:  # noqa: ANN401
    """What became of a publication, by what `publish.lua` answers."""
    if isinstance(answer, BaseException):
        return _away(answer)
    if isinstance(answer, str):
        known, _, first = answer.partition(" ")
        if publication.once is not None and publication.once.value.endswith(f" {first}"):
            return Submission(known, repeated=True)
        return Conflict(f"this idempotency key was used for another submit, of task {known}; give each its own")
    if isinstance(answer, list):
        number, wait_us = answer
        limit = publication.rate_limits[number - 1]
        seconds = wait_us / 1_000_000
        return TooMany(f"{limit.what} at most {limit.rate}; try again in {seconds:.3g} s", math.ceil(seconds))
    if answer < 0:
        message = f"queue is full: {-answer} messages wait, its limit; try again later"
        return TooMany(message, _RETRY_FULL_SECONDS)
    return Submission(task_id)
