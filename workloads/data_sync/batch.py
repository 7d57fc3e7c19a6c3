"""What became of the files of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from celeriac.database import Database
from workloads.data_sync.models import SyncRun

_COUNTS = ("rows", "inserted", "updated", "unchanged", "rejected")


def summary(database: Database, children: Mapping[str, int]) -> dict[str, Any]:
    """Add up what the tasks of a batch did.

    Args:
        database: where their runs are recorded.
        children: the id of each task and the file that it syncs.

    Returns:
        `files`, `synced` (to their end), the sums of `rows`, `inserted`, `updated`, `unchanged` and `rejected`, and
        `tasks`: each with `task_id`, `file_id` and `synced`.
    """
    with database.read() as session:
        found = session.scalars(select(SyncRun).where(SyncRun.task_id.in_(children))).all()
    ended = {run.task_id for run in found if run.finished_at is not None}
    sums = {name: sum(getattr(run, name) for run in found) for name in _COUNTS}
    tasks = [
        {"task_id": task_id, "file_id": file_id, "synced": task_id in ended} for task_id, file_id in children.items()
    ]
    return {"files": len(children), "synced": len(ended), **sums, "tasks": tasks}
