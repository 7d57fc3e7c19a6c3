"""The pytest plugin of both columns: app and worker of the column, the selection, timeouts and the journal.

It replaces two names of `celery.contrib.pytest` before the suite's `conftest.py` imports them; the suite's own files
stay as they are.
"""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, _state
from celery.contrib import pytest as celery_fixtures
from celery.contrib.testing.app import setup_default_app

from celeriac import create_app
from tests.celery_suite.column import JOURNAL_VARIABLE, TEST_SECONDS, TRANSPORT_VARIABLE, Transport
from tests.celery_suite.outcomes import Ended, Journal, Outcome
from tests.celery_suite.selection import check_names, reason_for
from tests.celery_suite.session_worker import session_worker

pytest_plugins = ["celery.contrib.pytest"]

transport = Transport(os.environ[TRANSPORT_VARIABLE])
journal = Journal(Path(os.environ[JOURNAL_VARIABLE]))

#: This file skips itself unless the broker URL begins with `redis://`, by which it means plain TCP, as ours is. It
#: wants a wait of a minute in flight, by an option of kombu's transport for what is a constant of ours.
CONNECTION_RECOVERY = "test_connection_recovery.py"

WORKER = pytest.StashKey[subprocess.Popen[bytes]]()


@pytest.fixture(scope="session")
def celery_session_worker(
    request: pytest.FixtureRequest,
    celery_session_app: Celery,
    celery_includes: Sequence[str],
    celery_class_tasks: Sequence[type],
    celery_config: Mapping[str, Any],
) -> Iterator[subprocess.Popen[bytes]]:
    """The column's worker; the test process knows the same tasks, as it does where the worker shares it."""
    for module in celery_includes:
        celery_session_app.loader.import_task_module(module)
    for task in celery_class_tasks:
        celery_session_app.register_task(task)
    with session_worker(transport, celery_session_app, celery_config) as process:
        request.config.stash[WORKER] = process
        yield process


@pytest.fixture(autouse=True)
def wait_for_a_minute(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are so long for the tests of half-open connections."""
    if request.path.name == CONNECTION_RECOVERY and transport is Transport.CELERIAC:
        monkeypatch.setattr("celeriac.broker.channel.WAIT_SECONDS", 60)


@contextmanager
def platform_app(
    enable_logging: bool = False,
    use_trap: bool = False,
    parameters: Mapping[str, Any] | None = None,
    **config: Any,
) -> Iterator[Celery]:
    """An app of the platform where the suite makes one of its own; Celery's signature.

    What the suite and a test's marker configure comes on top. The suite tells by its URL whether the result backend is
    Redis, so the URL is a plain one here, and leads to the platform's backend all the same.
    """
    default, current = _state.default_app, _state._tls.current_app
    app = create_app()
    _state.set_default_app(default)
    _state._tls.current_app = current
    app.loader.override_backends = {"redis": app.conf.result_backend.partition("+")[0]}
    app.conf.update(config)
    with setup_default_app(app, use_trap=use_trap):
        yield app


celery_fixtures.celery_session_worker = celery_session_worker
if transport is Transport.CELERIAC:
    celery_fixtures._create_app = platform_app


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the selection names, bound what is left, and note it as not run yet."""
    if not config.option.keyword:
        check_names(name_of(item.nodeid) for item in items)
    deselected = [item for item in items if reason_for(name_of(item.nodeid))]
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in deselected]
    for item in items:
        if item.path.name == CONNECTION_RECOVERY and (module := item.getparent(pytest.Module)):
            module.own_markers[:] = [marker for marker in module.own_markers if marker.name != "skipif"]
        own = item.get_closest_marker("timeout")
        seconds = (own.kwargs.get("timeout") or own.args[0]) if own else TEST_SECONDS
        item.add_marker(pytest.mark.timeout(min(seconds, TEST_SECONDS)), append=False)
        journal.add(Ended(name_of(item.nodeid), Outcome.NOT_RUN))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """End the session where the worker has ended: no further test could pass."""
    worker = item.config.stash.get(WORKER, None)
    if worker and worker.poll() is not None:
        pytest.exit(f"the worker ended with status {worker.returncode} before {item.nodeid}", returncode=3)


_phases: dict[str, list[pytest.TestReport]] = defaultdict(list)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Gather the phases and subtests of a test."""
    _phases[report.nodeid].append(report)


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Write the outcome of a test at its end."""
    reports = _phases.pop(nodeid, [])
    if reports:
        worst = min(reports, key=lambda report: list(Outcome).index(outcome_of(report)))
        seconds = sum(report.duration for report in reports)
        journal.add(Ended(name_of(nodeid), outcome_of(worst), message_of(worst), seconds))


def name_of(nodeid: str) -> str:
    """The name by which the selection knows a test."""
    return nodeid.removeprefix("t/integration/")


def outcome_of(report: pytest.TestReport) -> Outcome:
    """What a phase came to."""
    if report.skipped:
        return Outcome.XFAILED if hasattr(report, "wasxfail") else Outcome.SKIPPED
    if report.failed:
        return Outcome.FAILED if report.when == "call" else Outcome.ERROR
    return Outcome.PASSED


def message_of(report: pytest.TestReport) -> str:
    """Why a phase did not pass, in one line."""
    if report.passed:
        return ""
    if outcome_of(report) is Outcome.XFAILED:
        text = report.wasxfail
    elif isinstance(report.longrepr, tuple):  # a skip: file, line, reason
        text = report.longrepr[2]
    else:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash else report.longreprtext
    return " ".join(text.split())[:300]
