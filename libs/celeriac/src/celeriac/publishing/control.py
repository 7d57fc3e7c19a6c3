"""Celery's remote control, whose revocations hold also where no worker hears of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from celery.app.control import Control as CeleryControl

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp
    from celeriac.results.backend import Backend


class Control(CeleryControl):
    """What `app.control` is."""

    def broadcast(  # type: ignore[override]
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        **options: Any,  # noqa: ANN401 - Celery's own
    ) -> Any:  # noqa: ANN401
        """Send a command to the workers; a revocation is recorded first, and is what a claim looks at.

        Args:
            command: its name, such as `revoke`.
            arguments: what it takes.
            options: see `celery.app.control.Control.broadcast`.
        """
        if command == "revoke" and arguments:
            ids = arguments["task_id"]
            for task_id in [ids] if isinstance(ids, str) else ids:
                self._record(task_id, terminate=bool(arguments.get("terminate")))
        return super().broadcast(command, arguments=arguments, **options)

    def end(self, task_ids: Sequence[str]) -> None:
        """Tell the workers to end tasks that are recorded as revoked already.

        Args:
            task_ids: of those that may run.

        Raises:
            OperationalError: Redis is away.
        """
        super().broadcast("revoke", arguments={"task_id": task_ids, "terminate": True, "signal": "SIGTERM"})

    def _record(self, task_id: str, *, terminate: bool) -> None:
        app = cast("CeleriacApp", self.app)
        # A task that runs, and is not to be terminated, comes to its own end.
        result = cast("Backend", app.backend).revocation(task_id, "revoked")
        app.records.revoke(task_id, result, if_waiting=not terminate)
