"""The judgement of tests/soak by ledgers that are made up: it finds what is lost or run twice, and nothing else."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from celeriac.results import TaskRecord, TaskState
from tests.soak.history import History
from tests.soak.ledger import (
    Ended,
    Event,
    Exited,
    Follower,
    Killed,
    Ledger,
    Outcome,
    RedisDown,
    RedisUp,
    Refused,
    Spawned,
    Started,
    Stopping,
    Submitted,
    in_order,
)
from tests.soak.verdict import (
    Cause,
    repeats,
    violations_of_executions,
    violations_of_records,
    violations_of_workers,
)

TASK = "task-1"


def submitted(task: str = TASK, at: float = 0) -> list[Event]:
    return [Submitted(at=at, task=task, queue="soak_a", due=at)]


def worker(name: str, *, killed: float | None = None) -> list[Event]:
    spawned = Spawned(at=0, worker=name, queues=["soak_a"], slots=2)
    return [spawned, *([Killed(at=killed, until=killed + 0.01, worker=name)] if killed is not None else [])]


def ran(
    start: float,
    end: float | None = None,
    *,
    on: str = "w1",
    attempt: int = 0,
    outcome: Outcome = Outcome.SUCCESS,
    run: str | None = None,
) -> list[Event]:
    run = run or f"{on}:{start}"
    began = Started(at=start, task=TASK, attempt=attempt, run=run, worker=on, queue="soak_a")
    return [began, *([Ended(at=end, run=run, outcome=outcome)] if end is not None else [])]


def history(*parts: list[Event]) -> History:
    return History.of(in_order(event for part in parts for event in part))


def causes(*parts: list[Event]) -> list[Cause]:
    return [repeat.cause for repeat in repeats(history(submitted(), *parts))]


def record(state: TaskState, result: object = None) -> TaskRecord:
    return TaskRecord(TASK, "soak.work", "soak_a", 5, state, "celery", "2026-01-01T00:00:00+00:00", result=result)


def of_record(found: TaskRecord | None, *parts: list[Event], expected: TaskState = TaskState.SUCCESS) -> list[str]:
    return list(violations_of_records(history(submitted(), *parts), {TASK: expected}, {TASK: found}))


def test_what_was_appended_is_read_back_by_time(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger")
    events = [*submitted(at=1.5), *ran(2, 3), *worker("w1", killed=4), RedisDown(at=5), RedisUp(at=6)]
    for event in reversed(events):
        ledger.append(event)
    assert ledger.read() == in_order(events)


def test_a_line_that_a_kill_cut_short_spoils_no_other(tmp_path: Path):
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    ledger.append(RedisDown(at=1))
    with path.open("ab") as file:
        file.write(b'\n{"event": "Started", "at": 2, "ta')
    ledger.append(RedisUp(at=3))
    assert ledger.read() == [RedisDown(at=1), RedisUp(at=3)]


def test_a_follower_reads_each_event_once(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger")
    follower = Follower(ledger.path)
    assert follower.read() == []
    ledger.append(RedisDown(at=1))
    assert follower.read() == [RedisDown(at=1)]
    with ledger.path.open("ab") as file:
        file.write(b'\n{"event": "RedisUp"')
    assert follower.read() == []
    with ledger.path.open("ab") as file:
        file.write(b', "at": 2}\n')
    assert follower.read() == [RedisUp(at=2)]


def append_many(path: Path, number: int) -> None:
    ledger = Ledger(path)
    for count in range(300):
        ledger.append(Refused(at=count, task=f"{number}-{count}", queue="soak_a", error="x" * 200))


def test_processes_that_append_at_a_time_lose_no_line(tmp_path: Path):
    path = tmp_path / "ledger"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append_many, args=(path, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len({event.task for event in Ledger(path).read() if isinstance(event, Refused)}) == 900


def test_an_acknowledged_task_that_has_not_ended_is_lost():
    assert of_record(None) == [f"lost: task {TASK} has no record, and never ran"]
    assert of_record(record(TaskState.PENDING)) == [f"lost: task {TASK} is still PENDING, and never ran"]
    assert of_record(record(TaskState.STARTED), worker("w1"), ran(1)) == [
        f"lost: task {TASK} is still STARTED, and ran"
    ]


def test_a_task_that_ended_as_planned_is_no_violation():
    assert not of_record(record(TaskState.SUCCESS, {"run": "a"}), worker("w1"), ran(1, 2, run="a"))
    failed = ran(1, 2, outcome=Outcome.FAILURE)
    assert not of_record(record(TaskState.FAILURE), worker("w1"), failed, expected=TaskState.FAILURE)


def test_a_final_state_that_no_execution_ended_in_is_a_violation():
    assert "is FAILURE, not SUCCESS" in of_record(record(TaskState.FAILURE), worker("w1"), ran(1, 2))[0]
    assert "no execution of it ended so" in of_record(record(TaskState.SUCCESS, {"run": "a"}), worker("w1"), ran(1))[0]
    never_ended = of_record(record(TaskState.SUCCESS, {"run": "b"}), worker("w1"), ran(1, 2, run="a"))
    assert "has the result of b" in never_ended[0]


def test_a_refused_submit_may_be_without_a_record_but_not_run_twice():
    refused = [Refused(at=0, task=TASK, queue="soak_a", error="TimeoutError()")]
    once = history(refused, worker("w1"), ran(1, 2))
    assert not list(violations_of_records(once, {}, {}))
    assert not list(violations_of_executions(once))
    assert len(list(violations_of_executions(history(refused, worker("w1"), ran(1, 2), ran(3, 4))))) == 1


def test_a_task_that_ran_once_is_no_repeat():
    assert causes(worker("w1"), ran(1, 2)) == []


def test_a_second_execution_without_a_kill_is_unexplained():
    assert causes(worker("w1"), worker("w2"), ran(1, 2), ran(3, 4, on="w2")) == [Cause.UNEXPLAINED]
    found = list(
        violations_of_executions(history(submitted(), worker("w1"), worker("w2"), ran(1, 2), ran(3, 4, on="w2")))
    )
    assert len(found) == 1
    assert "started -2.00 and ended -1.00 on w1 (which lives)" in found[0]


def test_the_kill_of_another_worker_explains_nothing():
    assert causes(worker("w1"), worker("w2"), worker("w3", killed=1.5), ran(1, 2), ran(3, on="w2")) == [
        Cause.UNEXPLAINED
    ]


def test_an_execution_that_a_kill_interrupted_explains_one_more_after_the_kill():
    killed = worker("w1", killed=1.5)
    assert causes(killed, worker("w2"), ran(1), ran(3, 4, on="w2")) == [Cause.INTERRUPTED]
    assert causes(killed, worker("w2"), ran(1), ran(1.2, 4, on="w2")) == [Cause.UNEXPLAINED], "it came before the kill"
    twice = causes(killed, worker("w2"), ran(1), ran(3, 4, on="w2"), ran(5, 6, on="w2"))
    assert twice == [Cause.INTERRUPTED, Cause.UNEXPLAINED]
    assert repeats(history(submitted(), killed, worker("w2"), ran(1), ran(3, on="w2")))[0].seconds == pytest.approx(1.5)


def test_a_task_may_be_interrupted_again_and_again():
    workers = [worker("w1", killed=2), worker("w2", killed=4), worker("w3")]
    assert causes(*workers, ran(1), ran(3, on="w2"), ran(5, 6, on="w3")) == [Cause.INTERRUPTED] * 2


@pytest.mark.parametrize(
    ("end", "cause"), [(1.95, Cause.UNACKNOWLEDGED), (1.85, Cause.UNEXPLAINED), (2.005, Cause.UNACKNOWLEDGED)]
)
def test_a_task_that_ended_within_the_margin_before_the_kill_may_be_unacknowledged(end: float, cause: Cause):
    assert causes(worker("w1", killed=2), worker("w2"), ran(1, end), ran(9, 9.1, on="w2")) == [cause]


def test_a_task_that_ended_while_redis_was_away_until_the_kill_was_cut_off():
    def again(down: float, up: float | None) -> list[Cause]:
        outage: list[Event] = [RedisDown(at=down), *([RedisUp(at=up)] if up else [])]
        return causes(worker("w1", killed=10), worker("w2"), outage, ran(1, 5), ran(20, 21, on="w2"))

    assert again(4, 12) == [Cause.CUT_OFF]
    assert again(4, None) == [Cause.CUT_OFF]
    assert again(5.05, 8) == [Cause.CUT_OFF], "within the margin, and the worker had no time to reconnect"
    assert again(4, 6) == [Cause.UNEXPLAINED], "there was time to acknowledge after the outage"
    assert again(5.5, 12) == [Cause.UNEXPLAINED], "there was time to acknowledge before the outage"


def test_a_worker_that_stops_in_order_explains_nothing():
    stopped = [*worker("w1"), Stopping(at=1.5, worker="w1"), Exited(at=2.05, worker="w1", code=0)]
    assert causes(stopped, worker("w2"), ran(1, 2), ran(3, 4, on="w2")) == [Cause.UNEXPLAINED]


def test_a_retry_is_an_attempt_of_its_own():
    assert causes(worker("w1"), ran(1, 2, outcome=Outcome.RETRY), ran(3, 4, attempt=1)) == []


def test_two_executions_that_each_asked_for_a_retry_explain_two_of_the_next_attempt():
    first = [worker("w1", killed=2), ran(1, 1.99, outcome=Outcome.RETRY)]
    again = [worker("w2"), ran(5, 5.1, on="w2", outcome=Outcome.RETRY)]
    second = ran(3, 3.1, on="w2", attempt=1)
    third = ran(6, 6.1, on="w2", attempt=1)
    assert causes(*first, *again, second, third) == [Cause.UNACKNOWLEDGED, Cause.INHERITED]
    assert causes(worker("w1"), ran(1, 2, outcome=Outcome.RETRY), second, worker("w2"), third) == [Cause.UNEXPLAINED]


def test_an_execution_of_what_nobody_submitted_is_a_violation():
    assert "was never submitted" in next(violations_of_executions(history(worker("w1"), ran(1, 2))))


def test_a_task_that_goes_on_after_its_worker_was_killed_is_a_violation():
    alive = history(submitted(), worker("w1", killed=1.5), ran(1, 3))
    assert "went on 1.49 s after its worker was killed" in "".join(violations_of_executions(alive))


def test_a_worker_that_ends_by_itself_is_a_violation():
    crashed = [*worker("w1"), Exited(at=2, worker="w1", code=-11)]
    assert list(violations_of_workers(history(crashed))) == ["worker w1 ended by itself with -11"]
    stopped = [*worker("w1"), Stopping(at=1, worker="w1"), Exited(at=2, worker="w1", code=0)]
    assert not list(violations_of_workers(history(stopped, worker("w2", killed=1))))
