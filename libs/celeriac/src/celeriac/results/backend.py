"""The result backend: Celery's own for Redis, which keeps the task records in step and refuses what comes too late."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import structlog
from celery.backends.redis import RedisBackend
from celery.canvas import _chain, chord, group, maybe_signature
from celery.exceptions import QueueNotFound, TaskRevokedError
from redis import Redis

from celeriac.broker import DEFAULT_PRIORITY
from celeriac.broker.leases import Delivery
from celeriac.results.files import NAMED_SECONDS, ResultNotStored
from celeriac.results.patience import PATIENCE_SECONDS, patiently
from celeriac.results.record import FILE_FIELD, result_file
from celeriac.results.records import StoredResult

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

log = structlog.get_logger(__name__)


class Backend(RedisBackend):
    """Stores results where `AsyncResult` looks for them, and each change of state in the task's record.

    Both are one script, which also asks whether the delivery that the task runs under is still leased: a worker that
    was paused for longer than its lease cannot overwrite what the next one has stored.
    """

    app: CeleriacApp

    def __init__(self, *args: Any, app: CeleriacApp, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's signature
        for name in ("task_keyprefix", "group_keyprefix", "chord_keyprefix"):
            setattr(self, name, app.keys.prefix + getattr(type(self), name))
        super().__init__(*args, app=app, **kwargs)

    def _create_client(self, **_params: Any) -> Redis:  # noqa: ANN401 - Celery's signature
        pool = self.app.endpoint.pool(
            socket_timeout=self.app.conf.redis_socket_timeout,
            socket_connect_timeout=self.app.conf.redis_socket_connect_timeout,
            health_check_interval=25,
        )
        return Redis(connection_pool=pool)

    def on_task_call(self, producer: Any, task_id: str) -> None:  # noqa: ANN401
        """Do nothing when a task is published: whoever waits for its result subscribes to it then.

        Celery subscribes here already, which costs each publish a round trip, and 30 s where Redis is away.
        """

    def delivery(self, request: Any) -> Delivery | None:  # noqa: ANN401 - celery.app.task.Context
        """The lease that a task runs under; None where there is none, or its message is acknowledged early."""
        if request is None or getattr(request, "is_eager", False):
            return None
        task = self.app.tasks.get(str(getattr(request, "task", "")))
        if task is None or not task.acks_late:
            return None
        return Delivery.of(getattr(request, "properties", None) or {})

    def stored(self, meta: dict[str, Any], delivery: Delivery | None = None) -> StoredResult:
        """Encode what `AsyncResult` is to find, and write what is too large for Redis to a file.

        Args:
            meta: what Celery would store.
            delivery: the lease that the task runs under, where there is one.

        Raises:
            ResultNotStored: what a task returned is larger than may be, or the file store is away; or something else,
                such as progress, is too large for Redis.
        """
        expires = self.failure_expires if meta["status"] == "FAILURE" else self.expires
        expires_seconds = int(expires) if expires else None
        text = cast("str", self.encode(meta))
        limit = self.app.settings.results.inline_bytes
        if len(text) <= limit:
            return StoredResult(text, expires_seconds)
        if meta["status"] in self.EXCEPTION_STATES:
            return StoredResult(cast("str", self.encode(_shortened(meta, limit))), expires_seconds)
        if meta["status"] != "SUCCESS":
            msg = f"what is stored of a task that has not ended takes {len(text)} bytes, more than {limit}"
            raise ResultNotStored(msg)
        value = self._value(meta["result"])
        if len(value) <= limit:
            return StoredResult(text, expires_seconds)
        name = self.app.result_files.write(value, delivery.tag if delivery else None)
        rest = meta | {"result": None, FILE_FIELD: {"name": name, "bytes": len(value)}}
        return StoredResult(cast("str", self.encode(rest)), expires_seconds, name)

    def check(self, result: Any) -> None:  # noqa: ANN401 - what a task returned
        """Refuse what cannot be stored.

        Raises:
            ResultNotStored: it is larger than may be.
            EncodeError: it is no JSON.
        """
        self._value(self.encode_result(result, "SUCCESS"))

    def _value(self, value: Any) -> str:  # noqa: ANN401
        text = cast("str", self.encode(value))
        limit = self.app.settings.results.max_bytes
        if len(text) > limit:
            size = f"its result takes {len(text)} bytes as JSON, more than CELERIAC_RESULTS__MAX_BYTES ({limit:d})"
            msg = f"{size}; return less, or put it into the file store and return its key"
            raise ResultNotStored(msg)
        return text

    def meta_from_decoded(self, meta: Any) -> Any:  # noqa: ANN401 - as Celery's
        """Read what lies in a file.

        Raises:
            NotFound: it has just expired.
            Unavailable: the file store is away.
        """
        file = result_file(meta)
        if file is not None:
            meta["result"] = self.decode(cast("Any", self.app.result_files.read(file.name)))
        return super().meta_from_decoded(meta)

    def revocation(self, task_id: str, reason: str) -> StoredResult:
        """What `AsyncResult` is to find of a task that is cancelled."""
        return self._encoded(task_id, TaskRevokedError(reason), "REVOKED", None, None)

    def _encoded(
        self,
        task_id: str,
        value: Any,  # noqa: ANN401 - what the task returned or raised
        state: str,
        traceback: Any,  # noqa: ANN401
        request: Any,  # noqa: ANN401
    ) -> StoredResult:
        result = self.encode_result(value, state)
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        return self.stored(meta | {"task_id": task_id}, self.delivery(request))

    def _store_result(
        self,
        task_id: str,
        result: Any,  # noqa: ANN401 - what the task returned
        state: str,
        traceback: str | None = None,
        request: Any = None,  # noqa: ANN401
        **_kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        stored = self.stored(meta | {"task_id": task_id}, self.delivery(request))
        self._record(task_id, state, request, stored)
        return result

    def mark_as_done(
        self,
        task_id: str,
        result: Any,  # noqa: ANN401
        request: Any = None,  # noqa: ANN401
        store_result: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        state: str = "SUCCESS",
    ) -> None:
        """Record the end of a task, and acknowledge its message where no chord waits for it."""
        stored = self._encoded(task_id, result, state, None, request) if store_result else None
        outcome = self._record(task_id, state, request, stored, acknowledges=acknowledged_with_result(request))
        # Of a worker whose lease was given to another, nothing follows.
        if outcome != "lost" and request is not None and request.chord:
            self.on_chord_part_return(request, state, result)

    def mark_as_failure(
        self,
        task_id: str,
        exc: Exception,
        traceback: Any = None,  # noqa: ANN401
        request: Any = None,  # noqa: ANN401
        store_result: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        call_errbacks: bool = True,  # noqa: FBT001, FBT002
        state: str = "FAILURE",
    ) -> None:
        """Record the failure of a task that keeps no result, too."""
        stored = self._encoded(task_id, exc, state, traceback, request) if store_result else None
        # Of a worker whose lease was given to another, nothing follows.
        if self._record(task_id, state, request, stored) != "lost" and request is not None:
            self._follow_failure(
                request, exc, traceback, store_result=store_result, call_errbacks=call_errbacks, state=state
            )

    def mark_as_retry(
        self,
        task_id: str,
        exc: Exception,
        traceback: Any = None,  # noqa: ANN401
        request: Any = None,  # noqa: ANN401
        store_result: bool = True,  # noqa: ARG002, FBT001, FBT002 - Celery's signature
        state: str = "RETRY",
    ) -> None:
        """Record that the next try of a task has been published; `update_state` can say RETRY without one."""
        stored = self._encoded(task_id, exc, state, traceback, request)
        self._record(task_id, state, request, stored, next_try=(getattr(request, "retries", None) or 0) + 1)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,  # noqa: ANN401
        store_result: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        state: str = "REVOKED",
    ) -> None:
        """Record the cancellation of a task that keeps no result, too."""
        error = TaskRevokedError(reason)
        stored = self._encoded(task_id, error, state, None, request) if store_result else None
        if self._record(task_id, state, request, stored) != "lost" and request is not None and request.chord:
            self.on_chord_part_return(request, state, error)

    def chord_error_from_stack(self, callback: Any, exc: Exception | None = None) -> Any:  # noqa: ANN401
        """Fail the body of a chord whose header has failed; it was never published, and has no record yet."""
        self._add_records([callback])
        return super().chord_error_from_stack(callback, exc)

    def _fail_chain(
        self,
        chain: Any,  # noqa: ANN401 - signatures, None or something else
        exc: Exception,
        traceback: Any = None,  # noqa: ANN401
        store_result: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        state: str = "FAILURE",
    ) -> None:
        if store_result and isinstance(chain, Sequence):
            self._add_records(chain)
        super()._fail_chain(chain, exc, traceback, store_result=store_result, state=state)

    def _follow_failure(
        self,
        request: Any,  # noqa: ANN401
        exc: Exception,
        traceback: Any,  # noqa: ANN401
        *,
        store_result: bool,
        call_errbacks: bool = True,
        state: str = "FAILURE",
    ) -> None:
        """Tell the chord, the chain and the errbacks of a task, as Celery's `mark_as_failure` does."""
        if request.chord:
            self.on_chord_part_return(request, state, exc)
        self._fail_chain(request.chain, exc, traceback, store_result=store_result, state=state)
        if call_errbacks and request.errbacks:
            self._call_task_errbacks(request, exc, traceback)

    def _add_records(self, signatures: Iterable[Any]) -> None:
        for signature in unpublished(signatures, self.app):
            task_id = signature.options.get("task_id")
            if task_id is None:
                continue
            queue, priority = self._destination(signature)
            add = partial(self.app.records.add, task_id, name=signature.task, queue=queue, priority=priority)
            patiently("the record of what was to follow", add, PATIENCE_SECONDS)

    def _destination(self, signature: Any) -> tuple[str, int]:  # noqa: ANN401 - celery.canvas.Signature
        try:
            route = self.app.amqp.router.route(dict(signature.options), signature.task)
        except QueueNotFound:
            route = {}
        priority = route.get("priority")
        return getattr(route.get("queue"), "name", ""), DEFAULT_PRIORITY if priority is None else priority

    def on_chord_part_return(  # type: ignore[override]
        self,
        request: Any,  # noqa: ANN401
        state: str,
        result: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Count the part of a chord, which Celery does only once for each."""
        part = super().on_chord_part_return
        patiently("the part of a chord", lambda: part(request, state, result, **kwargs), PATIENCE_SECONDS)

    def finish_again(self, task_id: str, state: str, request: Any) -> None:  # noqa: ANN401
        """Do what follows the end of a task once more: its worker may have been killed between the two."""
        if state != "FAILURE" and not request.chord:
            return
        result = patiently("the result of a task", lambda: self.get_result(task_id), PATIENCE_SECONDS)
        if state == "FAILURE":
            self._follow_failure(request, result, None, store_result=result is not None)
        else:
            self.on_chord_part_return(request, state, result)

    def _record(
        self,
        task_id: str,
        state: str,
        request: Any,  # noqa: ANN401
        result: StoredResult | None,
        *,
        next_try: int | None = None,
        acknowledges: bool = False,
    ) -> str:
        if request is not None and request.is_eager and result is None:
            return ""  # what runs where it was called has no record
        worker = getattr(request, "hostname", None)

        def store() -> str:
            return self.app.records.store(
                task_id,
                state,
                delivery=self.delivery(request),
                worker=worker,
                retries=getattr(request, "retries", None) or 0,
                next_try=next_try,
                result=result,
                acknowledges=acknowledges,
            )

        # What a worker has done is not lost; progress may be, and who asks from elsewhere is told.
        waits = worker is not None and state in {*self.READY_STATES, "RETRY"}
        outcome = patiently("the end of a task", store, PATIENCE_SECONDS) if waits else store()
        if result is not None and result.file is not None and outcome != "stored":
            self.app.result_files.discard(result.file)
        if outcome == "removed":
            msg = f"its result was not stored within {NAMED_SECONDS} s, after which its file is removed"
            raise ResultNotStored(msg)
        if outcome == "lost":
            log.warning(
                "result_refused",
                task_id=task_id,
                state=state,
                token=getattr(self.delivery(request), "tag", None),
                reason="the lease had ended, and the message was given to another",
            )
        return outcome


def _shortened(meta: dict[str, Any], limit: int) -> dict[str, Any]:
    """What is stored of an error, such that it takes less than a limit, bytes."""
    kept = limit // 16  # a character may take six bytes
    error = meta["result"] if isinstance(meta["result"], dict) else {"exc_message": meta["result"]}
    message = error.get("exc_message", "")
    text = ", ".join(str(part) for part in message) if isinstance(message, list | tuple) else str(message)
    if len(text) > kept:
        text = f"{text[:kept]}… ({len(text)} characters in all)"
    result = {"exc_type": "Exception", "exc_module": "builtins", **error, "exc_message": [text]}
    return meta | {
        "result": result,
        "traceback": meta["traceback"] and str(meta["traceback"])[-kept:],
        "children": None,
    }


def acknowledged_with_result(request: Any) -> bool:  # noqa: ANN401 - celery.app.task.Context
    """Whether a task's success also acknowledges its message: the worker's main process then does not."""
    return request is not None and not request.chord


def unpublished(signatures: Iterable[Any], app: CeleriacApp) -> Iterator[Any]:
    """The tasks whose results are those of some signatures: of a chord its body, of a chain its last task."""
    for part in signatures:
        signature = maybe_signature(part, app=app)
        if isinstance(signature, group):
            yield from unpublished(signature.tasks, app)
        elif isinstance(signature, chord):
            yield from unpublished([signature.body] if signature.body is not None else [], app)
        elif isinstance(signature, _chain):
            yield from unpublished(signature.tasks[-1:], app)
        else:
            yield signature
