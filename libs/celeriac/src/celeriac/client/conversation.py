"""How a call becomes an answer: sent again and again while that may help, by a client of either kind.

The functions here are generators. They yield a request that is to be sent, or how many seconds to wait; they are sent
what came of it, and return the answer. A client drives them, blocking or not.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Generator
from typing import TypeVar

import httpx

from celeriac.client import calls
from celeriac.client.call import Call
from celeriac.client.errors import ApiError, retry_after
from celeriac.contract.tasks import TaskView
from celeriac.errors import CeleriacError, Unavailable

R = TypeVar("R")

#: The longest that the API waits for the end of a task, seconds.
WAIT_SECONDS = 60.0
#: Before the second attempt, seconds; twice as long before each further one, up to a limit.
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

#: Nothing has reached the API.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
#: Answers of an API that has done nothing, and of one, or of a proxy, that may have.
_NOT_DONE = frozenset({httpx.codes.TOO_MANY_REQUESTS})
_MAYBE_DONE = frozenset({httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT})

Outcome = httpx.Response | httpx.HTTPError | None
Conversation = Generator[httpx.Request | float, Outcome, R]


def converse(call: Call[R], http: httpx.Client | httpx.AsyncClient, patience_seconds: float) -> Conversation[R]:
    """Send a call until it is answered.

    Args:
        call: what to send.
        http: makes the requests.
        patience_seconds: how long to try; the last attempt begins within this time.

    Raises:
        ApiError: the API refuses it.
        Unavailable: the API does not answer.
    """
    deadline = time.monotonic() + patience_seconds
    for attempt in itertools.count():
        outcome = yield call.request(http)
        if isinstance(outcome, httpx.Response) and (outcome.is_success or outcome.status_code in call.answers):
            return _read(call, outcome, http)
        pause = _pause(call, outcome, attempt)
        if pause is None or time.monotonic() + pause > deadline:
            raise error_of(outcome, http)
        yield pause
    raise AssertionError  # it counts for ever


def wait(
    task_id: str, http: httpx.Client | httpx.AsyncClient, patience_seconds: float, timeout_seconds: float
) -> Conversation[TaskView]:
    """Wait for a task's end, or for the time to run out, and read it.

    Args:
        task_id: the task.
        http: makes the requests.
        patience_seconds: how long to try each of them.
        timeout_seconds: how long to wait.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        left = min(WAIT_SECONDS, max(0.0, deadline - time.monotonic()))
        task = yield from converse(calls.show_task(task_id, wait=left), http, max(patience_seconds, left))
        if task.ready or time.monotonic() >= deadline:
            return task


def error_of(outcome: Outcome, http: httpx.Client | httpx.AsyncClient) -> CeleriacError:
    """What to raise for an answer that is none."""
    if isinstance(outcome, httpx.Response):
        return ApiError.of(outcome)
    return Unavailable(f"the API at {http.base_url} does not answer: {outcome}; does it run? `celeriac up` starts one")


def _read(call: Call[R], response: httpx.Response, http: httpx.Client | httpx.AsyncClient) -> R:
    try:
        return call.read(response)
    except ValueError:
        msg = f"what answers {call.path} at {http.base_url} is no API of Celeriac; check the address"
        raise Unavailable(msg) from None


def _pause(call: Call[R], outcome: Outcome, attempt: int) -> float | None:
    """How long to wait before the next attempt, seconds; None where there is to be none."""
    if isinstance(outcome, httpx.Response):
        done = outcome.status_code in _NOT_DONE or (outcome.status_code in _MAYBE_DONE and call.repeatable)
        asked = retry_after(outcome)
    else:
        done = isinstance(outcome, _NOT_SENT) or (isinstance(outcome, httpx.TransportError) and call.repeatable)
        asked = None
    if not done:
        return None
    pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 16), LONGEST_PAUSE_SECONDS) * random.uniform(0.75, 1.25)
    return pause if asked is None else max(pause, float(asked))
