"""The end of tasks whose message is given up: they fail, and whoever waits for them is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import structlog
from celery.app.task import Context
from redis.exceptions import RedisError

from celeriac.broker import messages
from celeriac.broker.leases import DeathNotice, DeathPending, Delivery
from celeriac.contract.tasks import TaskState
from celeriac.errors import DeadLettered

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp
    from celeriac.results.backend import Backend

log = structlog.get_logger(__name__)

#: Who gives up a message waits so long for what follows, seconds; a keeper has leases to renew meanwhile.
_PATIENCE_SECONDS = 1.0

#: A death that nobody asks for any more is forgotten after so long, seconds.
_REMEMBERED_SECONDS = 300.0


@dataclass
class _Death:
    done: threading.Event = field(default_factory=threading.Event)
    #: Redis went away in the middle.
    failed: bool = False
    told_at: float = field(default_factory=time.monotonic)


class Deaths:
    """Ends each task whose message is given up, and tells its errbacks, its chain and its chord.

    Errbacks are other people's code, which a keeper cannot wait for: all this happens in a thread of its own, and
    whoever told of the death is asked to tell again until it is done. That also makes up for a process that is killed
    in the middle; then errbacks run once more.

    Args:
        end: ends the task of a notice.
    """

    def __init__(self, end: Callable[[DeathNotice], None]) -> None:
        self._end = end
        # No lock: gevent would not know one that was made before the worker chose its pool.
        self._deaths: dict[Delivery, _Death] = {}

    def __call__(self, notice: DeathNotice) -> None:
        """Be told of a death.

        Raises:
            DeathPending: what follows takes longer; tell again.
        """
        if _task_id(notice) is None:
            log.error("message_given_up", queue=notice.delivery.queue, reason=notice.reason, error=notice.error)
            return
        self._forget_old()
        new = _Death()
        # By the delivery: the task may be replayed, and die again.
        death = self._deaths.setdefault(notice.delivery, new)
        if death is new:
            threading.Thread(target=self._work, args=(notice, death), name="death", daemon=True).start()
        if not death.done.wait(_PATIENCE_SECONDS):
            raise DeathPending
        self._deaths.pop(notice.delivery, None)
        if death.failed:
            raise DeathPending

    def _work(self, notice: DeathNotice, death: _Death) -> None:
        try:
            self._end(notice)
        except RedisError as error:
            death.failed = True
            log.warning("death_postponed", queue=notice.delivery.queue, task_id=_task_id(notice), error=str(error))
        except Exception:  # the message is given up all the same
            log.exception("death_not_told", queue=notice.delivery.queue, task_id=_task_id(notice))
        finally:
            death.done.set()

    def _forget_old(self) -> None:
        horizon = time.monotonic() - _REMEMBERED_SECONDS
        for delivery, death in list(self._deaths.items()):
            if death.done.is_set() and death.told_at < horizon:
                self._deaths.pop(delivery, None)


def end_task(app: CeleriacApp, notice: DeathNotice) -> None:
    """End the task of a message that is given up; one that has ended already stays as it is.

    A message whose body cannot be read has no chord and no errbacks that could be told.
    """
    message = cast("dict[str, Any]", notice.message)
    task_id = cast("str", _task_id(notice))
    log.error(
        "message_given_up",
        queue=notice.delivery.queue,
        task=message["headers"].get("task"),
        task_id=task_id,
        reason=notice.reason,
        error=notice.error,
    )
    backend = cast("Backend", app.backend)
    request = request_of(message)
    state = app.records.state(task_id)
    if state is not None and state.ready and not _failed_by_death(backend, task_id, state):
        backend.finish_again(task_id, state, request)
        return
    backend.mark_as_failure(task_id, _error(notice), request=request, store_result=not request.ignore_result)


def _failed_by_death(backend: Backend, task_id: str, state: TaskState) -> bool:
    """Whether it is this death that the task has failed by, told of before by a process that may not have finished."""
    return state is TaskState.FAILURE and isinstance(backend.get_result(task_id), DeadLettered)


def _error(notice: DeathNotice) -> DeadLettered:
    why = f"{notice.reason}: {notice.error}" if notice.error else notice.reason
    return DeadLettered(f"{why}; its message is a dead letter of queue {notice.delivery.queue}")


def _task_id(notice: DeathNotice) -> str | None:
    task_id = notice.message["headers"].get("id") if notice.message else None
    return task_id if isinstance(task_id, str) else None


def request_of(message: dict[str, Any]) -> Any:  # noqa: ANN401 - celery.app.task.Context has no useful type
    """What the backend needs to know of the task of a message, as its own request would say it."""
    args, kwargs, embed = _body(message)
    headers, properties = message["headers"], message["properties"]
    links = {name: embed.get(name) for name in ("callbacks", "errbacks", "chain", "chord")}
    return Context(
        {
            **headers,
            **links,
            "args": args,
            "kwargs": kwargs,
            "called_directly": False,
            "is_eager": False,
            "correlation_id": properties.get("correlation_id"),
            "reply_to": properties.get("reply_to"),
            "delivery_info": {"routing_key": properties["delivery_info"].get("routing_key"), "is_eager": False},
        }
    )


def _body(message: dict[str, Any]) -> tuple[Any, Any, Mapping[str, Any]]:
    try:
        args, kwargs, embed = messages.content(message)
    except (ValueError, TypeError):
        return (), {}, {}
    return args, kwargs, embed if isinstance(embed, dict) else {}
