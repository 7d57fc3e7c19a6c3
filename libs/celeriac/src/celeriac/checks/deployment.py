"""A deployment as its API shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Self, TypeVar

import httpx

from celeriac.client import ApiError, Client
from celeriac.contract.tasks import TaskSubmit, TaskView
from celeriac.errors import CeleriacError, Unavailable

T = TypeVar("T")

#: Adds two numbers.
ADD = "examples.add"
#: Works for some seconds, in some steps.
LONG = "examples.long_running"

#: How long the first task may wait for a worker, seconds.
FIRST_TASK_SECONDS = 30

#: The pause between two questions about the same, seconds.
POLL_SECONDS = 0.1


class CheckFailed(CeleriacError):
    """A check could not come to its figure, because the platform did not do what it must."""

    title = "Check failed"
    code = "check-failed"
    way_out = "Mend what the message names, and check again."


@dataclass(frozen=True)
class Deployment:
    """A deployment whose API answered."""

    client: Client
    #: Where the tasks of the checks go.
    queue: str
    #: Tasks that the workers of this queue run at a time.
    slots: int
    #: Their versions; several during an upgrade.
    workers: tuple[str, ...]
    #: Server and version.
    redis: str

    @classmethod
    def find(cls, client: Client) -> Self:
        """Ask an API what it is, and let it run a task.

        Raises:
            ApiError: the token is not known, or lacks a scope.
            Unavailable: the API does not answer.
            CheckFailed: it does not know the tasks that checks use, or no worker runs them.
        """
        redis = client.show_redis()
        try:
            submitted = [client.submit_task(LONG, args=[0, 1]).task_id, client.submit_task(ADD, args=[2, 3]).task_id]
        except ApiError as error:
            if error.http_status != httpx.codes.UNPROCESSABLE_ENTITY:
                raise
            msg = f"checks run the tasks of workloads.examples; add it to CELERIAC_WORKLOADS: {error}"
            raise CheckFailed(msg) from error
        name = client.show_task(submitted[0]).queue
        queue = client.show_queue(name)
        if not queue.slots:
            msg = f"no worker consumes queue {name}, to which the tasks of workloads.examples go; start one"
            raise CheckFailed(msg)
        if not all(client.wait(task_id, FIRST_TASK_SECONDS).successful for task_id in submitted):
            backlog = f"{queue.ready} tasks wait and {queue.in_flight} run"
            msg = f"a task was not run within {FIRST_TASK_SECONDS} s: in queue {name} {backlog}"
            raise CheckFailed(msg)
        server = f"{redis.server.capitalize()} {redis.version}"
        return cls(client, name, queue.slots, tuple(queue.versions), server)

    def submit(self, name: str, *args: float) -> str:
        """Submit a task and give its id."""
        return self.client.submit_task(name, args=args).task_id

    def submit_all(self, name: str, args: Collection[Collection[float]]) -> list[str]:
        """Submit many tasks of one name and give their ids.

        Raises:
            CheckFailed: one was refused.
        """
        answers = self.client.submit_tasks([TaskSubmit(name=name, args=list(each)) for each in args]).tasks
        refused = [answer.error.detail for answer in answers if answer.error]
        if refused:
            msg = f"{len(refused)} of {len(answers)} tasks of a bulk submit were refused: {refused[0]}"
            raise CheckFailed(msg)
        return [str(answer.task_id) for answer in answers]

    def patiently(self, ask: Callable[[], T], seconds: float) -> T:
        """Ask the API until it can answer.

        Raises:
            ApiError: it refuses for another reason than that a part of it is away.
            Unavailable: it could not answer for so long.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return ask()
            except (ApiError, Unavailable) as error:
                if not is_away(error) or time.monotonic() > deadline:
                    raise
            time.sleep(POLL_SECONDS)

    def wait_all(self, task_ids: Collection[str], seconds: float) -> list[TaskView]:
        """Wait for the success of tasks and read them, in their order.

        Raises:
            CheckFailed: one is lost, has failed, or has not ended in time.
        """
        deadline = time.monotonic() + seconds
        tasks: list[TaskView] = []
        for task_id in task_ids:
            while True:
                left = deadline - time.monotonic()
                try:
                    task = self.patiently(partial(self.client.show_task, task_id), max(left, 1))
                except ApiError as error:
                    if error.http_status != httpx.codes.NOT_FOUND:
                        raise
                    msg = f"an accepted task is lost: {error}"
                    raise CheckFailed(msg) from error
                if task.ready:
                    break
                if left < 0:
                    msg = f"{len(task_ids) - len(tasks)} of {len(task_ids)} tasks did not end within {seconds:g} s"
                    raise CheckFailed(msg)
                time.sleep(POLL_SECONDS)
            if not task.successful:
                msg = f"task {task_id} ended in {task.state}: {task.error or 'with no error'}"
                raise CheckFailed(msg)
            tasks.append(task)
        return tasks


def is_away(error: CeleriacError) -> bool:
    """Whether the API did not answer, or said that a part of it is away."""
    return isinstance(error, Unavailable) or (
        isinstance(error, ApiError) and error.http_status in {httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE}
    )
