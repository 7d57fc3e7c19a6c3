"""Whatever Schemathesis thinks of, sent to a running API for longer than a test may take.

Promise: no request is answered with 5xx or against the OpenAPI document, and nothing unexpected is in the API's log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.contract.fuzzing import VARIABLES, Supply, run_schemathesis
from tests.platform import Platform, wait_for
from tests.servers import PostgresServer, RedisServer
from tests.soak.options import Options
from tests.soak.report import Report, load, say
from tests.soak.rig import MakeApp, make_app


@dataclass(frozen=True)
class ContractOptions(Options):
    """How long."""

    #: seconds for all requests
    seconds: int = 1200


def run(seed: int, options: ContractOptions, folder: Path, make: MakeApp = make_app) -> Report:
    """Run the trial."""
    report = Report("contract", _promise(options), seed)
    with (
        RedisServer() as server,
        PostgresServer() as postgres,
        Platform(folder, server.url, postgres.create_database(), **VARIABLES) as platform,
    ):
        platform.start_api()
        pool = [f"--pool={options.pool}"] if options.pool else []
        platform.start("worker", "--queue=contract", "--concurrency=1", *pool)
        wait_for(platform.workers, "the worker")
        app = make(redis_url=server.url, database_url=platform.environment["DATABASE_URL"])
        with Supply(platform, app):
            outcome = run_schemathesis(platform, seconds=options.seconds, seed=seed)
        report.figure("load over the last minute", load())
        with redis.Redis.from_url(server.url) as client:
            report.figure("tasks that were accepted", len(client.keys(app.keys.task("*"))))
        unexpected = [line for line in platform.log("api").splitlines() if "unexpected_error" in line]
    (folder / "schemathesis.log").write_text(outcome.stdout)
    for what in ("Tested", "API Links", "Scenarios"):
        report.figure(what, _said(rf"{what}: +(.*)", outcome.stdout))
    report.figure("test cases", _said(r"Test cases:\n +(.*)", outcome.stdout))
    report.violations += re.findall(r"^- (.*)", outcome.stdout, re.MULTILINE) + unexpected
    if outcome.returncode and not report.violations:
        report.violations.append(f"it ended with {outcome.returncode}: {outcome.stdout[-500:]}")
    if report.violations:
        say(outcome.stdout)
    return report


def _said(pattern: str, output: str) -> str:
    found = re.search(pattern, output)
    return found[1] if found else "?"


def _promise(options: ContractOptions) -> str:
    return (
        f"Requests that Schemathesis makes up from the OpenAPI document for {options.seconds} s, right and wrong ones "
        "and chains of them, with all its checks, against the API as `celeriac api` starts it, with PostgreSQL, Redis "
        "and a worker. None is answered with 5xx or against the document."
    )
