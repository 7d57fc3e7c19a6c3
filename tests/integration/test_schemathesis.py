"""The running API keeps what its OpenAPI document promises, whatever is sent to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from celeriac import CeleriacApp
from tests.contract.fuzzing import VARIABLES, Supply, run_schemathesis
from tests.platform import Platform

#: How long, seconds; `python -m tests.soak contract` runs longer, with other seeds.
SECONDS = 60
SEED = 6


@pytest.mark.timeout(600)
def test_no_request_is_answered_by_an_error_of_ours_or_against_the_document(
    tmp_path: Path, redis_url: str, postgres_url: str, make_app: Callable[..., CeleriacApp]
):
    with Platform(tmp_path, redis_url, postgres_url, **VARIABLES) as platform:
        platform.start_api()
        platform.start_worker("contract", concurrency=1)
        with Supply(platform, make_app(redis_url=redis_url, database_url=postgres_url)):
            outcome = run_schemathesis(platform, seconds=SECONDS, seed=SEED)
        assert outcome.returncode == 0, outcome.stdout
        assert "unexpected_error" not in platform.log("api")
