"""The one door through which all messages of an app leave."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from celery.app.amqp import AMQP

from celeriac.broker import DEFAULT_PRIORITY, MAX_PRIORITY
from celeriac.broker.messages import COMPANION_PROPERTY, COUNT_HEADER, ETA_HEADER
from celeriac.errors import InvalidInput
from celeriac.publishing.headers import SLOT_HEADER, SUBMITTED_HEADER

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp


class RecordingAMQP(AMQP):
    """Celery's AMQP, which records each task before its message leaves."""

    def _create_task_sender(self) -> Any:  # noqa: ANN401 - Celery's own untyped function
        send = super()._create_task_sender()
        records = cast("CeleriacApp", self.app).records

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:  # noqa: ANN401
            headers = message.headers
            priority = options.get("priority")
            # kombu's own `priority or default` would lose an explicit 0.
            options["priority"] = priority = DEFAULT_PRIORITY if priority is None else check_priority(priority)
            if headers.get("retries"):  # a retry continues the record of the first try, but is a message of its own
                for name_of_delivery in (COUNT_HEADER, ETA_HEADER):
                    headers.pop(name_of_delivery, None)
                return send(producer, name, message, **options)
            task_id = message.properties["correlation_id"]  # messages of the first protocol have no other id outside
            headers[SUBMITTED_HEADER] = int(time.time() * 1000)
            options[COMPANION_PROPERTY] = records.new(
                task_id,
                name=name,
                queue=_queue_name(options),
                priority=priority,
                eta=headers.get("eta"),
                parent_id=headers.get("parent_id"),
                root_id=headers.get("root_id"),
                # Celery merges them into the message's own only in `send`.
                slot=(options.get("headers") or {}).get(SLOT_HEADER),
            )
            return send(producer, name, message, **options)

        return send_task_message


def check_priority(priority: Any) -> int:  # noqa: ANN401 - whatever the caller gave
    """Refuse what is no priority.

    Raises:
        InvalidInput: it is no whole number from 0 to 9.
    """
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:
        reason = f"a priority is a whole number from 0 to {MAX_PRIORITY}, {MAX_PRIORITY} first"
        raise InvalidInput("priority", priority, reason)
    return priority


def _queue_name(options: dict[str, Any]) -> str:
    queue = options.get("queue")
    return str(getattr(queue, "name", queue) or options.get("routing_key") or "")
