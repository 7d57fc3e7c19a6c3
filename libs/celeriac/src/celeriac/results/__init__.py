"""Task records and the result backend: what became of a task, by its id.

A record is written before its message, so an id that has none was never submitted here, or has expired. It expires
with the result. A task that was cancelled stays `REVOKED`, whatever a worker reports afterwards.
"""

from celeriac.results.records import Records, TaskRecord, TaskState
from celeriac.results.view import TaskView, view

__all__ = ["Records", "TaskRecord", "TaskState", "TaskView", "view"]
