"""A short `chaos` of tests/soak: what its minutes show at length has to hold in each run of the tests, too."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from celeriac import CeleriacApp
from tests.servers import RedisServer
from tests.soak import chaos


@pytest.mark.timeout(150)
def test_kills_of_workers_and_of_redis_lose_no_task_and_repeat_none_without_need(
    tmp_path: Path, redis_server: RedisServer, make_app: Callable[..., CeleriacApp]
):
    # `redis_server` is not used: asking for it skips this where there is no Redis.
    seed = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(2**32))
    print(f"SOAK_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    options = chaos.ChaosOptions(tasks=200, kills=7, redis_kills=1, workers=2, quiet=25)
    report = chaos.run(seed, options, tmp_path / "chaos", make_app)
    assert not report.violations, "\n".join(report.violations)
