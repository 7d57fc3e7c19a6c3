"""The result backend: Celery's own for Redis, which keeps the task records in step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.backends.redis import RedisBackend

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp


class Backend(RedisBackend):
    """Stores results where `AsyncResult` looks for them, and each change of state in the task's record."""

    app: CeleriacApp

    def on_task_call(self, producer: Any, task_id: str) -> None:  # noqa: ANN401
        """Do nothing when a task is published: whoever waits for its result subscribes to it then.

        Celery subscribes here already, which costs each publish a round trip, and 30 s where Redis is away.
        """

    def _store_result(
        self,
        task_id: str,
        result: Any,  # noqa: ANN401 - what the task returned
        state: str,
        traceback: str | None = None,
        request: Any = None,  # noqa: ANN401 - celery.app.task.Context
        **kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        records = self.app.records
        if state != "REVOKED" and records.state(task_id) == "REVOKED":
            return result
        # The result first: whoever reads the state SUCCESS finds it.
        super()._store_result(task_id, result, state, traceback=traceback, request=request, **kwargs)
        records.store_state(
            task_id,
            state,
            worker=getattr(request, "hostname", None),
            retries=getattr(request, "retries", None) or 0,
        )
        return result

    def mark_as_done(
        self,
        task_id: str,
        result: Any,  # noqa: ANN401
        request: Any = None,  # noqa: ANN401
        store_result: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        state: str = "SUCCESS",
    ) -> None:
        """Record the end of a task that keeps no result, too."""
        if not store_result:
            self._record(task_id, state, request)
        super().mark_as_done(task_id, result, request=request, store_result=store_result, state=state)

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
        if not store_result:
            self._record(task_id, state, request)
        super().mark_as_failure(
            task_id,
            exc,
            traceback=traceback,
            request=request,
            store_result=store_result,
            call_errbacks=call_errbacks,
            state=state,
        )

    def _record(self, task_id: str, state: str, request: Any) -> None:  # noqa: ANN401
        if request is None or not request.is_eager:  # what runs where it was called has no record
            self.app.records.store_state(task_id, state, worker=getattr(request, "hostname", None))
