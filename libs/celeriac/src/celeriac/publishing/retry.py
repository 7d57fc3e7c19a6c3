"""Try a task that has failed again."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, cast

import structlog
from redis.client import NEVER_DECODE

from celeriac.broker import scripts
from celeriac.errors import Conflict
from celeriac.publishing.headers import SUBMITTED_HEADER
from celeriac.results import TaskRecord, TaskState

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp

log = structlog.get_logger(__name__)

# Quotes within JSON strings are escaped, so that these are found only where they are headers.
_SUBMITTED = re.compile(rb'("%s": ?)\d+' % SUBMITTED_HEADER.encode())
_RETRIES = re.compile(rb'("retries": ?)\d+')


def retry(app: CeleriacApp, task_id: str) -> TaskRecord:
    """Publish a task that has failed once more, under its id and with all its tries before it.

    What was told of its failure stays told: its errbacks have run, and a chord that has failed by it does not go on.

    Returns:
        Its record, as it is now.

    Raises:
        NotFound: the id is not known, or no longer.
        Conflict: the task has not failed, or its message is not kept.
    """
    record = app.records.require(task_id)
    if record.state is not TaskState.FAILURE:
        msg = f"task {task_id} is {record.state} ({record.state.words}); only one that has failed can be tried again"
        raise Conflict(msg)
    client: Any = app.redis
    kept = cast("bytes | None", client.execute_command("GET", app.keys.message(task_id), **{NEVER_DECODE: True}))
    if kept is None or not _publish(app, record, *kept.split(b"\n", 1)):
        msg = (
            f"the message of task {task_id} is not kept: it is larger than 64 KiB, was acknowledged early, has just "
            "been tried again, or is a dead letter, which can be replayed; submit the task anew"
        )
        raise Conflict(msg)
    log.info("task_tried_again", task=record.name, task_id=task_id, queue=record.queue)
    return app.records.require(task_id)


def _publish(app: CeleriacApp, record: TaskRecord, ready_list: bytes, message: bytes) -> bool:
    message = _SUBMITTED.sub(rb"\g<1>%d" % (time.time() * 1000), message, count=1)
    message = _RETRIES.sub(rb"\g<1>0", message, count=1)
    new = app.records.new(
        record.task_id,
        name=record.name,
        queue=record.queue,
        priority=record.priority,
        parent_id=record.parent_id,
        root_id=record.root_id,
        slot=record.slot,
    )
    keys, prefix = app.keys, app.keys.prefix
    where: list[str | bytes] = [prefix, record.queue, ready_list, message, keys.message(record.task_id), new.key]
    script = app.redis.register_script(scripts.source("retry"))
    args: list[str | bytes | int] = [*where, keys.result(record.task_id), *new.arguments()]
    return bool(script(args=args) == 1)
