"""What the broker reads of a raw message: JSON as kombu writes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

#: Header with how many deliveries of a message were started and did not come to an end; RabbitMQ's name.
COUNT_HEADER = "x-delivery-count"

#: Header with the time before which a delivered message might not run. It has passed, and Celery's own header `eta` is
#: empty then, or the worker would wait for it again.
ETA_HEADER = "celeriac_eta"

#: Property with the queue that a message was claimed from.
QUEUE_PROPERTY = "celeriac_queue"


def parse(raw: bytes | str) -> dict[str, Any] | None:
    """Read a raw message; None for what is no message."""
    try:
        message = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(message, dict) or "body" not in message:
        return None
    properties, headers = message.get("properties"), message.setdefault("headers", {})
    if not isinstance(properties, dict) or not isinstance(headers, dict):
        return None
    if not isinstance(properties.setdefault("delivery_info", {}), dict):
        return None
    return message


def delivery_count(message: dict[str, Any]) -> int:
    """How many deliveries of a message were started and did not come to an end."""
    count = message["headers"].get(COUNT_HEADER)
    return count if isinstance(count, int) else 0


def due_ms(headers: dict[str, Any]) -> int | None:
    """When a message is due, ms since 1970; None for one that names no time, or none that can be read."""
    eta = headers.get("eta")
    if not isinstance(eta, str):
        return None
    try:
        moment = datetime.fromisoformat(eta)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def waiting_id(message: dict[str, Any]) -> str:
    """By what a message is found while it waits: its task id."""
    return str(message["headers"].get("id") or message["properties"].get("delivery_tag"))
