"""Many clients that submit at the same time."""

from __future__ import annotations

import http.client
import itertools
import json
import ssl
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

#: How long an answer may take, seconds; then it counts as none.
ANSWER_SECONDS = 30


@dataclass
class Load:
    """What became of some submits."""

    #: From the first byte sent to the last byte of the answer, of all that were answered.
    seconds: list[float] = field(default_factory=list)
    #: Those accepted.
    task_ids: list[str] = field(default_factory=list)
    #: Why others were not, and how many.
    failures: Counter[str] = field(default_factory=Counter)
    #: The part of one core that the clients themselves used.
    core: float = 0.0

    @property
    def mean_ms(self) -> float:
        """The mean time to an answer."""
        return statistics.fmean(self.seconds) * 1000 if self.seconds else 0.0

    @property
    def p95_ms(self) -> float:
        """The time within which 95 % were answered."""
        if len(self.seconds) < 2:
            return self.mean_ms
        return statistics.quantiles(self.seconds, n=20, method="inclusive")[-1] * 1000


def submit_at_once(url: str, token: str, *, name: str, args: list[float], clients: int, requests: int) -> Load:
    """Submit a task many times, each client the next one as soon as it has its answer.

    Each client is a thread with one kept-alive connection of the standard library's, which costs the machine, and so
    the figures, a fifth of what httpx does; connecting is not counted.

    Args:
        url: the API's address.
        token: a bearer token.
        name: the task.
        args: its arguments.
        clients: how many.
        requests: of all clients together.
    """
    body = json.dumps({"name": name, "args": args}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    load, numbers, ready = Load(), itertools.count(), threading.Barrier(clients + 1)

    def submit_on() -> None:
        connection, path = _connection(url)
        try:
            connection.connect()
        except OSError:
            connection.close()  # the first request tries again, and counts
        ready.wait()
        # A step of the counter and of the lists is one step of the interpreter, too.
        while next(numbers) < requests:
            began = time.perf_counter()
            try:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                load.failures[f"no answer: {error or type(error).__name__}"] += 1
                continue
            load.seconds.append(time.perf_counter() - began)
            if answer.status == http.client.ACCEPTED:
                load.task_ids.append(json.loads(content)["task_id"])
            else:
                load.failures[f"{answer.status} {answer.reason}"] += 1
        connection.close()

    threads = [threading.Thread(target=submit_on, name=f"client {number}") for number in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    began, used = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.join()
    load.core = (time.process_time() - used) / (time.perf_counter() - began)
    return load


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    path = f"{parts.path.rstrip('/')}/tasks"
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, parts.port, timeout=ANSWER_SECONDS, context=context), path
    return http.client.HTTPConnection(host, parts.port, timeout=ANSWER_SECONDS), path
