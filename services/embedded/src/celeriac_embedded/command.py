"""`celeriac up`: Redis, API, a worker per queue and Beat on this machine."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import structlog
import typer

from celeriac.errors import ConfigurationError
from celeriac.settings import (
    ENVIRONMENT_FILE,
    LogSettings,
    Settings,
    inherited_environment,
    load_settings,
    write_environment_file,
)
from celeriac.telemetry import configure_logs
from celeriac.workload import load_workloads, queues_of
from celeriac_embedded.redis_server import find_redis_server, redis_command, socket_path
from celeriac_embedded.supervisor import Role, Supervisor

log = structlog.get_logger(__name__)

#: How long Redis may take to load its data and the API to answer, seconds.
START_SECONDS = 60


def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The API's port.")] = 8000,
    data_dir: Annotated[Path, typer.Option(help="Where all state lives.")] = Path(".celeriac"),
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Tasks at a time of each worker; default: what its queue says.")
    ] = None,
) -> None:
    """Run the whole platform until Ctrl-C: Redis, API, a worker per queue and Beat, with no server installed."""
    configure_logs(LogSettings(format="console"), "up")
    data_dir = data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    with _only_one(data_dir):
        started = time.monotonic()
        _refuse_taken(port)
        variables = _variables(data_dir, port)
        environment = inherited_environment() | variables
        supervisor = Supervisor(environment)
        supervisor.install_signals()
        write_environment_file(data_dir, variables)
        settings = load_settings(data_dir)
        try:
            _start(supervisor, settings, data_dir, concurrency)
            if supervisor.wait_until(lambda: _serves(port, settings), START_SECONDS):
                _greet(port, settings, time.monotonic() - started)
            elif not supervisor.stopping:
                log.error("api_does_not_answer", seconds=START_SECONDS)
            supervisor.run()
        finally:
            supervisor.stop()
            (data_dir / ENVIRONMENT_FILE).unlink(missing_ok=True)


def _start(supervisor: Supervisor, settings: Settings, data_dir: Path, concurrency: int | None) -> None:
    celeriac = [sys.executable, str(Path(sys.executable).with_name("celeriac"))]
    queues = queues_of(load_workloads(settings.workloads), settings.queues)
    path = socket_path(data_dir)
    if settings.redis_url.get_secret_value() == _socket_url(path):
        binary = find_redis_server(settings.redis_server)
        path.unlink(missing_ok=True)
        supervisor.start(Role("redis-server", redis_command(binary, data_dir)))
        if not supervisor.wait_until(lambda: _redis_answers(path), START_SECONDS):
            if supervisor.stopping:
                return
            msg = f"{binary} does not answer on {path}; its messages stand above"
            raise ConfigurationError(msg)
    migrated = supervisor.run_once([*celeriac, "migrate"])
    if supervisor.stopping:
        return
    if migrated != 0:
        msg = "the database could not be migrated; the reason stands above"
        raise ConfigurationError(msg)
    supervisor.start(Role("api", [*celeriac, "api"]))
    for queue in queues:
        options = [f"--concurrency={concurrency}"] if concurrency else []
        command = [*celeriac, "worker", queue.name, *options]
        supervisor.start(Role(f"worker {queue.name}", command, second_signal=signal.SIGQUIT))
    supervisor.start(Role("beat", [*celeriac, "beat"]))


def _socket_url(path: Path) -> str:
    return f"unix://{quote(str(path))}"


def _variables(data_dir: Path, port: int) -> dict[str, str]:
    """What the processes, and those who join them, have to know; settings of the environment win."""
    defaults = {
        "REDIS_URL": _socket_url(socket_path(data_dir)),
        "DATABASE_URL": f"sqlite:///{data_dir / 'celeriac.db'}",
        "CELERIAC_API_TOKEN": "",
        "CELERIAC_FILE_STORE": f"file://{data_dir / 'files'}",
        "CELERIAC_LOG__FORMAT": "console",
    }
    given = inherited_environment()
    variables = {name: given.get(name) or value for name, value in defaults.items()}
    if broker := given.get("CELERY_BROKER_URL"):
        variables["REDIS_URL"] = broker
    variables["CELERIAC_API_TOKEN"] = variables["CELERIAC_API_TOKEN"] or _kept_token(data_dir)
    variables["CELERIAC_API__PORT"] = str(port)
    variables["CELERIAC_API__URL"] = f"http://127.0.0.1:{port}"
    variables["CELERIAC_DATA_DIR"] = str(data_dir)
    return variables


def _kept_token(data_dir: Path) -> str:
    path = data_dir / "token"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32))
    return path.read_text().strip()


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    with (data_dir / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            msg = (
                f"--data-dir: a platform runs on {data_dir} already (pid {lock.read().strip()}); use another directory"
            )
            raise ConfigurationError(msg) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            msg = f"--port: {port} cannot be used ({error.strerror}); choose another"
            raise ConfigurationError(msg) from None


def _redis_answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")  # an error while it loads its data
    except OSError:
        return False


def _serves(port: int, settings: Settings) -> bool:
    """Whether the API answers and each queue has its worker."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            checks = json.load(response)["checks"]
    except (OSError, urllib.error.URLError, ValueError):
        return False
    names = [queue.name for queue in queues_of(load_workloads(settings.workloads), settings.queues)]
    return all(checks.get("workers", {}).get(name) for name in names)


def _greet(port: int, settings: Settings, seconds: float) -> None:
    token = settings.api_token.get_secret_value() if settings.api_token else ""
    typer.echo(
        f"\nCeleriac is up, after {seconds:.1f} s.\n"
        f"  API    http://127.0.0.1:{port}   (documentation: /docs)\n"
        f"  token  {token}\n"
        "Ctrl-C stops everything.\n"
    )
