"""The suite's task that is a class, which its session worker registers by a fixture."""

from __future__ import annotations

from celery import current_app
from t.integration.tasks import ClassBasedAutoRetryTask

from celeriac import Task


class AutoRetryTask(ClassBasedAutoRetryTask, Task):
    """The same on the platform's class, as every task has to be."""


current_app.register_task(AutoRetryTask())
