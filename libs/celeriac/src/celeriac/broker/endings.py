"""Results of tasks that end without a worker, as Celery's backends write them."""

from __future__ import annotations

import json


def result_parts(state: str, error: type[BaseException], message: str, now: str) -> list[str]:
    """The result of a task in two parts, between which its id stands as JSON: for scripts that end many.

    Args:
        state: `FAILURE` or `REVOKED`.
        error: what `AsyncResult.get` raises.
        message: what that says.
        now: ISO 8601.
    """
    meta: dict[str, object] = {
        "status": state,
        "result": {"exc_type": error.__name__, "exc_message": [message], "exc_module": error.__module__},
        "traceback": None,
        "children": [],
        "date_done": now,
        "task_id": "",
    }
    return json.dumps(meta).rsplit('""', 1)
