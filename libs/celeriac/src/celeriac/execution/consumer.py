"""Celery's consumer, which comes back quickly and loses no message that it cannot read."""

from __future__ import annotations

from typing import Any

import structlog
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import maybe_shutdown

from celeriac.broker.channel import Channel
from celeriac.execution import inspection  # noqa: F401 - importing it registers the command

log = structlog.get_logger(__name__)

#: Pauses between attempts to connect, seconds: Celery's own grow to half a minute.
_FIRST_PAUSE, _LONGER_BY, _LONGEST_PAUSE = 0.1, 0.1, 1.0


class Consumer(CeleryConsumer):
    """What `worker_consumer` names."""

    def ensure_connected(self, conn: Any) -> Any:  # noqa: ANN401 - kombu.Connection
        """Connect, however long it takes."""
        away = False

        def note(error: Exception, _interval: float) -> None:
            nonlocal away
            if not away:
                log.warning("broker_disconnected", broker=conn.as_uri(), error=str(error))
            away = True

        connection = conn.ensure_connection(
            note,
            None,
            interval_start=_FIRST_PAUSE,
            interval_step=_LONGER_BY,
            interval_max=_LONGEST_PAUSE,
            callback=maybe_shutdown,
        )
        if away:
            log.info("broker_connected", broker=conn.as_uri())
        self.first_connection_attempt = False
        return connection

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's signature
        """Give up a message that Celery stumbles over, for whatever reason: it would end one worker after the other."""
        receive = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> Any:  # noqa: ANN401
            try:
                return receive(message)
            except self.connection_errors:
                raise
            except Exception as error:  # noqa: BLE001 - the message may be anything
                return self._bury(message, "no task can be made of it", error)

        return on_task_received

    def on_decode_error(self, message: Any, exc: Exception) -> None:  # noqa: ANN401 - kombu.Message
        """Give up a message whose content cannot be decoded."""
        self._bury(message, "its content cannot be decoded", exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ANN401, ARG002
        """Give up a message that names no task."""
        self._bury(message, "it names no task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002
        """Give up a message whose task no worker of this queue knows."""
        self._bury(message, f"no worker knows task {message.headers.get('task')!r}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002
        """Give up a message that no task can be made of."""
        self._bury(message, "no task can be made of it", exc)

    def _bury(self, message: Any, reason: str, error: Exception | None = None) -> None:  # noqa: ANN401
        log.error("message_not_understood", reason=reason, task_id=message.headers.get("id"), error=str(error or ""))
        channel: Channel = message.channel
        channel.bury(message.delivery_tag, reason, repr(error) if error else "")
