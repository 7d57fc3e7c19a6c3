"""What a platform asks of Redis, read from the server's own counters (INFO).

- Round trips are reads: each time the server reads from a client's socket. A pipeline, a transaction and a script are
  one each, as they are for the client that waits. A request above 16 KiB would count as more; none here is.
- Commands are all that the server executes, those within transactions and scripts included: its work, not the waiting.
- Bytes and processor time are the server's, too.

Asking for the counters is itself a command; what it costs is measured first and taken off.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import redis

from benchmarks.arena import Arena, Maker
from benchmarks.contestants.contestant import SLOTS, Contestant
from benchmarks.throughput import RUN_SECONDS, fill_slots, start_at_gate
from tests.platform import wait_for

#: Seconds until nothing is under way any more, such as acknowledgements and prefetching.
SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class Load:
    """Counters, or the difference of two of them, or that divided by what was done."""

    round_trips: float
    commands: float
    #: Received by the server.
    bytes_in: float
    #: Sent by the server.
    bytes_out: float
    #: The server's processor time, microseconds.
    cpu_us: float
    #: How often each command was executed, those within scripts included.
    by_command: Mapping[str, float]

    def minus(self, other: Load) -> Load:
        """What was added since another."""
        counts = {name: count - other.by_command.get(name, 0) for name, count in self.by_command.items()}
        return Load(
            self.round_trips - other.round_trips,
            self.commands - other.commands,
            self.bytes_in - other.bytes_in,
            self.bytes_out - other.bytes_out,
            self.cpu_us - other.cpu_us,
            counts,
        )

    def per(self, count: float) -> Load:
        """The share of one of so many tasks or seconds."""
        counts = {name: value / count for name, value in self.by_command.items()}
        return Load(
            self.round_trips / count,
            self.commands / count,
            self.bytes_in / count,
            self.bytes_out / count,
            self.cpu_us / count,
            counts,
        )


class Meter:
    """Reads the counters of one server.

    Args:
        client: a client that nobody else uses.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._read()
        first, second = self._read(), self._read()
        self._own = second.minus(first)

    def read(self) -> Load:
        """Read the counters."""
        return self._read()

    def since(self, before: Load) -> Load:
        """What was added since a reading, without this meter's own traffic."""
        return self._read().minus(before).minus(self._own)

    def _read(self) -> Load:
        info = self._client.info("all")
        by_command = Counter(
            {
                name.removeprefix("cmdstat_"): value["calls"]
                for name, value in info.items()
                if name.startswith("cmdstat_") and isinstance(value, dict)
            }
        )
        return Load(
            info["total_reads_processed"],
            info["total_commands_processed"],
            info["total_net_input_bytes"],
            info["total_net_output_bytes"],
            (info["used_cpu_user"] + info["used_cpu_sys"]) * 1e6,
            by_command,
        )


@dataclass(frozen=True)
class TaskLoad:
    """What one task costs."""

    publish: Load
    consume: Load


def per_task(arena: Arena, make: Maker, *, task: str, tasks: int) -> TaskLoad:
    """Measure publishing without a worker, then consuming without a publisher.

    What the worker does by the clock while it consumes is part of it; it is a few commands a second.

    Args:
        arena: where.
        make: the contestant.
        task: `noop` or `stored`.
        tasks: how many.
    """
    with arena.run(make) as contestant:
        fill_slots(contestant)
        meter = Meter(contestant.redis)
        before = meter.read()
        for index in range(tasks):
            contestant.publish(index, task=task)
        published = meter.since(before)
        start_at_gate(contestant)
        time.sleep(SETTLE_SECONDS)
        before = meter.read()
        contestant.ledger.open_gate()
        wait_for(lambda: contestant.ledger.count() >= tasks + SLOTS, "all tasks to run", RUN_SECONDS)
        time.sleep(SETTLE_SECONDS)
        return TaskLoad(published.per(tasks), meter.since(before).per(tasks))


@dataclass(frozen=True)
class IdleLoad:
    """What one worker costs that has nothing to do."""

    redis: Load
    #: Processor time of all its processes, milliseconds a second.
    worker_cpu_ms: float


def idle(makers: Mapping[str, Maker], *, seconds: float, rounds: int) -> dict[str, list[IdleLoad]]:
    """Watch workers that have nothing to do, all at the same time, each on a Redis of its own.

    Args:
        makers: the contestants, by name.
        seconds: how long a round is.
        rounds: how many, without a pause.
    """
    loads: dict[str, list[IdleLoad]] = {name: [] for name in makers}
    with ExitStack() as stack:
        contestants: dict[str, Contestant] = {}
        workers = {}
        for name, make in makers.items():
            contestants[name] = stack.enter_context(stack.enter_context(Arena()).run(make))
            fill_slots(contestants[name])
            workers[name] = start_at_gate(contestants[name])
            contestants[name].ledger.open_gate()
        time.sleep(3 * SETTLE_SECONDS)
        meters = {name: Meter(contestant.redis) for name, contestant in contestants.items()}
        for _ in range(rounds):
            before = {name: (meters[name].read(), workers[name].cpu_seconds()) for name in contestants}
            time.sleep(seconds)
            for name, (load, cpu) in before.items():
                used = (workers[name].cpu_seconds() - cpu) * 1000 / seconds
                loads[name].append(IdleLoad(meters[name].since(load).per(seconds), used))
    return loads
