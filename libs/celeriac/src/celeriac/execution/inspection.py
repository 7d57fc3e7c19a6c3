"""`celery inspect` where it has to know this broker: what waits is not in the worker, and the URL is secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from celery.worker.control import inspect_command

from celeriac.broker import messages

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

#: So many are listed for each queue, the next ones first.
_LISTED = 1000


@inspect_command(alias="dump_schedule")
def scheduled(state: Any, **_options: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - Celery's signature
    """List what waits until it is due in the queues that this worker consumes."""
    app = cast("CeleriacApp", state.app)
    return [entry for queue in state.consumer.task_consumer.queues for entry in _waiting(app, queue.name)]


@inspect_command()
def stats(state: Any, **_options: Any) -> dict[str, Any]:  # noqa: ANN401 - Celery's signature
    """Tell how this worker is; Celery's own gives away the password of the broker's URL."""
    found: dict[str, Any] = state.consumer.controller.stats()
    if isinstance(broker := found.get("broker"), dict):
        broker["hostname"] = state.consumer.connection.as_uri()
    return found


def _waiting(app: CeleriacApp, queue: str) -> Iterator[dict[str, Any]]:
    found = app.redis.zrange(app.keys.delayed(queue), 0, _LISTED - 1, withscores=True)
    due = dict(cast("list[tuple[str, float]]", found))
    values = cast("list[str | None]", app.redis.hmget(app.keys.delayed_messages(queue), list(due)) if due else [])
    for due_ms, value in zip(due.values(), values, strict=True):
        message = messages.parse(value.split("\n", 1)[1]) if value else None
        if message is None:
            continue  # moved to its queue meanwhile
        headers, properties = message["headers"], message["properties"]
        args, kwargs = _arguments(message)
        yield {
            "eta": datetime.fromtimestamp(due_ms / 1000, UTC).isoformat(),
            "priority": properties.get("priority"),
            "request": {
                "id": headers.get("id"),
                "name": headers.get("task"),
                "type": headers.get("task"),
                "args": args,
                "kwargs": kwargs,
                "hostname": None,
                "time_start": None,
                "acknowledged": False,
                "delivery_info": {
                    **properties.get("delivery_info", {}),
                    "priority": properties.get("priority"),
                    "redelivered": False,
                },
                "worker_pid": None,
            },
        }


def _arguments(message: dict[str, Any]) -> tuple[Any, Any]:
    body = message["body"]
    if message["properties"].get("body_encoding") == "base64":
        body = base64.b64decode(body)
    try:
        args, kwargs, _ = json.loads(body)
    except ValueError:
        return message["headers"].get("argsrepr"), message["headers"].get("kwargsrepr")
    return args, kwargs
