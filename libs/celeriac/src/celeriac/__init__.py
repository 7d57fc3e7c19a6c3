"""Celeriac: Celery that loses no task.

    from celeriac import Queue, Workload, create_app

Importing this package is cheap; Celery is loaded when an app is made or a task class is used.
"""

from typing import TYPE_CHECKING, Any

from celeriac.errors import CeleriacError, Conflict, InvalidInput, NotFound, Unavailable
from celeriac.workload import Queue, Workload

if TYPE_CHECKING:
    from celeriac.app import create_app
    from celeriac.platform import CeleriacApp
    from celeriac.settings import Settings
    from celeriac.task import PermanentError, Task, TemporaryError

__all__ = [
    "CeleriacApp",
    "CeleriacError",
    "Conflict",
    "InvalidInput",
    "NotFound",
    "PermanentError",
    "Queue",
    "Settings",
    "Task",
    "TemporaryError",
    "Unavailable",
    "Workload",
    "create_app",
]

_LAZY = {
    "CeleriacApp": "celeriac.platform",
    "create_app": "celeriac.app",
    "Settings": "celeriac.settings",
    "PermanentError": "celeriac.task",
    "Task": "celeriac.task",
    "TemporaryError": "celeriac.task",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _LAZY:
        import importlib  # noqa: PLC0415

        return getattr(importlib.import_module(_LAZY[name]), name)
    msg = f"module 'celeriac' has no attribute {name!r}"
    raise AttributeError(msg)
