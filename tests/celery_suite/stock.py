"""The app of the stock column's worker: `celery -A tests.celery_suite.stock worker`.

It is the app that the suite's own session worker would have, made of the configuration that the test process hands on.
"""

from __future__ import annotations

import json
import os

from celery.contrib.testing.app import TestApp

from tests.celery_suite.column import CONFIGURATION_VARIABLE

app = TestApp(config=json.loads(os.environ[CONFIGURATION_VARIABLE]), enable_logging=True, set_as_current=True)
app.set_default()
tasks = app.loader.import_task_module("t.integration.tasks")
# The suite's session worker registers this by a fixture.
app.register_task(tasks.ClassBasedAutoRetryTask())
