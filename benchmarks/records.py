"""Task records: how fast they are listed, what they take of memory, and when it is given back.

`python -m benchmarks.records` takes about 5 minutes for 1,000,000 records; `--records 20000` less than one; `--write`
also writes docs/benchmarks/records.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import redis

from benchmarks.pages import deliver, page, table
from benchmarks.rounds import conditions
from celeriac import CeleriacApp, create_app
from celeriac.results import Sweep, TaskFilter, TaskState
from celeriac.results.records import StoredResult
from celeriac.settings import Settings
from tests.servers import RedisServer

QUEUES = ("default", "email", "data_sync", "documents", "devices", "marketplace", "scheduled", "reports")

#: Records of each state in a hundred.
STATES = {"SUCCESS": 90, "FAILURE": 3, "REVOKED": 1, "PENDING": 4, "STARTED": 1, "RETRY": 1}

#: Names of tasks, of which the last is rare: one task in 10,000.
NAMES = ("email.send_message", "data_sync.synchronize_file", "devices.check_heartbeat", "documents.vectorize")
RARE = "marketplace.settle_month"

WORKER = "default-4711@celeriac-worker-default-6c9f7d8b5-x2x4z"

#: Records that are written in one go.
CHUNK = 500

#: Seconds for which ended records are kept once all is loaded, to see them expire.
SHORT_SECONDS = 20

INTRODUCTION = """
`python -m benchmarks.records --write` loads records with keys and fields as the platform's own scripts write them,
spread over a day, eight queues and all states, 90 in 100 of them `SUCCESS` with a result of one number, and lists them
as `GET /tasks` does: pages of 100 over one connection from asyncio, one question after another. Pages further back
begin at cursors of random moments. *Redis* is how long Redis does nothing else for one step of a question, on
average; a page of a name takes up to four. The goal is a P95 below 50 ms.
"""

MEMORY = f"""
## Memory

`used_memory` of Redis, bytes for each task. *Record*: the hash with what expires it. *Index*: its one entry. *Result*:
what `AsyncResult` finds. **The budget is 768 bytes for a record and its index entry**; a workflow's parent and root and
a schedule's slot come on top, and the result is as large as it is. Then all that has ended expires within
{SHORT_SECONDS} s, and the keeper's sweep goes over the indexes.
"""


@dataclass(frozen=True)
class Row:
    """A record to load."""

    task_id: str
    name: str
    queue: str
    state: str
    submitted_ms: int


def main() -> None:
    """Load, ask, expire and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--asked", type=int, default=300, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/records.md")
    options = parser.parse_args()
    dice = random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    with RedisServer() as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        version = client.info("server")["redis_version"]
        client.config_set("appendonly", "no")
        client.config_set("save", "")
        app = create_app(Settings.model_validate({"redis_url": server.url, "workloads": ("workloads.examples",)}))
        print("loading", flush=True)
        rows = list(_rows(options.records, dice))
        same = _is_written_alike(app, client)
        memory = _load(app, client, rows)
        print("asking", flush=True)
        speed = asyncio.run(_ask(app, client, rows, options.asked, dice))
        print("expiring", flush=True)
        ends = _expire(app, client, rows, memory["before"])
    text = page(
        "Task records",
        INTRODUCTION,
        f"{conditions('celeriac', 'redis')}, Redis server {version}, seed {options.seed}, {options.records:,} records, "
        f"{options.asked} questions of each kind",
        same,
        "## Lists",
        table(["", "records that match", "P50 ms", "P95 ms", "P99 ms", "longest ms", "Redis ms"], speed),
        MEMORY,
        table(["bytes per task", ""], [[name, f"{value:,.0f}"] for name, value in memory.items() if name != "before"]),
        table(["", ""], ends),
    )
    deliver("records.md", text, write=options.write)


def _rows(records: int, dice: random.Random) -> Iterator[Row]:
    now_ms, day_ms = int(time.time() * 1000), 86_400_000
    states = [state for state, share in STATES.items() for _ in range(share)]
    for number in range(records):
        name = RARE if dice.random() < 0.0001 else dice.choice(NAMES)
        submitted_ms = now_ms - day_ms + day_ms * number // records
        task_id = f"{dice.getrandbits(32):08x}-{dice.getrandbits(16):04x}-4000-8000-{dice.getrandbits(48):012x}"
        yield Row(task_id, name, dice.choice(QUEUES), dice.choice(states), submitted_ms)


def _fields(row: Row) -> dict[str, str]:
    """The fields as submit, start and end write them, in their order."""
    moment = datetime.fromtimestamp(row.submitted_ms / 1000, UTC)
    submitted, started, ended = (
        (moment + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds") for ms in (0, 6, 8)
    )
    fields = {"event": f"{row.submitted_ms + 8}-0", "name": row.name, "queue": row.queue, "priority": "5"}
    fields |= {"mode": "celery", "state": row.state}
    fields["submitted_at"] = submitted
    if row.state not in {"PENDING", "REVOKED"}:
        fields |= {"started_at": started, "worker": WORKER, "retries": "0", "delivery": str(row.submitted_ms * 1000)}
    if row.state in {"SUCCESS", "FAILURE", "REVOKED"}:
        fields["finished_at"] = ended
    return fields


def _result(row: Row) -> str:
    value: Any = 5
    if row.state == "FAILURE":
        value = {"exc_type": "ValueError", "exc_message": ["no such file"], "exc_module": "builtins"}
    traceback = (
        "Traceback (most recent call last):\n" + 6 * '  File "tasks.py", line 42, in run\n    raise ValueError\n'
    )
    return json.dumps(
        {
            "status": row.state,
            "result": value,
            "traceback": traceback if row.state == "FAILURE" else None,
            "children": [],
            "date_done": "2026-11-22T12:00:00.000000+00:00",
            "task_id": row.task_id,
        }
    )


def _is_written_alike(app: CeleriacApp, client: redis.Redis) -> str:
    """Write one record by the platform's scripts and by the loader, which leave the same keys."""
    app.records.add("one", name=NAMES[0], queue=QUEUES[0], priority=5)
    app.records.begin("one", None, retries=0, worker=WORKER, started=None)
    app.records.store("one", "SUCCESS", worker=WORKER, result=StoredResult("{}", 60))
    own = client.hgetall(app.keys.task("one"))
    (row,) = [
        Row("one", NAMES[0], QUEUES[0], "SUCCESS", int(client.zscore(app.keys.index("SUCCESS", QUEUES[0]), "one")))
    ]
    loaded = _fields(row)
    if set(own) != set(loaded) or any(own[field] != loaded[field] for field in ("submitted_at", "state", "worker")):
        msg = f"the loader writes {loaded}, the platform {own}"
        raise RuntimeError(msg)
    client.flushall()
    return f"The fields of a record that has ended: {', '.join(f'`{field}`' for field in own)}."


def _load(app: CeleriacApp, client: redis.Redis, rows: list[Row]) -> dict[str, float]:
    empty = used = _used(client)
    taken = {}
    pipe = client.pipeline(transaction=False)
    client.sadd(app.keys.queues, *QUEUES)

    def load(what: str, write: Callable[[Row], None]) -> None:
        nonlocal used
        for number, row in enumerate(rows, start=1):
            write(row)
            if number % CHUNK == 0 or number == len(rows):
                pipe.execute()
        taken[what] = (_used(client) - used) / len(rows)
        used = _used(client)

    def record(row: Row) -> None:
        pipe.hset(app.keys.task(row.task_id), mapping=_fields(row))
        pipe.expire(app.keys.task(row.task_id), 7 * 86_400)

    def index(row: Row) -> None:
        pipe.zadd(app.keys.index(row.state, row.queue), {row.task_id: row.submitted_ms})

    def result(row: Row) -> None:
        if row.state in {"SUCCESS", "FAILURE", "RETRY"}:
            pipe.set(app.keys.result(row.task_id), _result(row), ex=7 * 86_400)

    load("record", record)
    load("index", index)
    taken["record and index, budget 768"] = taken["record"] + taken["index"]
    load("result", result)
    return {**taken, "before": empty}


async def _ask(
    app: CeleriacApp, client: redis.Redis, rows: list[Row], asked: int, dice: random.Random
) -> list[list[str]]:
    newest = rows[-1].submitted_ms

    def cursor() -> str:
        return f"{dice.choice(rows).submitted_ms}:z"

    def moment(row: Row) -> datetime:
        return datetime.fromtimestamp(row.submitted_ms / 1000, UTC)

    def hour() -> TaskFilter:
        start = moment(dice.choice(rows))
        return TaskFilter(since=start, until=start + timedelta(hours=1))

    queue, state = QUEUES[0], TaskState.FAILURE
    questions: dict[str, tuple[Callable[[Row], bool], Callable[[], tuple[TaskFilter, str | None]]]] = {
        "all, first page": (lambda _: True, lambda: (TaskFilter(), None)),
        "all, a page further back": (lambda _: True, lambda: (TaskFilter(), cursor())),
        "a queue": (lambda row: row.queue == queue, lambda: (TaskFilter(queue=queue), cursor())),
        "a state": (lambda row: row.state == state, lambda: (TaskFilter(states=[state]), cursor())),
        "a queue and a state": (
            lambda row: row.queue == queue and row.state == state,
            lambda: (TaskFilter(queue=queue, states=[state]), cursor()),
        ),
        "an hour": (lambda row: newest - row.submitted_ms < 3_600_000, lambda: (hour(), None)),
        "a name, one in four": (lambda row: row.name == NAMES[0], lambda: (TaskFilter(name=NAMES[0]), cursor())),
        "a name, one in 10,000 (1,000 looked at)": (
            lambda row: row.name == RARE,
            lambda: (TaskFilter(name=RARE), cursor()),
        ),
    }
    lines = []
    for name, (matches, question) in questions.items():
        for _ in range(5):
            await app.listing.page_by(app.line, question()[0])
        client.config_resetstat()
        times = [await _timed(app, *question()) for _ in range(asked)]
        times.sort()
        shown = [times[int(len(times) * share)] for share in (0.5, 0.95, 0.99)] + [times[-1]]
        spent = client.info("commandstats")["cmdstat_evalsha"]
        figures = [f"{ms:.1f}" for ms in (*(value * 1000 for value in shown), spent["usec_per_call"] / 1000)]
        lines.append([name, f"{sum(map(matches, rows)):,}", *figures])
        print(lines[-1], flush=True)
    await app.line.close()
    return lines


async def _timed(app: CeleriacApp, chosen: TaskFilter, cursor: str | None) -> float:
    asking: Awaitable[Any] = app.listing.page_by(app.line, chosen, cursor=cursor)
    start = time.perf_counter()
    await asking
    return time.perf_counter() - start


def _expire(app: CeleriacApp, client: redis.Redis, rows: list[Row], empty: float) -> list[list[str]]:
    full = _used(client)
    ended = [row for row in rows if TaskState(row.state).ready]
    pipe = client.pipeline(transaction=False)
    for number, row in enumerate(ended, start=1):
        for key in (app.keys.task(row.task_id), app.keys.result(row.task_id)):
            pipe.expire(key, SHORT_SECONDS)
        if number % CHUNK == 0 or number == len(ended):
            pipe.execute()
    keys = client.dbsize()
    time.sleep(SHORT_SECONDS)
    # Redis takes out in the background what nobody asks for.
    while client.dbsize() < keys:
        keys = client.dbsize()
        time.sleep(1)
    expired = _used(client)
    client.config_resetstat()
    start, rounds = time.monotonic(), 1
    sweep = Sweep(app.keys, expires_seconds=SHORT_SECONDS, unfinished_expires_seconds=7 * 86_400)
    while sweep(client):
        rounds += 1
        time.sleep(0.05)
    seconds = time.monotonic() - start
    swept = _used(client)
    spent = client.info("commandstats")["cmdstat_evalsha"]
    entries = sum(client.zcard(name) for name in client.scan_iter(match=f"{app.keys.indexes}*"))
    mib = 2**20
    return [
        [f"before, {len(rows):,} records", f"{(full - empty) / mib:,.0f} MiB"],
        [f"after {len(ended):,} have expired, before the sweep", f"{(expired - empty) / mib:,.0f} MiB"],
        ["after the sweep", f"{(swept - empty) / mib:,.0f} MiB, {entries:,} entries in the indexes"],
        ["the sweep took", f"{seconds:,.0f} s in {rounds:,} steps, {spent['usec_per_call'] / 1000:.1f} ms each"],
    ]


def _used(client: redis.Redis) -> int:
    return cast("int", client.info("memory")["used_memory"])


if __name__ == "__main__":
    main()
