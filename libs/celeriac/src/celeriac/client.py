"""A client of the HTTP API, which the command line uses.

with Client("http://127.0.0.1:8000", token) as client:
task = client.submit("examples.add", args=[2, 3])
print(client.wait(task["task_id"])["result"])  # 5
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import httpx

from celeriac import event_stream
from celeriac.errors import CeleriacError, Unavailable
from celeriac.settings import Settings

#: The longest that the API waits for the end of a task, seconds.
WAIT_SECONDS = 60.0

#: A stream on which nothing comes for so long is dead, seconds: the API sends something every 15 s.
SILENCE_SECONDS = 40.0

#: How long to wait before an interrupted stream is asked for again, seconds.
PAUSE_SECONDS = 1.0

#: Time for a request that is about many tasks or messages, seconds.
MANY_SECONDS = 600

DEAD_LETTERS = "/admin/dead-letters"
QUEUES = "/admin/queues"

_TEMPORARY = frozenset(
    {
        httpx.codes.TOO_MANY_REQUESTS,
        httpx.codes.BAD_GATEWAY,
        httpx.codes.SERVICE_UNAVAILABLE,
        httpx.codes.GATEWAY_TIMEOUT,
    }
)


class ApiError(CeleriacError):
    """The API refused a request of the client; the message is the API's own."""

    title = "Refused by the API"
    code = "refused"
    way_out = "Do what the message says."

    def __init__(self, http_status: int, detail: str, retry_after_seconds: int | None = None) -> None:
        """Say what the API said.

        Args:
            http_status: the status that it answered.
            detail: why.
            retry_after_seconds: when the same may work; None where it has not said so.
        """
        self.http_status = http_status
        self.retry_after_seconds = retry_after_seconds
        super().__init__(detail)


class Client:
    """Speaks to one API.

    Args:
        url: the API's address.
        token: a bearer token; None for what needs none.
        timeout_seconds: for each request.
    """

    def __init__(self, url: str, token: str | None = None, timeout_seconds: float = 10) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout_seconds = timeout_seconds
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_seconds)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Make the client that the settings describe."""
        token = settings.api_token.get_secret_value() if settings.api_token else None
        return cls(settings.api.url, token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.close()

    def health(self) -> dict[str, Any]:
        """Ask how the platform is; an unhealthy one answers, too."""
        return self._send("GET", "/health", accept={httpx.codes.SERVICE_UNAVAILABLE})

    def submit(
        self,
        name: str,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        priority: int | None = None,
    ) -> dict[str, Any]:
        """Submit a task; see `POST /tasks`."""
        body: dict[str, Any] = {"name": name, "args": list(args), "kwargs": dict(kwargs or {})}
        body |= {key: value for key, value in {"queue": queue, "priority": priority}.items() if value is not None}
        return self._send("POST", "/tasks", json=body)

    def submit_all(self, tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Submit up to 10,000 tasks, each as `POST /tasks` takes it; for each what became of it."""
        answer = self._send("POST", "/tasks/bulk", json={"tasks": list(tasks)}, timeout_seconds=MANY_SECONDS)
        submitted: list[dict[str, Any]] = answer["tasks"]
        return submitted

    def task(self, task_id: str) -> dict[str, Any]:
        """Read a task's state, progress and result."""
        return self._send("GET", f"/tasks/{task_id}")

    def result(self, task_id: str) -> Any:  # noqa: ANN401 - any JSON
        """Read what a task has returned, of any size."""
        return self._ask("GET", f"/tasks/{task_id}/result").json()

    def tasks(
        self,
        *,
        state: str | None = None,
        queue: str | None = None,
        name: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """Read a page of tasks; see `GET /tasks`."""
        asked = {"state": state, "queue": queue, "name": name, "since": since, "until": until}
        asked |= {"limit": None if limit is None else str(limit), "cursor": cursor}
        return self._send("GET", "/tasks", params={key: value for key, value in asked.items() if value is not None})

    def retry(self, task_id: str) -> dict[str, Any]:
        """Try a task that has failed again."""
        return self._send("POST", f"/tasks/{task_id}/retry")

    def sync_tasks(self, *, cursor: str | None = None) -> dict[str, Any]:
        """Fail those of some tasks whose message is nowhere any more; see `POST /admin/celery/tasks/sync`."""
        asked = {} if cursor is None else {"cursor": cursor}
        return self._send("POST", "/admin/celery/tasks/sync", params=asked, timeout_seconds=MANY_SECONDS)

    def workers(
        self, *, queue: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> dict[str, Any]:
        """Read a page of workers; see `GET /admin/celery/workers`."""
        asked = {"queue": queue, "limit": limit, "cursor": cursor}
        params = {key: value for key, value in asked.items() if value is not None}
        return self._send("GET", "/admin/celery/workers", params=params)

    def cancel(self, task_id: str) -> dict[str, Any]:
        """Cancel a task."""
        return self._send("DELETE", f"/tasks/{task_id}")

    def cancel_tasks(
        self,
        *,
        state: str | None = None,
        queue: str | None = None,
        name: str | None = None,
        since: str | None = None,
        until: str | None = None,
        everything: bool = False,
    ) -> int:
        """Cancel the tasks that match and have not ended, in as many requests as it takes; gives their number.

        Args:
            state: only those in this state.
            queue: only those of this queue.
            name: only those of this name.
            since: only those submitted at this moment or later, ISO 8601.
            until: only those submitted before this moment.
            everything: all of them, in the place of the others.

        Raises:
            ApiError: a filter is wrong, or there is none, or the token has not the scope `admin`.
        """
        body: dict[str, Any] = {"state": state, "queue": queue, "name": name, "since": since, "until": until}
        body |= {"all": everything, "cursor": None}
        cancelled = 0
        while True:
            page = self._send("POST", "/tasks/cancel", json=body, timeout_seconds=MANY_SECONDS)
            cancelled += int(page["cancelled"])
            body["cursor"] = page["cursor"]
            if body["cursor"] is None:
                return cancelled

    def queues(self) -> dict[str, Any]:
        """Read what is in all queues and who works on them."""
        return self._send("GET", QUEUES)

    def queue(self, name: str) -> dict[str, Any]:
        """Read what is in one queue."""
        return self._send("GET", f"{QUEUES}/{name}")

    def pause_queue(self, name: str) -> dict[str, Any]:
        """Let workers take nothing more from a queue."""
        return self._send("POST", f"{QUEUES}/{name}/pause")

    def resume_queue(self, name: str) -> dict[str, Any]:
        """Let workers take from a paused queue again."""
        return self._send("POST", f"{QUEUES}/{name}/resume")

    def scale_queue(self, name: str, replicas: int) -> dict[str, Any]:
        """Ask for a number of worker pods of a queue."""
        return self._send("POST", f"{QUEUES}/{name}/scale", json={"replicas": replicas})

    def purge_queue(self, name: str) -> int:
        """Drop what waits in a queue, and cancel its tasks; gives the number of messages."""
        return int(self._send("POST", f"{QUEUES}/{name}/purge", timeout_seconds=MANY_SECONDS)["purged"])

    def redis(self) -> dict[str, Any]:
        """Read which Redis there is and how full; see `GET /admin/redis`."""
        return self._send("GET", "/admin/redis")

    def dead_letters(
        self,
        *,
        queue: str | None = None,
        task: str | None = None,
        reason: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """Read a page of dead letters; see `GET /admin/dead-letters`."""
        asked = {"queue": queue, "task": task, "reason": reason, "limit": limit, "cursor": cursor}
        return self._send("GET", DEAD_LETTERS, params={key: value for key, value in asked.items() if value is not None})

    def dead_letter(self, tag: str) -> dict[str, Any]:
        """Read one dead letter."""
        return self._send("GET", f"{DEAD_LETTERS}/{tag}")

    def replay_dead_letter(self, tag: str) -> dict[str, Any]:
        """Put one dead letter back into its queue."""
        return self._send("POST", f"{DEAD_LETTERS}/{tag}/replay")

    def drop_dead_letter(self, tag: str) -> dict[str, Any]:
        """Forget one dead letter."""
        return self._send("DELETE", f"{DEAD_LETTERS}/{tag}")

    def replay_dead_letters(
        self, *, queue: str | None = None, task: str | None = None, reason: str | None = None
    ) -> int:
        """Put all dead letters that match back into their queues; gives their number."""
        body = {"queue": queue, "task": task, "reason": reason}
        return int(self._send("POST", f"{DEAD_LETTERS}/replay", json=body, timeout_seconds=MANY_SECONDS)["replayed"])

    def drop_dead_letters(self, *, queue: str | None = None, task: str | None = None, reason: str | None = None) -> int:
        """Forget all dead letters that match; gives their number."""
        body = {"queue": queue, "task": task, "reason": reason}
        return int(self._send("POST", f"{DEAD_LETTERS}/drop", json=body, timeout_seconds=MANY_SECONDS)["dropped"])

    def wait(self, task_id: str, timeout_seconds: float = 60) -> dict[str, Any]:
        """Wait for a task's end, or for the time to run out, and read it."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            left = min(WAIT_SECONDS, max(0.0, deadline - time.monotonic()))
            try:
                task = self._send(
                    "GET",
                    f"/tasks/{task_id}",
                    params={"wait": f"{left:.3f}s"},
                    timeout_seconds=self._timeout_seconds + left,
                )
            except ApiError as error:
                pause = error.retry_after_seconds
                if pause is None or time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
                continue
            if task["ready"] or time.monotonic() >= deadline:
                return task

    def events(self, task_id: str, *, patience_seconds: float = 60) -> Iterator[dict[str, Any]]:
        """Follow a task: it as it is now, then after each change, until it has ended; several may come as one.

        Args:
            task_id: the task.
            patience_seconds: how long an API that has answered once may be away; the stream goes on where it was.

        Raises:
            ApiError: the API refuses, or does not know the task any more.
            Unavailable: the API does not answer.
        """
        last_id, heard_at = "", None
        while True:
            try:
                with self._stream(f"/tasks/{task_id}/events", last_id) as response:
                    if response.status_code == httpx.codes.NO_CONTENT:
                        return
                    for message in event_stream.read(response.iter_bytes()):
                        last_id, heard_at = message.last_id, time.monotonic()
                        if message.data is not None:
                            task: dict[str, Any] = json.loads(message.data)
                            yield task
                            if task["ready"]:
                                return
            except ApiError as error:
                if error.http_status not in _TEMPORARY or not _may_return(heard_at, patience_seconds):
                    raise
            except httpx.HTTPError as error:
                if not _may_return(heard_at, patience_seconds):
                    raise self._away(error) from error
            time.sleep(PAUSE_SECONDS)

    @contextmanager
    def _stream(self, path: str, last_id: str) -> Iterator[httpx.Response]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        timeout = httpx.Timeout(self._timeout_seconds, read=SILENCE_SECONDS)
        with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if response.is_error:
                response.read()
                raise _refusal(response)
            yield response

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,  # noqa: ANN401 - any JSON
        accept: frozenset[int] | set[int] = frozenset(),
        timeout_seconds: float | None = None,
    ) -> dict[str, Any]:
        response = self._ask(method, path, params=params, json=json, accept=accept, timeout_seconds=timeout_seconds)
        try:
            body: dict[str, Any] = response.json()
        except ValueError:
            msg = f"what answers at {self._http.base_url} is no API of Celeriac: it sends no JSON; check the address"
            raise Unavailable(msg) from None
        return body

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,  # noqa: ANN401 - any JSON
        accept: frozenset[int] | set[int] = frozenset(),
        timeout_seconds: float | None = None,
    ) -> httpx.Response:
        timeout = self._http.timeout if timeout_seconds is None else timeout_seconds
        try:
            response = self._http.request(method, path, params=params, json=json, timeout=timeout)
        except httpx.HTTPError as error:
            raise self._away(error) from error
        if not response.is_success and response.status_code not in accept:
            raise _refusal(response)
        return response

    def _away(self, error: httpx.HTTPError) -> Unavailable:
        return Unavailable(
            f"the API at {self._http.base_url} does not answer: {error}; does it run? `celeriac up` starts one"
        )


def _may_return(heard_at: float | None, patience_seconds: float) -> bool:
    return heard_at is not None and time.monotonic() - heard_at < patience_seconds


def _refusal(response: httpx.Response) -> ApiError:
    retry_after = response.headers.get("Retry-After", "")
    retry_after_seconds = int(retry_after) if retry_after.isdecimal() else None
    try:
        problem = response.json()
        detail = f"{response.status_code} {problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        detail = f"{response.status_code} {response.reason_phrase}"
    return ApiError(response.status_code, detail, retry_after_seconds)
