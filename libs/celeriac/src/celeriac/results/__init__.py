"""Task records and the result backend: what became of a task, by its id.

A record is written before its message, so an id that has none was never submitted here, or has expired. It expires
with the result. It stands in one index, that of its queue and state, by the time of its submit, and is moved to another
in the same step as its state changes. A task that was cancelled stays `REVOKED`, whatever a worker reports afterwards.
"""

from celeriac.contract.tasks import TaskPageView, TaskState, TaskView
from celeriac.results.files import FileSweep, ResultFiles, ResultNotStored
from celeriac.results.listing import Listing, TaskFilter, TaskPage
from celeriac.results.reconcile import Reconciled, Reconciliation
from celeriac.results.record import TaskRecord
from celeriac.results.records import Records
from celeriac.results.sweep import Sweep
from celeriac.results.view import view, view_page

__all__ = [
    "FileSweep",
    "Listing",
    "Reconciled",
    "Reconciliation",
    "Records",
    "ResultFiles",
    "ResultNotStored",
    "Sweep",
    "TaskFilter",
    "TaskPage",
    "TaskPageView",
    "TaskRecord",
    "TaskState",
    "TaskView",
    "view",
    "view_page",
]
