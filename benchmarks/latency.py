"""How soon an idle worker begins a task: from before its publish to the first line of its body.

All contestants run at the same time, each on a Redis of its own, and take turns task by task: whatever else the machine
does falls on both alike. Publisher and task read the same clock, CLOCK_MONOTONIC.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.arena import Arena, Maker
from benchmarks.contestants.contestant import Contestant
from benchmarks.throughput import START_SECONDS
from tests.platform import wait_for

#: Tasks that warm up publisher, worker and caches, and are not counted.
WARM_UP = 20

#: Seconds between a task's start and the next publish to the same worker: short ones, and each so often one that is
#: longer than any period of polling.
GAP_SECONDS = (0.01, 0.06)
LONG_GAP_SECONDS = 1.5
LONG_GAP_EVERY = 20


@dataclass
class Pickups:
    """Milliseconds, one value a task."""

    #: From before the publish to the start of the task's body.
    started: list[float] = field(default_factory=list)
    #: The publish call alone.
    published: list[float] = field(default_factory=list)


def measure(makers: Mapping[str, Maker], *, samples: int, seed: int) -> dict[str, Pickups]:
    """Publish one task at a time to each contestant in turn.

    Args:
        makers: the contestants, by name.
        samples: how many tasks each.
        seed: of the gaps.
    """
    gaps = random.Random(seed)
    pickups = {name: Pickups() for name in makers}
    with ExitStack() as stack:
        contestants: dict[str, Contestant] = {}
        for name, make in makers.items():
            arena = stack.enter_context(Arena())
            contestants[name] = stack.enter_context(arena.run(make))
            contestants[name].start_worker()
        for index in range(WARM_UP + samples):
            for name, contestant in contestants.items():
                before = time.monotonic_ns()
                contestant.publish(index)
                after = time.monotonic_ns()
                started = _await(contestant, index)
                if index >= WARM_UP:
                    pickups[name].started.append((started - before) / 1e6)
                    pickups[name].published.append((after - before) / 1e6)
            # Both have been idle for the gap and for the other's turn.
            time.sleep(LONG_GAP_SECONDS if index % LONG_GAP_EVERY == 0 else gaps.uniform(*GAP_SECONDS))
    return pickups


def _await(contestant: Contestant, index: int) -> int:
    # Sleeps in between, so that the publisher takes no processor from the worker.
    deadline = time.monotonic() + START_SECONDS
    while contestant.ledger.count() <= index:
        if time.monotonic() > deadline:
            wait_for(lambda: contestant.ledger.count() > index, "a task to start", 0)
        time.sleep(0.001)
    return contestant.ledger.entries(start=index)[0].at_ns
