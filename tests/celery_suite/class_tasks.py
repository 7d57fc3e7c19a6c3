"""The suite's task that is a class, which its session worker registers by a fixture."""

from __future__ import annotations

from celery import current_app
from t.integration.tasks import ClassBasedAutoRetryTask

current_app.register_task(ClassBasedAutoRetryTask())
