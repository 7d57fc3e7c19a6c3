"""`celeriac up`: the whole platform, started and stopped as a user does."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.platform import CELERIAC, environment, wait_for
from tests.servers import free_port
from tests.up import Up


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A platform that serves."""
    with Up(tmp_path) as up:
        up.wait_until_ready()
        yield up


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)


def run_add(up: Up) -> int:
    task = up.http.post("/tasks", json={"name": "examples.add", "args": [20, 22]}).json()
    path = f"/tasks/{task['task_id']}"
    wait_for(lambda: up.http.get(path).json()["ready"], "the task to end")
    return int(up.http.get(path).json()["result"])


def test_it_serves_and_ctrl_c_leaves_nothing(up: Up):
    assert run_add(up) == 42
    health = up.http.get("/health").json()
    assert health["status"] == "healthy"
    assert health["checks"]["workers"] == {"data_sync": 1, "default": 1, "scheduled": 1}
    roles = [" ".join(each.cmdline()) for each in up.processes()]
    for role in ("redis-server", "celeriac api", "celeriac beat", "celeriac worker data_sync"):
        assert any(role in line for line in roles), role
    processes = up.processes()
    assert {os.getpgid(each.pid) for each in processes} == {up.process.pid}
    assert_it_leaves_nothing(up, signal.SIGINT)  # what Ctrl-C in a terminal sends


def test_the_end_of_its_terminal_leaves_nothing(up: Up):
    assert_it_leaves_nothing(up, signal.SIGHUP)


def assert_it_leaves_nothing(up: Up, number: signal.Signals) -> None:
    """Signal the whole process group, as a terminal does, and see everything end."""
    processes = up.processes()
    os.killpg(up.process.pid, number)
    assert up.process.wait(30) == 0
    _, alive = psutil.wait_procs(processes, timeout=1)
    assert not alive
    assert not (up.data_dir / "environment").exists()


def test_idle_it_stays_below_600_mib(up: Up):
    def proportional() -> float:
        everyone = [psutil.Process(up.process.pid), *up.processes()]
        return sum(each.memory_full_info().pss for each in everyone) / 2**20

    assert proportional() < 600


def test_what_dies_is_started_again(up: Up):
    for role in ("celeriac worker default", "redis-server", "celeriac api"):
        victim = up.find(role)
        assert victim is not None
        victim.kill()
        wait_for(lambda victim=victim, role=role: up.find(role) not in {victim, None}, f"another {role}")

    def healthy() -> bool:
        try:
            health = up.http.get("/health").json()
        except httpx.HTTPError:
            return False
        return health["status"] == "healthy" and all(health["checks"]["workers"].values())

    wait_for(healthy, "the platform to be healthy again", 60)
    assert run_add(up) == 42


def test_a_task_that_runs_at_ctrl_c_goes_on_after_the_next_start(up: Up, tmp_path: Path):
    task_id = up.http.post("/tasks", json={"name": "examples.long_running", "args": [40, 40]}).json()["task_id"]
    wait_for(lambda: up.http.get(f"/tasks/{task_id}").json()["state"] == "PROGRESS", "progress")
    os.killpg(up.process.pid, signal.SIGINT)
    assert up.process.wait(40) == 0
    with Up(tmp_path) as again:
        again.wait_until_ready()
        wait_for(lambda: again.http.get(f"/tasks/{task_id}").json()["state"] == "PROGRESS", "progress again")


def test_others_join_it_by_its_data_directory(up: Up):
    joined = run(
        CELERIAC, "tasks", "submit", "examples.add", "--args", "[1, 2]", "--wait", "20", "--data-dir", up.data_dir
    )
    assert joined.returncode == 0, joined.stderr
    assert '"SUCCESS"' in joined.stdout
    exports = run(CELERIAC, "env", "--data-dir", up.data_dir).stdout
    inspected = run("/bin/sh", "-c", f"{exports}\n{CELERIAC.with_name('celery')} -A celeriac.app inspect ping")
    assert "3 nodes online" in inspected.stdout, inspected.stderr
    assert (up.data_dir / "environment").stat().st_mode & 0o777 == 0o600


def test_a_second_one_on_the_same_directory_is_refused(up: Up):
    refused = run(CELERIAC, "up", "--port", str(free_port()), "--data-dir", up.data_dir)
    assert refused.returncode == 1
    assert f"already (pid {up.process.pid})" in refused.stderr


def test_a_taken_port_is_named(up: Up, tmp_path: Path):
    refused = run(CELERIAC, "up", "--port", str(up.port), "--data-dir", tmp_path / "other")
    assert refused.returncode == 1
    assert f"--port: {up.port} cannot be used" in refused.stderr


def test_its_children_end_when_it_is_killed(up: Up):
    processes = up.processes()
    up.process.kill()
    up.process.wait()
    started = time.monotonic()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive, f"after {time.monotonic() - started:.0f} s"
