"""`celeriac check` against a release: from outside by kubectl, and in its API's pod."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.cluster import Release
from tests.platform import CELERIAC, environment

#: Those that judge milliseconds or seconds, which depend on what else the machine does.
TIMED = frozenset({"recovery", "restart-recovery", "submit-speed", "100-concurrent"})


def run(*command: str | Path) -> tuple[int, dict[str, Any]]:
    """Run a check; its exit code and its report."""
    done = subprocess.run(
        [str(part) for part in command], env=environment(), capture_output=True, text=True, timeout=900, check=False
    )
    print(done.stderr)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def judge(code: int, report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """See that what does not depend on the machine has passed, and that the exit code says the same as the rows."""
    rows = {row["name"]: row for row in report["rows"] if row["outcome"] != "skipped"}
    for name, row in rows.items():
        print(f"{name}: {row['outcome']}, {row['figure']} (limit: {row['limit']})")
        assert row["values"], row
        assert row["outcome"] == "pass" or name in TIMED, row
        assert row["values"].get("success_percent", 100) == 100, row
    failed = any(row["outcome"] == "fail" for row in rows.values())
    assert code == (1 if failed else 0)
    return rows


def test_all_checks_run_from_outside(release: Release):
    """By a port-forward, which ends with its pod and is begun anew."""
    release.wait_until_ready()
    before = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in release.pods()}
    kept = {queue: release.replicas(queue) for queue in ("default", "data_sync", "scheduled")}
    place = [f"--namespace={release.namespace}", f"--release={release.name}", "--target=kubernetes"]
    rows = judge(*run(CELERIAC, "check", "all", *place, "--requests=300", "--tasks=300", "--json"))
    assert rows.keys() == {
        "status", "recovery", "submit-speed", "execution-speed", "concurrency", "redis-memory", "100-concurrent",
        "restart-recovery", "redis-degradation",
    }  # fmt: skip
    release.wait_until_ready()
    after = {pod["metadata"]["uid"] for pod in release.pods()}
    same = [name for uid, name in before.items() if uid in after]
    assert same == [f"{release.name}-postgresql-0"], "all but the database was killed"
    assert {queue: release.replicas(queue) for queue in kept} == kept
    assert release.run_task("examples.add", 1, 2)["result"] == 3


def test_speed_is_measured_in_the_pod_of_the_api(release: Release):
    """Where no port-forward is part of the figures."""
    release.wait_until_ready()
    command = ["kubectl", "--namespace", release.namespace, "exec", f"deployment/{release.name}-api", "--"]
    skips = ["--skip=restart-recovery", "--skip=redis-degradation"]
    rows = judge(*run(*command, "celeriac", "check", "performance", "--requests=300", "--tasks=300", "--json"))
    assert rows.keys() == {"submit-speed", "execution-speed", "concurrency", "redis-memory"}
    rows = judge(*run(*command, "celeriac", "check", "stress", "--requests=300", *skips, "--json"))
    assert rows.keys() == {"100-concurrent"}
