"""Submits over HTTP: this API beside FastAPI endpoints that call `.delay()`, as people write them.

`python -m benchmarks.submit` takes about 6 minutes on two idle cores; `--write` also writes docs/benchmarks/submit.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import redis

from benchmarks import http_load
from benchmarks.contestants import stock_api
from benchmarks.contestants.contestant import ROOT, script
from benchmarks.pages import deliver, page, spread, table
from benchmarks.rounds import conditions
from tests.platform import environment, wait_for
from tests.servers import RedisServer, free_port

TOKEN = "benchmark-token-of-nobody-in-particular"

CONNECTIONS = (1, 10, 100)

OURS, DEF, ASYNC = "Celeriac", "`def` with `.delay()`", "`async def` with `.delay()`"
LPUSH, EMPTY = "`async def` with `LPUSH`", "nothing but FastAPI"

INTRODUCTION = """
`python -m benchmarks.submit` sends `POST` requests that submit a task with two numbers, on kept-alive connections, to
one uvicorn process each, all with httptools, on one Redis that appends to a file every second.

- **Celeriac** is `celeriac api`: it checks the token, the body and the task's arguments, and writes the task's record,
  the message and a wake-up token in one round trip.
- **`def`** and **`async def`** are the two ways in which FastAPI applications call Celery: an endpoint in a thread of a
  pool, and one that blocks the event loop. They check the body and nothing else, and record nothing.
- **`async def` with `LPUSH`** checks the same body and pushes a text of a message's size with redis-py for asyncio: no
  task, no token and no record, but the round trip that a publisher cannot do without.
- **Nothing but FastAPI** checks the same body and answers.

Rounds are interleaved, in the other direction every second round; each request must be answered by 202. The load comes
from one process on the same two cores. Requests per second and milliseconds: the median of the rounds with the least
and the greatest; the ratio is that of each round to the better of the two stock endpoints in the same round.
"""

BULK = """
## Bulk

`POST /tasks/bulk` with 10,000 tasks of two numbers each, from the first byte sent to the last byte of the answer.
"""


@dataclass
class Rounds:
    """One value a round."""

    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """Where one contestant listens."""

    port: int
    path: str


def main() -> None:
    """Run all rounds and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each")
    parser.add_argument("--requests", type=int, default=2000, help="requests a round")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/submit.md")
    options = parser.parse_args()
    with _servers() as (targets, client):
        measured = measure(targets, client, rounds=options.rounds, requests=options.requests)
        bulk = [_bulk(targets[OURS].port, client) for _ in range(options.rounds)]
        server = client.info("server")["redis_version"]
    setup = f"{conditions('celeriac', 'celery', 'kombu', 'fastapi', 'uvicorn', 'redis')}, Redis server {server}"
    text = page(
        "Submit",
        INTRODUCTION,
        f"{setup}\n\n{options.rounds} rounds of {options.requests:,} requests",
        *(_table(connections, measured) for connections in CONNECTIONS),
        BULK,
        table(
            ["seconds", "tasks/s"],
            [[spread(bulk, ".2f"), spread([10_000 / seconds for seconds in bulk])]],
        ),
    )
    deliver("submit.md", text, write=options.write)


def measure(
    targets: Mapping[str, Target], client: redis.Redis, *, rounds: int, requests: int
) -> dict[tuple[str, int], Rounds]:
    """Run all contestants in turn, for each number of connections.

    Args:
        targets: where they listen, by name.
        client: of their Redis, which is emptied before each run.
        rounds: how often each.
        requests: of each run.
    """
    measured = {(name, connections): Rounds() for name in targets for connections in CONNECTIONS}
    body = json.dumps({"name": "examples.add", "args": [1, 2]}).encode()
    for number in range(rounds + 1):  # the first one warms up
        for connections in CONNECTIONS:
            for name in list(targets)[:: -1 if number % 2 else 1]:
                client.flushdb()
                target = targets[name]
                load = http_load.run(
                    target.port, target.path, body, token=TOKEN, connections=connections, requests=requests
                )
                if not number:
                    continue
                print(f"  round {number}: {connections} connections, {name}: {load.per_second:,.0f}/s", flush=True)
                one = measured[name, connections]
                one.per_second.append(load.per_second)
                cuts = statistics.quantiles(load.seconds, n=100, method="inclusive")
                for values, cut in ((one.p50_ms, 49), (one.p95_ms, 94), (one.p99_ms, 98)):
                    values.append(cuts[cut] * 1000)
    return measured


@contextmanager
def _servers() -> Iterator[tuple[dict[str, Target], redis.Redis]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="celeriac-bench-")))
        server = stack.enter_context(RedisServer())
        client = stack.enter_context(redis.Redis.from_url(server.url, decode_responses=True))
        client.config_set("appendfsync", "everysec")
        variables = environment(
            PYTHONPATH=str(ROOT),
            REDIS_URL=server.url,
            DATABASE_URL=f"sqlite:///{folder / 'celeriac.db'}",
            CELERIAC_DATA_DIR=str(folder),
            CELERIAC_API_TOKEN=TOKEN,
            CELERIAC_LOG__LEVEL="WARNING",
        )
        subprocess.run([script("celeriac"), "migrate"], env=variables, cwd=folder, check=True, capture_output=True)
        ours, stock = free_port(), free_port()
        uvicorn = [sys.executable, "-m", "uvicorn", f"{stock_api.__name__}:api", "--log-level=warning"]
        for command in (
            [script("celeriac"), "api", "--port", str(ours)],
            [*uvicorn, "--no-access-log", "--port", str(stock)],
        ):
            process = subprocess.Popen(command, env=variables, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        for port, path in ((ours, "/health/live"), (stock, "/docs")):
            wait_for(lambda port=port, path=path: _answers(port, path), f"port {port} to answer", 60)
        yield (
            {
                OURS: Target(ours, "/tasks"),
                DEF: Target(stock, "/def"),
                ASYNC: Target(stock, "/async"),
                LPUSH: Target(stock, "/lpush"),
                EMPTY: Target(stock, "/empty"),
            },
            client,
        )


def _answers(port: int, path: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}").is_success
    except httpx.HTTPError:
        return False


def _bulk(port: int, client: redis.Redis) -> float:
    client.flushdb()
    body = json.dumps({"tasks": [{"name": "examples.add", "args": [number, 1]} for number in range(10_000)]}).encode()
    began = time.perf_counter()
    answer = httpx.post(
        f"http://127.0.0.1:{port}/tasks/bulk",
        content=body,
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        timeout=60,
    )
    seconds = time.perf_counter() - began
    assert answer.json()["accepted"] == client.llen("default") == 10_000
    print(f"  bulk: {seconds:.2f} s", flush=True)
    return seconds


def _table(connections: int, measured: Mapping[tuple[str, int], Rounds]) -> str:
    names = [name for name, number in measured if number == connections]
    stock = [measured[name, connections].per_second for name in (DEF, ASYNC)]
    best = [max(pair) for pair in zip(*stock, strict=True)]
    rows = []
    for name in names:
        one = measured[name, connections]
        ratios = _ratios(one.per_second, best)
        latencies = [spread(values, ",.1f") for values in (one.p50_ms, one.p95_ms, one.p99_ms)]
        rows.append([name, spread(one.per_second), ratios, *latencies])
    plural = "" if connections == 1 else "s"
    head = [f"{connections} connection{plural}", "requests/s", "against the better stock one"]
    return table([*head, "P50 ms", "P95 ms", "P99 ms"], rows)


def _ratios(values: Sequence[float], peers: Sequence[float]) -> str:
    return spread([value / peer for value, peer in zip(values, peers, strict=True)], ".2f")


if __name__ == "__main__":
    main()
