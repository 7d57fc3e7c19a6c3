"""What the broker reads of a raw message: JSON as kombu writes it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from kombu.compression import decompress
from kombu.serialization import loads

#: Header with how many deliveries of a message were started and did not come to an end; RabbitMQ's name.
COUNT_HEADER = "x-delivery-count"

#: Header with the time before which a delivered message might not run. It has passed, and Celery's own header `eta` is
#: empty then, or the worker would wait for it again.
ETA_HEADER = "celeriac_eta"

#: Property by which a publisher hands the channel a `leases.Companion`; it is no part of the message.
COMPANION_PROPERTY = "celeriac_companion"

#: Property with the queue that a message was claimed from.
QUEUE_PROPERTY = "celeriac_queue"

#: Property of a delivered message with the error that its task ended by, for the case that it becomes a dead letter.
ERROR_PROPERTY = "celeriac_error"


def parse(raw: bytes | str) -> dict[str, Any] | None:
    """Read a raw message; None for what is no message."""
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or "body" not in message:
        return None
    properties, headers = message.get("properties"), message.setdefault("headers", {})
    if not isinstance(properties, dict) or not isinstance(headers, dict):
        return None
    if not isinstance(properties.setdefault("delivery_info", {}), dict):
        return None
    return message


def content(message: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """Decode the body of a message, as Celery does for JSON.

    Raises:
        ValueError: it cannot be decoded, or is no JSON.
    """
    body = message["body"]
    try:
        if message["properties"].get("body_encoding") == "base64":
            body = base64.b64decode(body)
        if compression := message["headers"].get("compression"):
            body = decompress(body, compression)
        return loads(body, message["content-type"], message["content-encoding"], accept={"application/json"})
    except Exception as error:  # each decoder has its own
        msg = f"the body cannot be decoded: {error!r}"
        raise ValueError(msg) from error


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
