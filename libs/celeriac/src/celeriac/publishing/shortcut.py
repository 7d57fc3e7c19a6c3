"""The short way of `.delay()` and plain calls of `apply_async`, past what Celery does for options they do not use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from kombu.exceptions import OperationalError
from kombu.utils.functional import retry_over_time
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac.publishing.amqp import check_priority

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)
_OPTIONS = frozenset({"queue", "priority"})


def publish_plain(
    task: Any,  # noqa: ANN401 - has what Celery puts on classes that it makes
    args: Any,  # noqa: ANN401 - whatever the caller gave
    kwargs: Any,  # noqa: ANN401
    task_id: str,
    options: Mapping[str, Any],
) -> bool:
    """Publish a task in one round trip, if nothing about its call needs Celery.

    Args:
        task: the task, a `celeriac.Task`.
        args: its positional arguments.
        kwargs: its named arguments.
        task_id: its id.
        options: of `apply_async`.

    Returns:
        Whether it was published; if not, Celery is to do it.

    Raises:
        TypeError: the task does not take these arguments.
        InvalidInput: the priority is no whole number from 0 to 9.
        EncodeError: an argument is no JSON.
        OperationalError: Redis is away, or refuses; as with Celery, the task may have been published.
    """
    if not (_OPTIONS.issuperset(options) and isinstance(args, list | tuple) and isinstance(kwargs, dict)):
        return False
    app = cast("CeleriacApp", task.app)
    queue, priority = options.get("queue"), options.get("priority")
    if app.conf.task_always_eager or not _is_plain(task) or not isinstance(queue, str | None):
        return False
    if task.typing:
        task.__header__(*args, **kwargs)
    if priority is not None:
        check_priority(priority)
    publication = app.publisher.envelopes.fill(task.name, args, kwargs, task_id=task_id, queue=queue, priority=priority)
    if publication is None:
        return False
    try:
        retry_over_time(app.publisher.send_blocking, _AWAY, (publication,), **app.conf.task_publish_retry_policy)
    except (RedisError, OSError) as error:
        raise OperationalError(str(error)) from error
    return True


def _is_plain(task: Any) -> bool:  # noqa: ANN401
    """Whether `apply_async` of its class does no more than to write a message and to send it."""
    limits_agree = not (task.soft_time_limit and task.time_limit and task.soft_time_limit > task.time_limit)
    return limits_agree and task._dump_pydantic_arguments is None  # noqa: SLF001 - as `apply_async` asks
