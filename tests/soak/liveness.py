"""An hour of empty and full queues, restarts of Redis, and workers that come and go: does any message wait in vain?

Promise: no message waits for more than 1 s while a slot is free for it; `waits` defines both. A wait that lasts is
looked into while it does (`stalls`): what Redis holds, and the stacks of all workers.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.soak import scenes
from tests.soak.agenda import Agenda
from tests.soak.history import History
from tests.soak.jobs import Job, Publisher
from tests.soak.ledger import Ended, Event, Refused, Scene, Slow, Started, Submitted, now
from tests.soak.options import Options
from tests.soak.pulse import SLOW_SECONDS, Pulse
from tests.soak.report import Report, load, percentile, say, table
from tests.soak.rig import MakeApp, Rig, make_app
from tests.soak.stalls import StallWatch
from tests.soak.verdict import RECONNECT_SECONDS, violations_of_executions, violations_of_records, violations_of_workers
from tests.soak.waits import (
    HANDOVER_SECONDS,
    LOST_CLAIM_SECONDS,
    RECOVERY_SECONDS,
    Wait,
    waits,
)
from tests.soak.workers import Worker
from tests.soak.workload import QUEUES

#: The promise, seconds.
LIMIT_SECONDS = 1.0
#: How many of the worst waits are shown.
SHOWN = 5
#: How long before a wait and in it events count as its circumstances, seconds.
NEAR_SECONDS = 10.0
#: Seconds without any event after which a task that has not ended is lost.
QUIET_SECONDS = 60.0


@dataclass(frozen=True)
class LivenessOptions(Options):
    """How long."""

    #: minutes of scenes
    minutes: float = 60.0
    #: workers at most at a time
    workers: int = 3
    #: messages held per slot, running ones included; 0 for the default
    prefetch: int = 0


def run(seed: int, options: LivenessOptions, folder: Path, make: MakeApp = make_app) -> Report:
    """Run the trial."""
    rng = random.Random(seed)
    report = Report("liveness", _promise(options), seed)
    with Rig(folder, make) as rig:
        if options.prefetch:
            rig.environment["CELERIAC_WORKER__PREFETCH_MULTIPLIER"] = str(options.prefetch)
        play = _Play(rig, rng, options)
        with Pulse(rig):
            play.run()
        records = rig.settle(rig.history().submitted, QUIET_SECONDS)
        left = rig.left_over()
        report.figure("load over the last minute", load())
        for worker in rig.workers:
            worker.stop()
        for worker in rig.workers:
            worker.wait()
        events, ended_at = rig.ledger.read(), now()
    history = History.of(events)
    _figures(report, history, play)
    _judge_waits(report, list(waits(history, ended_at)), events)
    expected = {task: play.jobs[task].expected for task in history.submitted}
    report.violations += violations_of_records(history, expected, records)
    report.violations += violations_of_executions(history)
    report.violations += violations_of_workers(history)
    report.violations += [f"left over in Redis: {size} in {key}" for key, size in left.items()]
    return report


class _Play:
    """Scene after scene, with what disturbs them."""

    def __init__(self, rig: Rig, rng: random.Random, options: LivenessOptions) -> None:
        self._rig, self._rng, self._options = rig, rng, options
        self._agenda = Agenda()
        self._is_down = False
        self.jobs: dict[str, Job] = {}
        #: What was done to the platform, by name.
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """Play until the time is over, then bring everything back."""
        end = now() + self._options.minutes * 60
        watch = StallWatch(self._rig)
        self._agenda.every(0.1, lambda: self._rig.note_ready(self._rig.workers))
        self._agenda.every(0.5, watch.look)
        self._agenda.after(0, self._come)
        self._agenda.after(20, self._disturb)
        while now() < end:
            scene = scenes.draw(self._rng)
            self.jobs |= {job.task_id: job for _, job in scene.jobs}
            self._rig.scene(scene.name)
            self.counts[f"scene {scene.name}"] += 1
            began = now()
            with Publisher(self._rig, scene.jobs) as publisher:
                self._agenda.run_until(lambda: publisher.done and now() > began + scene.seconds)  # noqa: B023
            say(f"{(end - now()) / 60:.1f} minutes left; {scene.name}; {len(self.jobs):,} tasks")
        if self._is_down:
            self._redis_returns()
        self._rig.scene("end")
        self._rig.wait_until_ready(self._rig.start_worker(QUEUES, 2, self._options.pool or None))

    def _disturb(self) -> None:
        """Do something to the platform, and something else after a while."""
        self._agenda.after(self._rng.uniform(4, 25), self._disturb)
        if self._is_down:
            return
        actions: list[tuple[int, Callable[[], None]]] = [
            (5, self._come),
            (4, self._go),
            (1, self._all_go),
            (1, self._die),
            (3, self._redis_restarts),
            (2, self._cut),
        ]
        weights, choices = zip(*actions, strict=True)
        self._rng.choices(choices, weights)[0]()

    def _come(self) -> None:
        """A worker comes, for some of the queues; the one that was there for longest goes where there are too many."""
        if len(self._rig.workers) >= self._options.workers:
            self._go()
        queues = self._rng.choice([QUEUES, QUEUES, self._rng.sample(QUEUES, 2), self._rng.sample(QUEUES, 1)])
        self._rig.start_worker(queues, self._rng.randint(1, 3), self._options.pool or None)
        self.counts["workers that came"] += 1

    def _go(self) -> None:
        """A worker stops in order; the next comes soon where none is left."""
        staying = self._staying()
        if staying:
            self._stop(staying[0])
        if len(staying) <= 1:
            self._agenda.after(self._rng.uniform(0.5, 5), self._come)

    def _all_go(self) -> None:
        """All workers stop, and some come after a while."""
        for worker in self._staying():
            self._stop(worker)
        for _ in range(self._rng.randint(1, 2)):
            self._agenda.after(self._rng.uniform(3, 10), self._come)

    def _die(self) -> None:
        """A worker is killed, and another comes."""
        if staying := self._staying():
            self._rng.choice(staying).kill()
            self.counts["workers killed"] += 1
        self._agenda.after(self._rng.uniform(0, 2), self._come)

    def _redis_restarts(self) -> None:
        """Redis is killed, and comes back."""
        self._is_down = True
        self._rig.kill_redis()
        self.counts["restarts of Redis"] += 1
        self._agenda.after(self._rng.choice([self._rng.uniform(0.1, 1), self._rng.uniform(1, 8)]), self._redis_returns)

    def _redis_returns(self) -> None:
        if self._is_down:
            self._rig.start_redis()
            self._is_down = False

    def _cut(self) -> None:
        """All connections to Redis break."""
        self._rig.cut_connections()
        self.counts["times that all connections were cut"] += 1

    def _staying(self) -> list[Worker]:
        """The workers that nobody has asked to stop, the oldest first."""
        return [worker for worker in self._rig.workers if not worker.stopping]

    def _stop(self, worker: Worker) -> None:
        worker.stop()
        self.counts["workers that went"] += 1


def _figures(report: Report, history: History, play: _Play) -> None:
    down = sum((up or end_of(history)) - began for began, up in history.outages)
    report.figure("acknowledged submits", len(history.submitted))
    report.figure("submits that raised", len(history.refused))
    report.figure("executions, retries among them", len(history.executions))
    for what, count in sorted(play.counts.items()):
        report.figure(what, count)
    report.figure("Redis was away", f"{down:.0f} s in all")
    slow = Counter(event.what for event in history.slow)
    report.figure(
        f"more than {SLOW_SECONDS:g} s late, in the trial's own process",
        ", ".join(f"{what} {count} times" for what, count in sorted(slow.items())) or "nothing",
    )


def _judge_waits(report: Report, found: list[Wait], events: list[Event]) -> None:
    seconds = [wait.seconds for wait in found]
    for percent in (50, 99, 99.9, 100):
        report.figure(f"longest stretch beside a free slot, P{percent:g}", f"{percentile(seconds, percent):.3f} s")
    report.figure(f"**waits beside a free slot of more than {LIMIT_SECONDS:g} s**", len(list(_late(found))))
    held = sum(wait.prefetched for wait in _late(found))
    report.figure("of these, held meanwhile by a worker whose own slots were all busy", held)
    report.violations += [
        f"task {wait.task} attempt {wait.attempt} of {wait.queue} waited {wait.seconds:.2f} s beside a free slot"
        f"{', held by a busy worker' if wait.prefetched else ''}"
        for wait in sorted(_late(found), key=lambda wait: -wait.seconds)
    ]
    worst = sorted(found, key=lambda wait: -wait.seconds)[:SHOWN]
    rows = [(f"{wait.seconds:.3f} s", wait.queue, _state(wait), circumstances(wait, events)) for wait in worst]
    head = ("longest stretch", "queue", "from when it could run", "circumstances, in seconds from there")
    report.details.append(f"The {len(rows)} worst waits:\n\n{table(head, rows)}")


def circumstances(wait: Wait, events: list[Event]) -> str:
    """What was done to the platform around a wait, for people."""
    end = wait.start if wait.start is not None else wait.longest[1]
    words = []
    scene = "no scene"
    for event in events:
        name = type(event).__name__
        if event.at > end:
            break
        if isinstance(event, Scene):
            scene = event.name
        elif event.at > wait.eligible - NEAR_SECONDS and not isinstance(event, Submitted | Refused | Started | Ended):
            who = f" {event.what}" if isinstance(event, Slow) else f" {getattr(event, 'worker', '')}".rstrip()
            words.append(f"{name}{who} {event.at - wait.eligible:+.1f}")
    return f"{scene}: {', '.join(words) or 'nothing'}"


def end_of(history: History) -> float:
    """When the last execution began or ended."""
    return max((each.end or each.start for each in history.executions.values()), default=0.0)


def _late(found: list[Wait]) -> Iterator[Wait]:
    return (wait for wait in found if wait.seconds > LIMIT_SECONDS)


def _state(wait: Wait) -> str:
    held = ", held by a busy worker" if wait.prefetched else ""
    return "never started" if wait.start is None else f"started after {wait.start - wait.eligible:.3f} s{held}"


def _promise(options: LivenessOptions) -> str:
    return (
        f"{options.minutes:g} minutes of trickles, bursts, floods, silence and delayed tasks in three queues, while "
        "Redis is killed and restarted, all its connections are cut, and workers come, go and are killed. No message "
        f"waits for more than {LIMIT_SECONDS:g} s while a slot is free for it. A slot is busy between two tasks that "
        f"follow within {HANDOVER_SECONDS:g} s. Not counted: {RECONNECT_SECONDS:g} s after Redis is back, and for "
        f"messages that were there before and may have been claimed, {LOST_CLAIM_SECONDS:g} s after Redis is back or "
        f"{RECOVERY_SECONDS:g} s after a worker was killed."
    )
