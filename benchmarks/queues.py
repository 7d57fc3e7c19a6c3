"""Fairness between queues, the order of priorities, and the memory of what waits, beside stock Celery.

`python -m benchmarks.queues` takes about 5 minutes; `--quick` one; `--write` also writes docs/benchmarks/queues.md.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

from benchmarks.arena import Arena, Maker
from benchmarks.contestants.celeriac import Celeriac
from benchmarks.contestants.celery import Celery
from benchmarks.contestants.contestant import Contestant
from benchmarks.ledger import tasks_of
from benchmarks.pages import deliver, page, spread, table
from benchmarks.rounds import conditions
from benchmarks.throughput import RUN_SECONDS
from tests.platform import wait_for

QUEUES = ("bench_many", "bench_some", "bench_few")

#: The second queue has a tenth of the first one's backlog, the third a hundredth.
SHARES = (100, 10, 1)

#: Executions after which the shares of the queues are looked at, as parts of the smallest backlog.
WINDOWS = (1, 3, 10)

PRIORITIES = range(9, -1, -1)

#: Stock Celery with ten priorities in lists of their own, and queues in the order of priority within each.
TEN_PRIORITIES = {"priority_steps": list(range(10)), "sep": ":", "queue_order_strategy": "priority"}

INTRODUCTION = """
`python -m benchmarks.queues` publishes everything first and then starts one worker of two slots (prefork), so that what
it chooses is seen, not what happened to be there. The order is that in which the tasks' bodies begin.
"""

FAIRNESS = """
## Fairness between queues

One worker consumes three queues with unequal backlogs. The shares of the three, largest backlog first, among the first
executions, in percent, median of the rounds; *done after* is how many tasks in all had begun when the smallest queue's
last did. Celery with its
default, `queue_order_strategy: round_robin`.
"""

PRIORITY = """
## Order of priorities

Messages of priorities 0 to 9, equally many each, published in random order into one queue. The median place in the
order of execution by priority (the most urgent first: 9 for Celeriac; 0 for kombu, turned here), and the share of
pairs of tasks with different priorities that began in the wrong order. Celery with ten priorities
(`priority_steps`, by default four); *as installed* has `[0, 3, 6, 9]`.
"""

MEMORY = """
## Memory

`used_memory` of Redis for 1,000 no-op tasks with one small argument. *Message*: what waits in the queue alone.
*Queued*: with all that publishing leaves, for Celeriac the task's record. *Done*: what is left when the task has ended
and its result is stored, which Celeriac keeps for an hour, as Celery does here (its default is a day). In KiB.
"""


def main() -> None:
    """Run all parts and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of fairness and of priorities")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of the order of publishing")
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/queues.md")
    options = parser.parse_args()
    rounds, backlog, each, stored = (1, 10, 10, 1000) if options.quick else (options.rounds, 30, 50, 10_000)

    print(f"seed {options.seed}", flush=True)
    dice = random.Random(options.seed)
    fair: dict[str, Maker] = {"Celery": Celery, "Celeriac": Celeriac}
    ordered: dict[str, Maker] = {
        "Celery, prefetch 4": partial(Celery, transport=TEN_PRIORITIES),
        "Celeriac, prefetch 4": Celeriac,
        "Celery, prefetch 1": partial(Celery, transport=TEN_PRIORITIES, prefetch=1),
        "Celeriac, prefetch 1": partial(Celeriac, prefetch=1),
        "Celery as installed, prefetch 4": Celery,
    }
    with Arena() as arena:
        server = arena.version
        print("fairness", flush=True)
        shares = {name: [_fairness(arena, make, backlog, dice) for _ in range(rounds)] for name, make in fair.items()}
        print("priorities", flush=True)
        orders = {name: [_order(arena, make, each, dice) for _ in range(rounds)] for name, make in ordered.items()}
        print("memory", flush=True)
        memory = {name: _memory(arena, make, stored) for name, make in fair.items()}

    counts = ", ".join(f"{share * backlog:,}" for share in SHARES)
    text = page(
        "Queues",
        INTRODUCTION,
        f"{conditions('celeriac', 'celery', 'kombu', 'redis')}, Redis server {server}, seed {options.seed}",
        FAIRNESS,
        f"Backlogs {counts}; {rounds} rounds.",
        _fairness_table(shares, backlog),
        PRIORITY,
        f"{each} tasks of each priority; {rounds} rounds.",
        _order_table(orders),
        MEMORY,
        _memory_table(memory, stored),
    )
    deliver("queues.md", text, write=options.write)


def _executed(contestant: Contestant, queues: Sequence[str], count: int) -> list[int]:
    """The tasks' numbers in the order of their execution."""
    worker = contestant.start_worker(*queues)
    wait_for(lambda: contestant.ledger.count() >= count, "all tasks to run", RUN_SECONDS)
    worker.stop()
    return [entry.index for entry in tasks_of(contestant.ledger.entries())]


def _fairness(arena: Arena, make: Maker, backlog: int, dice: random.Random) -> list[str]:
    """The queues in the order in which their tasks were executed."""
    queue_of = [queue for queue, share in zip(QUEUES, SHARES, strict=True) for _ in range(share * backlog)]
    dice.shuffle(queue_of)
    with arena.run(make) as contestant:
        for index, queue in enumerate(queue_of):
            contestant.publish(index, queue=queue)
        return [queue_of[index] for index in _executed(contestant, QUEUES, len(queue_of))]


def _order(arena: Arena, make: Maker, each: int, dice: random.Random) -> list[int]:
    """The priorities in the order in which their tasks were executed."""
    priority_of = [priority for priority in PRIORITIES for _ in range(each)]
    dice.shuffle(priority_of)
    with arena.run(make) as contestant:
        for index, priority in enumerate(priority_of):
            contestant.publish(index, priority=priority)
        return [priority_of[index] for index in _executed(contestant, (), len(priority_of))]


def _memory(arena: Arena, make: Maker, tasks: int) -> dict[str, float]:
    """Bytes per task, by state."""
    with arena.run(make) as contestant:
        # What the file of appended commands buffers would count as memory, too.
        arena.redis.config_set("appendonly", "no")
        used = {}
        empty = _empty(arena, contestant)
        for index in range(tasks):
            contestant.publish(index, task="stored")
        used["queued"] = _used_memory(arena) - empty
        _executed(contestant, (), tasks)
        used["done"] = _used_memory(arena) - empty
        empty = _empty(arena, contestant)
        for index in range(tasks):
            contestant.publish(index, task="stored")
        for key in arena.redis.scan_iter(count=1000):
            if arena.redis.type(key) != b"list":
                arena.redis.delete(key)
        used["message"] = _used_memory(arena) - empty
        arena.redis.config_set("appendonly", "yes")
    return {state: value / tasks for state, value in used.items()}


def _empty(arena: Arena, contestant: Contestant) -> int:
    """What an empty Redis uses, once the publisher's connection has its buffers."""
    contestant.publish(0, task="stored")
    arena.redis.flushall()
    return _used_memory(arena)


def _used_memory(arena: Arena) -> int:
    return cast("int", arena.redis.info("memory")["used_memory"])


def _fairness_table(shares: Mapping[str, Sequence[Sequence[str]]], backlog: int) -> str:
    windows = [part * backlog for part in WINDOWS]
    header = ["", *(f"first {window}, %" for window in windows), "the smallest done after"]
    rows = []
    for name, orders in shares.items():
        cells = [name]
        for window in windows:
            counts = [Counter(order[:window]) for order in orders]
            medians = [statistics.median(count[queue] / window * 100 for count in counts) for queue in QUEUES]
            cells.append(" / ".join(f"{median:.0f}" for median in medians))
        last = [len(order) - order[::-1].index(QUEUES[-1]) for order in orders]
        rows.append([*cells, spread(last)])
    return table(header, rows)


def _order_table(orders: Mapping[str, Sequence[Sequence[int]]]) -> str:
    header = ["", *(f"{priority}" for priority in PRIORITIES), "pairs in the wrong order, %"]
    rows = []
    for name, rounds in orders.items():
        cells = [name]
        for priority in PRIORITIES:
            places = [place for order in rounds for place, one in enumerate(order, start=1) if one == priority]
            cells.append(f"{statistics.median(places):,.0f}")
        rows.append([*cells, spread([_wrong(order) * 100 for order in rounds], ".2f")])
    return table(header, rows)


def _wrong(order: Sequence[int]) -> float:
    """The share of pairs in which the less urgent came first."""
    before: Counter[int] = Counter()
    wrong = pairs = 0
    for done, priority in enumerate(order):
        wrong += sum(count for other, count in before.items() if other < priority)
        pairs += done - before[priority]
        before[priority] += 1
    return wrong / pairs


def _memory_table(memory: Mapping[str, Mapping[str, float]], tasks: int) -> str:
    rows = [
        [name, *(f"{used[state] * 1000 / 1024:,.0f}" for state in ("message", "queued", "done"))]
        for name, used in memory.items()
    ]
    header = [f"KiB per 1,000, of {tasks:,}", "message", "queued", "done, result stored"]
    return table(header, rows)


if __name__ == "__main__":
    main()
