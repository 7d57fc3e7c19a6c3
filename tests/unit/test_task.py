"""Tasks: when they are tried again, which hooks run, and what progress does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import _state as celery_state

from celeriac import CeleriacApp, PermanentError, Task, TemporaryError

MakeApp = Callable[..., CeleriacApp]


@pytest.fixture
def app(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> CeleriacApp:
    """An app whose tasks run where they are called, also when they are tried again, and are unknown to other apps."""
    monkeypatch.setattr(celery_state, "_on_app_finalizers", set(celery_state._on_app_finalizers))
    app = make_app(workloads=())
    app.conf.update(task_always_eager=True, task_store_eager_result=False)
    return app


def failing(app: CeleriacApp, errors: list[BaseException], **options: Any) -> tuple[Any, list[int]]:
    """A task that raises one error after the other and then succeeds, and the retries that it saw."""
    seen: list[int] = []

    @app.task(name="tests.failing", bind=True, **options)
    def task(self: Task) -> str:
        seen.append(self.request.retries)
        if errors:
            raise errors.pop(0)
        return "done"

    return task, seen


@pytest.mark.parametrize(("retries", "seconds"), [(0, 60), (1, 120), (2, 240), (3, 480), (4, 600), (5000, 600)])
def test_the_delay_doubles_up_to_ten_minutes_and_is_spread_by_a_quarter(app: CeleriacApp, retries: int, seconds: int):
    task, _ = failing(app, [])
    delays = [task.retry_delay(retries) for _ in range(2000)]
    assert 0.75 * seconds <= min(delays) < 0.8 * seconds
    assert 1.2 * seconds < max(delays) <= 1.25 * seconds


def test_a_task_may_have_delays_of_its_own(app: CeleriacApp):
    @app.task(name="tests.patient", default_retry_delay=1, retry_delay_max=4)
    def patient() -> None:
        """Nothing."""

    assert 0.75 <= patient.retry_delay(0) <= 1.25
    assert 3 <= patient.retry_delay(20) <= 5


def test_a_temporary_error_is_tried_again_until_it_works(app: CeleriacApp):
    task, seen = failing(app, [TemporaryError("away")] * 3)
    assert task.delay().get() == "done"
    assert seen == [0, 1, 2, 3]


def test_a_temporary_error_that_stays_fails_after_three_retries(app: CeleriacApp):
    task, seen = failing(app, [TemporaryError("still away")] * 9)
    result = task.delay()
    assert result.state == "FAILURE"
    assert seen == [0, 1, 2, 3]
    with pytest.raises(TemporaryError, match="still away"):
        result.get()


@pytest.mark.parametrize("error", [PermanentError("no workbook"), ValueError("a mistake")])
def test_any_other_error_fails_the_task_at_once(app: CeleriacApp, error: Exception):
    task, seen = failing(app, [error])
    assert task.delay().state == "FAILURE"
    assert seen == [0]


def test_a_permanent_error_is_not_tried_again_also_where_all_others_are(app: CeleriacApp):
    class NotFoundForGood(PermanentError, OSError):
        """Both."""

    task, seen = failing(app, [OSError("once"), NotFoundForGood("for good")], autoretry_for=(OSError,))
    assert task.delay().state == "FAILURE"
    assert seen == [0, 1]


def test_the_next_try_waits_for_the_delay_unless_the_task_says_when(app: CeleriacApp, monkeypatch: pytest.MonkeyPatch):
    task, _ = failing(app, [])
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("celery.Task.retry", lambda _self, **options: asked.append(options))
    for options in ({}, {"countdown": 7}, {"eta": "then"}):
        task.retry(**options)
    assert 45 <= asked[0]["countdown"] <= 75
    assert asked[1:] == [{"countdown": 7}, {"eta": "then"}]


def test_the_hooks_of_a_subclass_see_both_ends(app: CeleriacApp):
    seen: list[tuple[Any, ...]] = []

    class Hooked(Task):
        abstract = True

        def on_success(self, retval: Any, _task_id: str, args: Any, kwargs: Any) -> None:
            seen.append(("success", retval, args, kwargs))

        def on_failure(self, exc: BaseException, _task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            assert einfo.type is PermanentError
            seen.append(("failure", str(exc), args, kwargs))

    @app.task(name="tests.hooked", base=Hooked)
    def divide(x: int, by: int) -> float:
        if by == 0:
            raise PermanentError("by zero")
        return x / by

    assert divide.delay(6, by=3).get() == 2
    divide.delay(1, by=0)
    assert seen == [("success", 2, [6], {"by": 3}), ("failure", "by zero", [1], {"by": 0})]


def test_progress_outside_of_a_worker_does_nothing(app: CeleriacApp):
    @app.task(name="tests.reporting", bind=True)
    def reporting(self: Task) -> str:
        self.progress(1, None, "begins")
        self.progress(2, 2)
        return "done"

    assert reporting() == "done"


def test_progress_is_stored_seldom_but_the_first_and_the_last_of_each_run_always(
    app: CeleriacApp, monkeypatch: pytest.MonkeyPatch
):
    stored: list[Any] = []
    monkeypatch.setattr(Task, "update_state", lambda _self, state, meta: stored.append((state, meta)))

    @app.task(name="tests.counting", bind=True)
    def counting(self: Task, total: int | None) -> None:
        for current in range(1, 101):
            self.progress(current, total, "counting")

    for _ in range(2):
        counting.delay(100)
    first = ("PROGRESS", {"current": 1, "total": 100, "percent": 1.0, "message": "counting"})
    last = ("PROGRESS", {"current": 100, "total": 100, "percent": 100.0, "message": "counting"})
    assert stored == [first, last, first, last]
    stored.clear()
    counting.delay(None)
    assert stored == [("PROGRESS", {"current": 1, "message": "counting"})]
