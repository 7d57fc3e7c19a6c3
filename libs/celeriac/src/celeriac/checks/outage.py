"""What submits answer while Redis is away, and after."""

from __future__ import annotations

import time
from collections import Counter

import httpx

from celeriac.checks.deployment import ADD, LONG, POLL_SECONDS, CheckFailed
from celeriac.checks.run import Check, Measured, Run
from celeriac.checks.target import NotPossible, Part, stopped
from celeriac.client import ApiError
from celeriac.errors import Unavailable

#: Within which a submit must be answered while Redis is away, seconds: the API gives up connecting after 2, where a pod
#: that is gone has left an address that answers nothing.
ANSWER_SECONDS = 3

#: Within which tasks must go through Celery again, seconds from the start of Redis' process.
BACK_SECONDS = 30

#: How long Redis stays away once the API has noticed, and the pause between two submits, seconds.
_AWAY_SECONDS, _PAUSE_SECONDS = 5, 0.2

#: How long the API may take to notice, seconds.
_NOTICE_SECONDS = 5

REFUSED, CELERY = "refused with 503", "celery"
#: What an API may say to a task that it accepts without Redis: it runs the task itself, or keeps it until later.
MODES = frozenset({"in_process", "held"})


def measure(run: Run) -> Measured:
    """Submit before, while and after Redis is away; see what is answered, and that what was accepted is run."""
    deployment, client = run.deployment, run.deployment.client
    # Some run when Redis goes, some wait.
    accepted = [deployment.submit(LONG, 0.5, 1) for _ in range(5 * min(deployment.slots, 20))]
    answers: Counter[str] = Counter()
    slowest = 0.0
    with stopped(run.target, Part.REDIS):
        _wait_until_away(run)
        until = time.monotonic() + _AWAY_SECONDS
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                task = client.submit_task(ADD, args=[1, 2])
                accepted.append(task.task_id)
                answers[task.mode] += 1
            except ApiError as error:
                clear = error.http_status == httpx.codes.SERVICE_UNAVAILABLE and "Redis" in str(error)
                answers[REFUSED if clear else str(error)] += 1
            except Unavailable as error:
                answers[f"no answer: {error}"] += 1
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(_PAUSE_SECONDS)
    back = _back_seconds(run, accepted)
    deployment.wait_all(accepted, BACK_SECONDS + 60)
    said = ", ".join(f"{count} {answer}" for answer, count in answers.most_common())
    by_design = answers.keys() & {REFUSED, *MODES}
    return Measured(
        # A Redis that is killed again and again takes a task now and then; that it is not lost was seen above.
        passed=bool(by_design)
        and answers.keys() <= {REFUSED, CELERY, *MODES}
        and slowest <= ANSWER_SECONDS
        and back <= BACK_SECONDS,
        figure=f"{answers.total()} submits: {said}; the slowest took {slowest:.2f} s; Celery again after {back:.1f} s",
        note=_explain(answers, len(accepted)),
        values={
            "slowest_seconds": slowest,
            "back_seconds": back,
            "refused": answers[REFUSED],
            "accepted": len(accepted),
        },
    )


def _wait_until_away(run: Run) -> None:
    deadline = time.monotonic() + _NOTICE_SECONDS
    while run.deployment.client.health().checks.redis == "ok":
        if time.monotonic() > deadline:
            msg = f"Redis was stopped, but the API still reached one {_NOTICE_SECONDS} s later: is there another?"
            raise NotPossible(msg)
        time.sleep(POLL_SECONDS)


def _back_seconds(run: Run, accepted: list[str]) -> float:
    """Submit until a task goes through Celery, and wait for its success; the seconds that this took."""
    began = time.monotonic()
    while time.monotonic() < began + 2 * BACK_SECONDS:
        task = run.deployment.patiently(lambda: run.deployment.client.submit_task(ADD, args=[1, 2]), 2 * BACK_SECONDS)
        accepted.append(task.task_id)
        if task.mode == CELERY:
            run.deployment.wait_all([task.task_id], 2 * BACK_SECONDS)
            return time.monotonic() - began
        time.sleep(_PAUSE_SECONDS)
    msg = f"{2 * BACK_SECONDS} s after Redis was started again, tasks still do not go through Celery"
    raise CheckFailed(msg)


def _explain(answers: Counter[str], accepted: int) -> str:
    said = []
    if answers[REFUSED]:
        said.append("while Redis is away this API refuses tasks and runs none itself")
    if any(answers[mode] for mode in MODES):
        said.append("the API accepts tasks while Redis is away")
    said.append(f"{accepted} tasks accepted before, meanwhile and after: none lost")
    return "; ".join(said)


DEGRADATION = Check(
    "redis-degradation",
    "Redis degradation",
    f"while Redis is away 503, `in_process` or `held` within {ANSWER_SECONDS} s; nothing accepted is lost; "
    f"Celery again within {BACK_SECONDS} s with no restart",
    measure,
)
