"""Publishing: every message leaves with a record, a priority and the time it was submitted.

`submit`, `cancel` and `retry` are what the HTTP API calls; `.delay()` and `apply_async` from ordinary code write the
same records, for all of them pass through `RecordingAMQP`.
"""

from celeriac.contract.tasks import SubmitView
from celeriac.publishing.cancel import Cancelled, cancel, cancel_all
from celeriac.publishing.retry import retry
from celeriac.publishing.submit import (
    Submission,
    TaskRequest,
    accepted,
    status_url,
    submit,
    submit_all,
    submit_canvas,
)

__all__ = [
    "Cancelled",
    "Submission",
    "SubmitView",
    "TaskRequest",
    "accepted",
    "cancel",
    "cancel_all",
    "retry",
    "status_url",
    "submit",
    "submit_all",
    "submit_canvas",
]
