"""Throughput, pickup latency and the load on Redis, beside stock Celery with the same guarantees.

`python -m benchmarks.broker` takes about 15 minutes on two idle cores; `--quick` a minute or two, with figures that
mean nothing; `--write` also writes docs/benchmarks/broker.md.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks import latency, redis_load, throughput
from benchmarks.arena import Arena, Maker
from benchmarks.contestants.celeriac import Celeriac
from benchmarks.contestants.celery import Celery
from benchmarks.pages import deliver, page, spread, table
from benchmarks.redis_load import IdleLoad, TaskLoad
from benchmarks.rounds import conditions
from benchmarks.throughput import Course, Rates

PREFETCHES = (4, 1)

#: Celery as it is installed: acknowledges before it runs, no time limits, prefetch 4.
INSTALLED = "Celery as installed"

INTRODUCTION = """
`python -m benchmarks.broker` runs one worker with two slots (prefork) of each, on the same Redis (appended to a file
that is synced every second), from an empty state each time.

- **Celeriac** is `celeriac worker` with its defaults.
- **Celery** is `celery worker` on `redis://` with Celeriac's promises, as far as its settings can say them:
  `task_acks_late`, `task_reject_on_worker_lost`, the same time limits, children replaced after as many tasks, the same
  worker options (`-O fair --without-gossip --without-mingle`) and, where results are stored, `task_track_started`.
- **Celery as installed** is stock Celery without any of these: it acknowledges before it runs, so a killed worker loses
  what it held.

The task is the same function for both: it appends 16 bytes to a file, which is how the benchmark sees it, and does
not touch Redis. What Celeriac does in addition and cannot be told not to: it records each task when it is published,
when it begins and when it ends, also where no result is kept; asks before each start whether the task was cancelled and
whether its lease is still its own, and the latter again before it stores anything; and renews the lease of every
message it holds. Celery can do none of these, so its figures are without them. What Celery does in addition: where
results are stored, its publisher subscribes to each and unsubscribes when the caller drops it.
"""

THROUGHPUT = """
## Throughput

All tasks are queued first; two tasks at a gate hold both slots until the worker is warm. Rounds are interleaved, in
the other direction every second round. Tasks per second, the median with the slowest and fastest round; the ratio is
that of each round to Celery with the same prefetch in the same round. *Processor* is the time that worker and Redis
take for an execution, which depends less than the rate on what else the machine does. *Published* is `apply_async` one
by one from one thread, without a worker.
"""

LATENCY = """
## Pickup by an idle worker

One task at a time: from before `apply_async` to the first line of the task's body, both workers running at once, each
on a Redis of its own, in turns. Most tasks follow the last after 10 to 60 ms, every twentieth after 1.5 s, so that the
worker has waited. Milliseconds.
"""

LOAD = """
## What a task costs Redis

From the counters of `INFO`, publishing without a worker first, then consuming without a publisher. Round trips are the
server's reads from clients' sockets: a pipeline, a transaction or a script is one. Commands count those within
transactions and scripts, too. With prefetch 4; without what was prefetched before the gate opened, at most 8 messages.
"""

IDLE = """
## What an idle worker costs

Both workers at the same time, each on a Redis of its own, per second.
"""


def main() -> None:
    """Run all parts and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of throughput and of idling")
    parser.add_argument("--tasks", type=int, default=4000, help="tasks a run")
    parser.add_argument("--samples", type=int, default=400, help="pickups of each")
    parser.add_argument("--idle-seconds", type=float, default=20, help="length of a round of idling")
    parser.add_argument("--pool", default="prefork", help="Celeriac's pool")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of the pauses between pickups")
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/broker.md")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tasks, options.samples, options.idle_seconds = 1, 300, 20, 3

    ours = {number: partial(Celeriac, prefetch=number, pool=options.pool) for number in PREFETCHES}
    pair: dict[str, Maker] = {"Celery": Celery, "Celeriac": ours[4]}
    print(f"seed {options.seed}", flush=True)
    with Arena() as arena:
        server = arena.version
        print("throughput", flush=True)
        rates = throughput.measure(arena, _courses(ours), rounds=options.rounds, tasks=options.tasks)
        print("load on Redis", flush=True)
        loads = {
            (name, task): redis_load.per_task(arena, make, task=task, tasks=options.tasks // 2)
            for task in ("noop", "stored")
            for name, make in pair.items()
        }
    print("pickup", flush=True)
    pickups = latency.measure(pair, samples=options.samples, seed=options.seed)
    print("idle", flush=True)
    idle = redis_load.idle(pair, seconds=options.idle_seconds, rounds=options.rounds)

    setup = f"{conditions('celeriac', 'celery', 'kombu', 'redis')}, Redis server {server}"
    counts = f"{options.rounds} rounds of {options.tasks:,} tasks, seed {options.seed}, pool {options.pool}"
    text = page(
        "Broker",
        INTRODUCTION,
        f"{setup}\n\n{counts}",
        THROUGHPUT,
        _throughput_table("Results ignored", rates, "noop"),
        _throughput_table("Results stored", rates, "stored"),
        LATENCY,
        _latency_table(pickups),
        LOAD,
        _load_table(loads),
        _command_list(loads),
        IDLE,
        _idle_table(idle),
    )
    deliver("broker.md", text, write=options.write)


def _courses(ours: Mapping[int, Maker]) -> dict[str, Course]:
    courses = {}
    for task in ("noop", "stored"):
        for prefetch in PREFETCHES:
            courses[f"{task}: Celery, prefetch {prefetch}"] = Course(partial(Celery, prefetch=prefetch), task)
            courses[f"{task}: Celeriac, prefetch {prefetch}"] = Course(ours[prefetch], task)
        courses[f"{task}: {INSTALLED}"] = Course(partial(Celery, settings={}), task)
    return courses


def _throughput_table(head: str, rates: Mapping[str, Rates], task: str) -> str:
    rows = []
    for name, rate in rates.items():
        kind, label = name.split(": ")
        if kind != task:
            continue
        prefetch = "4" if label == INSTALLED else label[-1]
        peer = rates[f"{task}: Celery, prefetch {prefetch}"]
        rows.append(
            [
                label,
                spread(rate.executed),
                _ratios(rate.executed, peer.executed),
                spread(rate.cpu_ms, ".2f"),
                _ratios(rate.cpu_ms, peer.cpu_ms),
                spread(rate.published),
                _ratios(rate.published, peer.published),
            ]
        )
    heads = ["executed/s", "against Celery", "processor ms", "against Celery", "published/s", "against Celery"]
    return table([head, *heads], rows)


def _ratios(values: Sequence[float], peers: Sequence[float]) -> str:
    return spread([value / peer for value, peer in zip(values, peers, strict=True)], ".2f")


def _latency_table(pickups: Mapping[str, latency.Pickups]) -> str:
    rows = []
    for name, pickup in pickups.items():
        cuts = statistics.quantiles(pickup.started, n=100, method="inclusive")
        values = [cuts[49], cuts[94], cuts[98], max(pickup.started), statistics.median(pickup.published)]
        rows.append([name, str(len(pickup.started)), *(f"{value:.2f}" for value in values)])
    return table(["", "tasks", "P50", "P95", "P99", "slowest", "of that the publish call, P50"], rows)


def _load_table(loads: Mapping[tuple[str, str], TaskLoad]) -> str:
    rows = []
    for (name, task), load in loads.items():
        for what, part in (("publish", load.publish), ("consume", load.consume)):
            results = "results ignored" if task == "noop" else "results stored"
            counts = [f"{part.round_trips:.2f}", f"{part.commands:.2f}"]
            sizes = [f"{part.bytes_in:,.0f}", f"{part.bytes_out:,.0f}", f"{part.cpu_us:,.0f}"]
            rows.append([f"{name}, {what}, {results}", *counts, *sizes])
    head = ["per task", "round trips", "commands", "bytes to Redis", "bytes from Redis", "Redis' processor µs"]
    return table(head, rows)


def _command_list(loads: Mapping[tuple[str, str], TaskLoad]) -> str:
    lines = ["Commands per task, results ignored, from 0.05 upwards:", ""]
    for (name, task), load in loads.items():
        if task != "noop":
            continue
        for what, part in (("publish", load.publish), ("consume", load.consume)):
            counts = sorted(part.by_command.items(), key=lambda item: (-round(item[1], 1), item[0]))
            words = [f"{command.upper()} {count:.2f}" for command, count in counts if count >= 0.05]
            lines.append(f"- {name}, {what}: {', '.join(words)}")
    return "\n".join(lines)


def _idle_table(idle: Mapping[str, Sequence[IdleLoad]]) -> str:
    rows = []
    for name, rounds in idle.items():
        parts = [
            spread([one.redis.commands for one in rounds], ",.1f"),
            spread([one.redis.round_trips for one in rounds], ",.1f"),
            spread([one.redis.bytes_in + one.redis.bytes_out for one in rounds]),
            spread([one.worker_cpu_ms for one in rounds], ",.1f"),
        ]
        rows.append([name, *parts])
    return table(["per second", "commands", "round trips", "bytes both ways", "worker's processor ms"], rows)


if __name__ == "__main__":
    main()
