"""The same work through the queue and by `asyncio.create_task` in the API process: `python -m benchmarks.execution`."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import redis
from sqlalchemy import text

from benchmarks.contestants import in_process_api
from benchmarks.contestants.contestant import ROOT, SLOTS, script
from benchmarks.pages import deliver, page, spread, table
from benchmarks.rounds import conditions
from celeriac.database import Database
from celeriac.database.migrate import Migrations
from celeriac.storage import open_store
from celeriac.workload import load_workloads
from tests.platform import environment, wait_for
from tests.servers import PostgresServer, RedisServer, free_port
from workloads.data_sync import files

WORKLOAD = "workloads.data_sync"
TOKEN = "benchmark-token-of-nobody-in-particular"

OURS = f"Celeriac, a worker with {SLOTS} slots"
THREAD = "`create_task` of a thread"
LOOP = "`create_task` in the loop"

#: How often the API is asked whether it lives while it works, seconds.
PROBE_SECONDS = 0.02

INTRODUCTION = """
`python -m benchmarks.execution` has files synced into PostgreSQL, as `POST /api/data-sync/sync-single-file` does it.

- **Celeriac** publishes a task for each; one worker runs them. What is published outlives every process.
- **`create_task` of a thread**: the endpoint starts `asyncio.to_thread(sync_file, …)` as a task of its event loop.
- **`create_task` in the loop**: the same without a thread, so that the event loop stands still.

Both of these lose what they run with their process. All call the same `sync_file` on the same rows; rounds are
interleaved, in the other direction every second round. *Alone* is from before the request to the commit of the last
row, one file at a time. *Together* is from before the first request to the last commit, all files requested at once.
*Slowest probe* is what `GET /health/live`, asked all the time meanwhile, took at worst.
"""


@dataclass(frozen=True)
class Target:
    """Where one contestant listens."""

    port: int
    path: str


@dataclass
class Rounds:
    """One value a round."""

    alone_seconds: list[float] = field(default_factory=list)
    together_seconds: list[float] = field(default_factory=list)
    slowest_ms: list[float] = field(default_factory=list)


def main() -> None:
    """Run all rounds and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each")
    parser.add_argument("--files", type=int, default=20, help="files requested at once")
    parser.add_argument("--rows", type=int, default=5000, help="rows of a file")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/execution.md")
    options = parser.parse_args()
    with _servers(options.files, options.rows) as (targets, database):
        measured = {name: Rounds() for name in targets}
        for number in range(options.rounds + 1):  # the first one warms up
            for name in list(targets)[:: -1 if number % 2 else 1]:
                one = Rounds() if not number else measured[name]
                _measure(targets[name], database, options.files, one)
                print(f"  round {number}: {name}: {one.together_seconds[-1]:.2f} s", flush=True)
    base = measured[THREAD]
    rows = [
        [
            name,
            spread([seconds * 1000 for seconds in one.alone_seconds]),
            _ratios(one.alone_seconds, base.alone_seconds),
            spread(one.together_seconds, ".2f"),
            _ratios(one.together_seconds, base.together_seconds),
            spread(one.slowest_ms),
        ]
        for name, one in measured.items()
    ]
    head = ["", "alone ms", "of a thread's", "together s", "of threads'", "slowest probe ms"]
    counts = f"{options.rounds} rounds of {options.files} files of {options.rows:,} rows"
    setup = conditions("celeriac", "celery", "kombu", "fastapi", "sqlalchemy", "psycopg")
    text_ = page("Execution", INTRODUCTION, f"{setup}\n\n{counts}", table(head, rows))
    deliver("execution.md", text_, write=options.write)


def _measure(target: Target, database: Database, files: int, rounds: Rounds) -> None:
    with httpx.Client(
        base_url=f"http://127.0.0.1:{target.port}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
    ) as http:
        _empty(database)
        alone = []
        for file_id in range(1, 6):
            began = time.perf_counter()
            _request(http, target, file_id)
            _await(database, file_id)
            alone.append(time.perf_counter() - began)
        rounds.alone_seconds.append(sum(alone) / len(alone))
        _empty(database)
        with _probing(target.port) as probes:
            began = time.perf_counter()
            for file_id in range(1, files + 1):
                _request(http, target, file_id)
            _await(database, files)
            rounds.together_seconds.append(time.perf_counter() - began)
        rounds.slowest_ms.append(max(probes) * 1000)


def _request(http: httpx.Client, target: Target, file_id: int) -> None:
    answer = http.post(target.path, json={"file_id": file_id})
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text


def _await(database: Database, files: int) -> None:
    query = text("SELECT count(*) FROM data_sync_file WHERE status = 'synced'")
    deadline = time.monotonic() + 300
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.execute(query).scalar_one() < files:
            assert time.monotonic() < deadline, "the files were not synced within 300 s"
            time.sleep(0.005)


def _empty(database: Database) -> None:
    with database.write() as session:
        session.execute(text("TRUNCATE data_sync_generic_row, data_sync_run"))
        session.execute(text("UPDATE data_sync_file SET status = 'registered'"))


@contextmanager
def _probing(port: int) -> Iterator[list[float]]:
    seconds: list[float] = []
    stop = threading.Event()

    def probe() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            while not stop.wait(PROBE_SECONDS):
                began = time.perf_counter()
                http.get("/health/live").raise_for_status()
                seconds.append(time.perf_counter() - began)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        thread.join()


@contextmanager
def _servers(count: int, rows: int) -> Iterator[tuple[Mapping[str, Target], Database]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="celeriac-bench-")))
        server = stack.enter_context(RedisServer())
        with redis.Redis.from_url(server.url) as client:
            client.config_set("appendfsync", "everysec")
        url = stack.enter_context(PostgresServer()).create_database()
        database = Database(url)
        Migrations(url, load_workloads([WORKLOAD])).upgrade()
        _register(database, f"file://{folder}/store", count, rows)
        variables = environment(
            PYTHONPATH=str(ROOT),
            REDIS_URL=server.url,
            DATABASE_URL=url,
            CELERIAC_FILE_STORE=f"file://{folder}/store",
            CELERIAC_DATA_DIR=str(folder),
            CELERIAC_WORKLOADS=WORKLOAD,
            CELERIAC_API_TOKEN=TOKEN,
            CELERIAC_LOG__LEVEL="WARNING",
        )
        ours, other = free_port(), free_port()
        uvicorn = [sys.executable, "-m", "uvicorn", f"{in_process_api.__name__}:api", "--log-level=warning"]
        for command in (
            [script("celeriac"), "api", "--port", str(ours)],
            [script("celeriac"), "worker", "--queue=data_sync", f"--concurrency={SLOTS}"],
            [*uvicorn, "--no-access-log", "--port", str(other)],
        ):
            process = subprocess.Popen(command, env=variables, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        for port in (ours, other):
            wait_for(lambda port=port: _answers(port), f"port {port} to answer", 60)
        targets = {
            OURS: Target(ours, "/api/data-sync/sync-single-file"),
            THREAD: Target(other, "/thread"),
            LOOP: Target(other, "/loop"),
        }
        yield targets, database
        database.dispose()


def _register(database: Database, store_url: str, count: int, rows: int) -> None:
    store = open_store(store_url, database)
    for number in range(count):
        lines = ["id,name,amount,note", *(f"{number}-{row},item {row},{row}.25,{'x' * 40}" for row in range(rows))]
        content = io.BytesIO("\n".join(lines).encode())
        files.register(database, store, f"file-{number}.csv", "generic", ["id"], content)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/live").is_success
    except httpx.HTTPError:
        return False


def _ratios(values: list[float], peers: list[float]) -> str:
    return spread([value / peer for value, peer in zip(values, peers, strict=True)], ".2f")


if __name__ == "__main__":
    main()
