"""The class of every task: progress, and retries that distinguish temporary errors from permanent ones.

    @shared_task(bind=True)
    def embed(self: Task, document_id: int) -> dict[str, int]:
        for done, chunk in enumerate(chunks, start=1):
            ...
            self.progress(done, len(chunks))

`on_success` and `on_failure`, overridden in a subclass named by `base=`, are Celery's hooks for the two ends; there are
`before_start`, `on_retry` and `after_return` besides. What of a class is refused, `check_class` says.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import celery
import structlog
from celery.exceptions import BackendError, Ignore
from redis.exceptions import RedisError

from celeriac.broker.leases import Delivery, Leases
from celeriac.errors import ConfigurationError
from celeriac.publishing.shortcut import publish_plain
from celeriac.results.files import ResultNotStored
from celeriac.results.patience import PATIENCE_SECONDS, patiently
from celeriac.results.start import begin

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp
    from celeriac.results.backend import Backend

log = structlog.get_logger(__name__)

#: Progress is stored at most so often, seconds: people cannot read faster, and each is a round trip.
PROGRESS_INTERVAL_SECONDS = 0.2


class TemporaryError(Exception):
    """Something that may work later, such as a server that did not answer: the task is tried again."""


class PermanentError(Exception):
    """Something that will not work however often it is tried, such as a file that is no workbook: the task fails."""


@dataclass(frozen=True)
class Lease:
    """What a task holds while it runs: nobody else is given its message.

    A worker that is paused for longer than the lease loses it without knowing. Whoever writes to something that
    Celeriac does not guard hands it the token, and has it refuse any that is smaller than one it has seen; or asks
    `still_mine` just before, which leaves a short time in which it may be lost.
    """

    _delivery: Delivery
    _leases: Leases

    @property
    def token(self) -> int:
        """The fencing token: larger for each later delivery of whatever message."""
        return self._delivery.tag

    def still_mine(self) -> bool:
        """Ask Redis whether the message is still this task's.

        Raises:
            RedisError: Redis cannot be reached.
        """
        return self._leases.is_held(self._delivery)


class Task(celery.Task[..., Any]):
    """A Celery task with Celeriac's habits; the base of every task of a Celeriac app.

    A `TemporaryError` is tried again `max_retries` times, `default_retry_delay` seconds apart, doubling up to
    `retry_delay_max` and spread by a quarter either way. A `PermanentError` never is, also where it is a subclass of
    something that `autoretry_for` names. Any other exception fails the task, unless `autoretry_for` names it.
    """

    autoretry_for: tuple[type[BaseException], ...] = (TemporaryError,)
    dont_autoretry_for: tuple[type[BaseException], ...] = (PermanentError,)
    max_retries = 3
    #: Seconds before the first retry.
    default_retry_delay = 60
    #: The longest delay between two tries, seconds.
    retry_delay_max = 600
    Request = "celeriac.execution.request:Request"

    def apply_async(  # type: ignore[override]  # of Celery's options it names one
        self,
        args: Any = None,  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
        task_id: str | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Publish the task; see `celery.Task.apply_async`."""
        task_id = task_id or str(uuid4())
        if publish_plain(self, args or (), kwargs or {}, task_id, options):
            result = self.AsyncResult(task_id)
            result.ignored = self.ignore_result
            return result
        return super().apply_async(args, kwargs, task_id=task_id, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - what the task takes and returns
        """Run the task: in a worker only if its message is still this worker's, and it has not ended or run elsewhere.

        Raises:
            Ignore: in a worker, if it must not run, or its end is no longer this worker's to report.
            ResultNotStored: in a worker, if something is to follow, and the result is larger than may be.
        """
        request: Any = self.request
        if request.called_directly or request.is_eager:
            return super().__call__(*args, **kwargs)
        begin(self)
        result = self.run(*args, **kwargs)
        lease = self.lease if request.callbacks or request.chain else None
        if (request.callbacks or request.chain) and not request.ignore_result:
            cast("Backend", self.backend).check(result)  # what follows a task that fails by this does not begin
        if lease and not patiently("the lease of a task", lease.still_mine, PATIENCE_SECONDS):
            # What follows is published before the result is stored, which would be refused.
            log.warning("successors_not_published", task=self.name, task_id=request.id, token=lease.token)
            raise Ignore("the lease was given to another")
        return result

    @property
    def lease(self) -> Lease | None:
        """The lease that the task runs under; None where it was called directly or is acknowledged early."""
        delivery = cast("Backend", self.backend).delivery(self.request)
        return None if delivery is None else Lease(delivery, self.platform.leases)

    @property
    def platform(self) -> CeleriacApp:
        """The app, with the database and the file store."""
        return cast("CeleriacApp", self.app)

    def progress(self, current: int, total: int | None, message: str | None = None) -> None:
        """Report how far the task has come, as state `PROGRESS`.

        Args:
            current: units of work that are done.
            total: units in all, or None while that is not known.
            message: what is being done, for people.
        """
        now = time.monotonic()
        # Kept with the request, for the task itself lives on and serves the next.
        if self.request.called_directly or (now < self.request.get("next_progress", 0.0) and current != total):
            return
        self.request.update(next_progress=now + PROGRESS_INTERVAL_SECONDS)
        percent = round(100 * current / total, 1) if total else None
        meta = {"current": current, "total": total, "percent": percent, "message": message}
        try:
            self.update_state(state="PROGRESS", meta={key: value for key, value in meta.items() if value is not None})
        except (RedisError, BackendError, ResultNotStored) as error:
            # Losing progress is no reason to lose the task.
            log.warning("progress_lost", task_id=self.request.id, error=str(error))

    def retry_delay(self, retries: int) -> float:
        """Seconds to wait before the retry that follows `retries` earlier ones."""
        doublings = min(retries, 64)  # more would overflow, and the maximum is long reached
        delay = min(self.default_retry_delay * 2.0**doublings, self.retry_delay_max)
        return float(delay * random.uniform(0.75, 1.25))

    def retry(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's signature
        """Try again, after `retry_delay` unless `countdown` or `eta` say when; see `celery.Task.retry`."""
        if kwargs.get("countdown") is None and kwargs.get("eta") is None:
            kwargs["countdown"] = self.retry_delay(self.request.retries)
        return super().retry(*args, **kwargs)


def on_task(base: type[celery.Task[..., Any]]) -> type[Task]:
    """The class that a function's task is of: what `base=` names, on `Task` where it knows only `celery.Task`."""
    if issubclass(base, Task):
        return base
    if issubclass(Task, base):
        return Task
    plain = cast("type", base)
    return type(plain.__name__, (plain, Task), {"__module__": plain.__module__, "abstract": True})


def check_class(task: celery.Task[..., Any]) -> None:
    """Refuse a task that might run without asking whether its message is still this worker's.

    Celery's worker calls the `__call__` of a task's class. That of `celery.Task` does not ask; whether one of a
    subclass' own does, by calling `Task`'s first, cannot be told from outside. So each but `Task`'s is refused.

    Raises:
        ConfigurationError: its class has a `__call__` other than `Task`'s.
    """
    cls = type(task)
    if cls.__call__ is Task.__call__:
        return
    if not isinstance(task, Task):
        base, what = cls, "is no celeriac.Task; derive it from celeriac.Task"
    else:
        base = next(base for base in cls.__mro__ if "__call__" in vars(base))
        what = (
            "has a `__call__` of its own; override run, before_start, after_return, on_success or on_failure instead, "
            "or decorate the task's function"
        )
    msg = f"task {task.name!r}: its class {base.__module__}.{base.__qualname__} {what}"
    raise ConfigurationError(msg)
