"""Submits per second and loss of the bundled Redis by its persistence: `python -m benchmarks.persistence`.

A submit is what the platform writes for one task: its record, and the message that it publishes. Each line has a
server and a data directory of its own in each round, and the lines take turns.

- **speed**: connections that send record and message in one piece, the next when the last is answered; and the
  platform's own `send_task`.
- **slower disks**: the same while each sync takes longer, as on a volume over a network or a spinning disk.
- **loss**: Redis is killed at a random instant, in half of the runs while it rewrites its file, and started again on
  its data as the kernel has them (a crash of the process) and as a disk without power would (`benchmarks.power_cut`).
  Lost is what was acknowledged and has no message or no record afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import psutil
import redis

from benchmarks.power_cut import NoRecorder, PowerCut, build_recorder
from benchmarks.rounds import conditions
from benchmarks.submits import QUEUE, RECORD_PREFIX, Request, publish, write
from tests.binaries import find_redis
from tests.servers import RedisServer

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "persistence.md"
BEGIN = "<!-- Written by `python -m benchmarks.persistence --write`. -->"
END = "<!-- End of what it writes. -->"

#: Options of Redis by the name of the mode; `no` leaves syncs to the kernel.
MODES = {
    "always": ["--appendonly", "yes", "--appendfsync", "always"],
    "everysec": ["--appendonly", "yes", "--appendfsync", "everysec"],
    "no": ["--appendonly", "yes", "--appendfsync", "no"],
    "no file": ["--appendonly", "no"],
}
#: The same in all modes. Rewrites come when we ask for them, or they would fall on some lines and not on others.
OPTIONS = ["--save", "", "--maxmemory-policy", "noeviction", "--auto-aof-rewrite-percentage", "0"]

#: Who writes: name, connections, threads of the platform's own submit.
WRITERS = [
    ("1 connection", 1, 0),
    ("10 connections", 10, 0),
    ("100 connections", 100, 0),
    ("`send_task`, 1 thread", 0, 1),
    ("`send_task`, 10 threads", 0, 10),
]
#: Seconds that are measured, and those before that are not.
SECONDS, WARM_UP = 3.0, 0.3
#: What syncs take longer on slower disks, seconds: a volume over a network, a spinning disk.
SLOWER = (0.002, 0.010)

#: Modes that are killed, and what their syncs take longer: 1.5 s is a disk that stalls.
KILLED = [("always", 0.0), ("everysec", 0.0), ("always", 1.5), ("everysec", 1.5), ("no", 0.0), ("no file", 0.0)]
#: Submits per second before the kill, more than the platform's own submit reaches here, and from how many connections.
KILL_RATE, KILL_CONNECTIONS = 2_000, 10
#: Seconds of writing before the kill, at least and at most.
KILL_AFTER = (3.0, 6.0)
#: Rewriting begins at most so many seconds before the kill.
REWRITE_BEFORE = 1.0


class Server(RedisServer):
    """Redis in one mode on a data directory of its own.

    Args:
        mode: one of `MODES`.
        recorder: what `build_recorder` gave, to play a power cut or a slower disk; None for neither.
        sync_seconds: what syncs take longer.
    """

    def __init__(self, mode: str, recorder: Path | None = None, sync_seconds: float = 0.0) -> None:
        super().__init__(find_redis())
        self._options = [*MODES[mode], *OPTIONS]
        self._cut = PowerCut(recorder, self.folder, sync_seconds=sync_seconds) if recorder else None
        self._data = self.folder / "data"
        self._data.mkdir()

    def launch(self) -> None:
        """Start the process."""
        place = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._data)]
        environment = {**os.environ, **(self._cut.environment() if self._cut else {})}
        self._spawn([find_redis(), *place, *self._options], env=environment)

    def kill(self) -> None:
        """End it and the child that rewrites its file, as a power cut ends both."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
        super().kill()

    def rewrite(self) -> None:
        """Begin to rewrite the append-only file."""
        # Redis 7 syncs several files before it answers, and the disk may stall.
        with redis.Redis.from_url(self.url, socket_timeout=60) as client:
            client.bgrewriteaof()

    def known_tasks(self) -> set[str]:
        """The tasks of which it has both message and record."""
        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            records = {key.removeprefix(RECORD_PREFIX) for key in client.scan_iter(f"{RECORD_PREFIX}*", count=5_000)}
            messages: list[str] = client.lrange(QUEUE, 0, -1)
        start = messages[0].index('"id": "') + 7 if messages else 0
        return records & {message[start : start + 36] for message in messages}

    def lose_process(self) -> None:
        """Start the killed server on what the kernel has."""
        if self._cut:
            self._cut.restore(self.folder / "cut")
        self._cut = None
        self.start()

    def lose_power(self) -> None:
        """Start it on what the disk would have had when it was killed."""
        self.kill()
        self._data = self.folder / "cut"
        self.start()


class _Window:
    """The seconds that are measured; as a function, what is done while others write."""

    def __init__(self) -> None:
        self.began = self.ended = self.client = 0.0

    def __call__(self) -> None:
        time.sleep(WARM_UP)
        self.began, used = time.perf_counter(), time.process_time()
        time.sleep(SECONDS)
        self.ended = time.perf_counter()
        self.client = (time.process_time() - used) / (self.ended - self.began)


@dataclass(frozen=True)
class Speed:
    """One measurement of a line."""

    #: Submits per second.
    rate: float
    #: Milliseconds.
    p50: float
    p95: float
    #: The share of a core that the client took; near 1 it is the limit, not Redis.
    client: float


def measure_speed(server: Server, request: Request, connections: int, threads: int) -> Speed:
    """Write for `SECONDS`, from connections or else from threads, and measure."""
    window = _Window()
    if threads:
        acknowledged = publish(server.url, threads, window)
    else:
        acknowledged = asyncio.run(write(server.port, request, connections, window))
    counted = [each.took * 1_000 for each in acknowledged if window.began <= each.at < window.ended]
    quantiles = statistics.quantiles(counted, n=20)
    return Speed(len(counted) / (window.ended - window.began), quantiles[9], quantiles[18], window.client)


@dataclass(frozen=True)
class Loss:
    """What one kill lost, in one way."""

    acknowledged: int
    lost: int
    #: The age of the oldest lost submit when Redis died, milliseconds; 0 where none was lost.
    oldest: float


def measure_loss(server: Server, request: Request, instants: random.Random) -> tuple[Loss, Loss]:
    """Kill a server under load; gives the loss of a crash and of a power cut.

    Raises:
        NoRecorder: the server does not load the recorder.
    """
    killed_at = 0.0
    rewriting = instants.random() < 0.5
    seconds, before = instants.uniform(*KILL_AFTER), instants.uniform(0.0, REWRITE_BEFORE)

    def kill() -> None:
        nonlocal killed_at
        time.sleep(seconds - before)
        if rewriting:
            server.rewrite()
        time.sleep(before)
        killed_at = time.perf_counter()
        server.kill()

    acknowledged = asyncio.run(write(server.port, request, KILL_CONNECTIONS, kill, KILL_RATE))

    def loss() -> Loss:
        known = server.known_tasks()
        gone = [each.at for each in acknowledged if each.task_id not in known]
        return Loss(len(acknowledged), len(gone), max(0.0, killed_at - min(gone)) * 1_000 if gone else 0.0)

    server.lose_process()
    crash = loss()
    server.lose_power()
    return crash, loss()


def speeds(recorder: Path | None, request: Request, rounds: int) -> tuple[str, str]:
    """Measure all lines of speed in turn; gives the tables of this disk and of slower ones."""
    lines = [(0.0, mode) for mode in MODES]
    if recorder:
        lines += list(product(SLOWER, ("always", "everysec")))
    results: dict[tuple[str, float, str], list[Speed]] = {}
    for number, (writer, connections, threads), (delay, mode) in product(range(1, rounds + 1), WRITERS, lines):
        with Server(mode, recorder if delay else None, delay) as server:
            speed = measure_speed(server, request, connections, threads)
        results.setdefault((writer, delay, mode), []).append(speed)
        print(f"  round {number}: {writer}, {mode}, +{delay * 1e3:.0f} ms: {speed.rate:,.0f}/s", flush=True)
    head = "submits/s | lowest to highest | P50 ms | P95 ms | client's core | speed against everysec |"
    dashes = " --- |" * 6
    here = [f"| written by | appendfsync | {head}", f"| --- | --- |{dashes}"]
    slower = [f"| a sync takes | written by | appendfsync | {head}", f"| --- | --- | --- |{dashes}"]
    for (writer, delay, mode), runs in sorted(results.items(), key=lambda item: item[0][1]):
        row = f"{writer} | {mode} | {_speed_cells(runs, results[writer, delay, 'everysec'])} |"
        if delay:
            slower.append(f"| + {delay * 1_000:.0f} ms | {row}")
        else:
            here.append(f"| {row}")
    return "\n".join(here), "\n".join(slower)


def _speed_cells(runs: list[Speed], everysec: list[Speed]) -> str:
    rates = [run.rate for run in runs]
    p50, p95 = statistics.median(run.p50 for run in runs), statistics.median(run.p95 for run in runs)
    client = statistics.median(run.client for run in runs)
    # Round by round, for what else the machine does differs more between rounds than within one.
    ratio = statistics.median(run.rate / base.rate for run, base in zip(runs, everysec, strict=True))
    spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
    return f"{statistics.median(rates):,.0f} | {spread} | {p50:.2f} | {p95:.2f} | {client:.0%} | {ratio:.2f}"


def losses(recorder: Path, request: Request, kills: int, seed: int) -> str:
    """Kill a server of each line in turn; gives the table."""
    instants = random.Random(seed)
    results: dict[tuple[str, float], list[tuple[Loss, Loss]]] = {line: [] for line in KILLED}
    for number, (mode, delay) in product(range(1, kills + 1), KILLED):
        with Server(mode, recorder, delay) as server:
            crash, cut = measure_loss(server, request, instants)
        results[mode, delay].append((crash, cut))
        print(f"  kill {number}: {mode}, +{delay * 1e3:.0f} ms: {crash.lost}, {cut.lost} lost", flush=True)
    lines = [
        "| appendfsync | acknowledged | lost in a crash | oldest ms | lost in a power cut | oldest ms |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (mode, delay), runs in results.items():
        name = f"{mode}, a sync takes + {delay:.1f} s" if delay else mode
        acknowledged = statistics.median(crash.acknowledged for crash, _ in runs)
        cells = " | ".join(_loss_cells(list(way)) for way in zip(*runs, strict=True))
        lines.append(f"| {name} | {acknowledged:,.0f} | {cells} |")
    return "\n".join(lines)


def _loss_cells(ways: list[Loss]) -> str:
    columns = [loss.lost for loss in ways], [loss.oldest for loss in ways]
    return " | ".join(f"{statistics.median(column):,.0f} ({max(column):,.0f})" for column in columns)


def filesystem(folder: Path) -> str:
    """The type of the filesystem that a folder is on."""
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype


def sync_milliseconds(folder: Path) -> tuple[float, float]:
    """The median and the 95th percentile of a sync of 1 kB appended to a file."""
    took: list[float] = []
    with (folder / "probe").open("ab", buffering=0) as probe:
        for _ in range(500):
            probe.write(b"x" * 1_000)
            began = time.perf_counter()
            os.fdatasync(probe.fileno())
            took.append((time.perf_counter() - began) * 1_000)
    quantiles = statistics.quantiles(took, n=20)
    return quantiles[9], quantiles[18]


def main() -> None:
    """Run the rounds and the kills, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of speed; 0 leaves them out")
    parser.add_argument("--kills", type=int, default=20, help="kills of each line; 0 leaves them out")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of the instants of the kills")
    parser.add_argument("--folder", type=Path, help="a folder on the disk to measure; else the temporary one")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="celeriac-persistence-", dir=given.folder) as name:
        tables = report(Path(name).resolve(), given.rounds, given.kills, given.seed)
    print(f"\n{tables}")
    if given.write:
        text = PAGE.read_text()
        start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
        PAGE.write_text(f"{text[:start]}\n\n{tables}\n\n{text[end:]}")


def report(folder: Path, rounds: int, kills: int, seed: int) -> str:
    """Measure everything with data below a folder; gives the tables with their conditions."""
    kind = filesystem(folder)
    if kind in {"tmpfs", "ramfs"}:
        sys.exit(f"the data would lie in memory ({kind}), where syncs cost nothing: name a folder of a disk, --folder")
    print(f"seed {seed}, data on {kind}", flush=True)
    # The servers put their folders there too.
    tempfile.tempdir = str(folder)
    p50, p95 = sync_milliseconds(folder)
    load = os.getloadavg()[0]
    try:
        recorder = build_recorder(folder)
    except NoRecorder as reason:
        print(f"left out: slower disks and losses; {reason}", flush=True)
        recorder = None
    with Server("no file") as server, redis.Redis.from_url(server.url) as client:
        request = Request.of_the_platform(server.url)
        version = client.info("server")["redis_version"]
    parts: list[str] = []
    if rounds:
        here, slower = speeds(recorder, request, rounds)
        parts += [f"{rounds} rounds of {SECONDS:.0f} s, this disk", here]
        parts += [f"{rounds} rounds of {SECONDS:.0f} s, syncs made slower", slower] if recorder else []
    if recorder and kills:
        title = (
            f"{kills} kills of each line at {KILL_RATE:,} submits/s at most, seed {seed}; medians, the most in brackets"
        )
        parts += [title, losses(recorder, request, kills, seed)]
    disk = f"data on {kind}, where a sync takes {p50:.2f} ms (P50), {p95:.2f} ms (P95)"
    server_note = f"Redis {version}, messages of {request.message_bytes} bytes, {disk}, load {load:.1f} at the start"
    return "\n\n".join([conditions("celery", "kombu", "redis"), server_note, *parts])


if __name__ == "__main__":
    main()
