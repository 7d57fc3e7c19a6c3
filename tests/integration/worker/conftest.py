"""Workers of the trial workload."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from celeriac import CeleriacApp
from tests.platform import Platform
from tests.workload_tasks import ledger

ROOT = Path(__file__).parents[3]


@pytest.fixture
def trial(platform: Platform) -> Platform:
    """A platform with the trial workload; nothing runs yet."""
    platform.environment |= {
        "CELERIAC_WORKLOADS": "tests.workload",
        "PYTHONPATH": str(ROOT),
        "TRIAL_LEDGER": str(platform.folder / "ledger"),
    }
    return platform


@pytest.fixture
def app(trial: Platform, make_app: Callable[..., CeleriacApp]) -> CeleriacApp:
    """The same platform in this process, to publish and to look."""
    return make_app(redis_url=trial.environment["REDIS_URL"], workloads=("tests.workload",))


@pytest.fixture
def client(trial: Platform) -> Iterator[redis.Redis]:
    """Its Redis."""
    with redis.Redis.from_url(trial.environment["REDIS_URL"], decode_responses=True) as client:
        yield client


@pytest.fixture
def lines(trial: Platform) -> Callable[..., list[list[str]]]:
    """The ledger's lines of one kind, of one task or of all."""
    return lambda kind, task_id=None: ledger(Path(trial.environment["TRIAL_LEDGER"]), kind, task_id)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def send(pid: int, number: int) -> None:
    """Send a signal to a process and everything that belongs to it."""
    os.killpg(os.getpgid(pid), number)
