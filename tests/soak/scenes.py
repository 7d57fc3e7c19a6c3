"""What happens in a trial of liveness: scenes of publishing, and what disturbs them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from celeriac.results import TaskState
from tests.soak.jobs import Job, mixed, task_id
from tests.soak.workload import QUEUES

#: Seconds of a moment of publishing, and the job.
Timed = tuple[float, Job]


@dataclass(frozen=True)
class Scene:
    """Some seconds of publishing."""

    name: str
    seconds: float
    jobs: list[Timed]


def draw(rng: random.Random) -> Scene:
    """Draw a scene."""
    name = rng.choice(sorted(_SCENES))
    seconds = rng.uniform(8, 25)
    jobs = sorted(_SCENES[name](rng, seconds), key=lambda timed: timed[0])
    return Scene(name, seconds, jobs)


def _trickle(rng: random.Random, seconds: float) -> Iterator[Timed]:
    """One message now and then, so that workers fall idle in between."""
    at = rng.uniform(0, 1)
    while at < seconds:
        yield at, mixed(rng)
        at += rng.uniform(0.05, 2.5)


def _silence(rng: random.Random, seconds: float) -> Iterator[Timed]:
    """Nothing, and then one message: the wake-up that must not be lost."""
    yield seconds * rng.uniform(0.5, 0.95), _short(rng)


def _burst(rng: random.Random, seconds: float) -> Iterator[Timed]:
    """Many messages at once, for one queue or all."""
    queue = rng.choice([*QUEUES, None])
    for _ in range(rng.randint(50, 300)):
        yield 0.0, mixed(rng, queue)
    yield seconds * 0.8, _short(rng)


def _flood(rng: random.Random, seconds: float) -> Iterator[Timed]:
    """More than the workers can do, for a while: full queues."""
    for _ in range(int(seconds * 4)):
        yield (
            rng.uniform(0, seconds / 2),
            replace(mixed(rng), args=(round(rng.uniform(0.2, 0.8), 3),), expected=TaskState.SUCCESS),
        )


def _later(rng: random.Random, seconds: float) -> Iterator[Timed]:
    """Delayed messages, singly and many at one moment, with nothing beside them."""
    for _ in range(rng.randint(5, 30)):
        yield 0.0, replace(_short(rng), countdown=round(rng.uniform(0.1, seconds * 0.9), 3))
    together = round(rng.uniform(1, seconds * 0.7), 3)
    for _ in range(rng.randint(0, 50)):
        yield 0.0, replace(_short(rng), countdown=together)


def _pairs(rng: random.Random, seconds: float) -> Iterator[Timed]:
    """Two or three messages within milliseconds: the second comes while the first is fetched."""
    at = 0.0
    while at < seconds:
        queue = rng.choice(QUEUES)
        for _ in range(rng.randint(2, 3)):
            yield at, _short(rng, queue)
            at += rng.uniform(0, 0.005)
        at += rng.uniform(0.2, 1.5)


def _short(rng: random.Random, queue: str | None = None) -> Job:
    priority = rng.choice((None, None, 0, 9))
    return Job(task_id(rng), queue or rng.choice(QUEUES), args=(round(rng.uniform(0.001, 0.05), 4),), priority=priority)


_SCENES: dict[str, Callable[[random.Random, float], Iterator[Timed]]] = {
    "trickle": _trickle,
    "silence": _silence,
    "burst": _burst,
    "flood": _flood,
    "later": _later,
    "pairs": _pairs,
}
