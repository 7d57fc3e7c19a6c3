"""Real servers for tests and benchmarks: PostgreSQL, Redis and an S3 endpoint, each on a loopback port of its own.

    with RedisServer() as server:
        server.kill()       # as a crash would
        server.start()      # the same port, the same data

PostgreSQL and Redis come from a container where a Docker engine answers, else from the programs that `tests.binaries`
finds, which otherwise raises `ServerMissing`.
"""

from __future__ import annotations

import itertools
import random
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import redis
from psycopg import sql

from tests.binaries import (
    ServerMissing,
    docker_answers,
    find_postgres,
    find_redis,
    readable_by_all,
    unprivileged,
)

if TYPE_CHECKING:
    from tests.certificates import Authority

POSTGRES_IMAGE = "postgres:17-alpine"
REDIS_IMAGE = "redis:7-alpine"

#: Seconds for a server to answer after its start; the first start in a container may pull its image before that.
START_TIMEOUT = 30.0
#: Seconds for a server to end before it is killed.
STOP_TIMEOUT = 15.0

#: Below the ports that Linux gives to outgoing connections, one of which would take that of a server that is down. Each
#: process begins somewhere else, so that tests that run side by side do not choose the same one before they listen.
_PORTS = range(10_000, 30_000)
_positions = itertools.count(random.randrange(len(_PORTS)))


class Server(ABC):
    """A server that can be started, killed and started again on the same port with the same data.

    Entering starts it; leaving ends it and removes its data.
    """

    name: str
    port: int

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"celeriac-{self.name}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._container: Any = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def launch(self) -> None:
        """Start the process or the container."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it takes requests now; may raise what its client raises when it does not."""

    def start(self) -> None:
        """Start it and wait until it answers."""
        if self.is_running:
            return
        self.launch()
        self._wait()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        if self._container is not None:
            wrapped = self._container.get_wrapped_container()
            wrapped.reload()
            return bool(wrapped.status == "running")
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it as a crash would, without a chance to save anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order; its data stays."""
        self._end(signal.SIGTERM)

    def close(self) -> None:
        """End it and remove its data."""
        self.stop()
        if self._container is not None:
            self._container.stop()
            self._container = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        if self._container is not None:
            wrapped = self._container.get_wrapped_container()
            if self.is_running:
                wrapped.kill(signal=number.name)
                wrapped.wait(timeout=STOP_TIMEOUT)
        elif self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _spawn(self, command: list[str | Path], **options: Any) -> None:
        # A session of its own: Ctrl-C in the terminal must reach the tests first, which then end their servers.
        options |= {"stderr": subprocess.STDOUT, "start_new_session": True}
        with (self.folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, **options)

    def _run_container(self, image: str, port: int, command: str, **env: str) -> None:
        from testcontainers.core.container import DockerContainer

        if self._container is not None:
            self._container.get_wrapped_container().start()
            return
        self._container = DockerContainer(image, env=env, command=command).with_bind_ports(port, self.port).start()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        error: Exception | None = None
        while time.monotonic() < deadline and self.is_running:
            try:
                if self.answers():
                    return
            except (OSError, psycopg.Error, redis.RedisError) as failure:
                error = failure
            time.sleep(0.05)
        log = self.folder / "output.log"
        output = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        msg = f"{self.name} does not answer on port {self.port}: {error}\n{output}"
        raise RuntimeError(msg)


class PostgresServer(Server):
    """PostgreSQL without `fsync`, its administrator `postgres`, its password drawn at random.

    Args:
        binaries: the folder of `initdb` and `postgres`; found as the module says when it is left out.
    """

    name = "postgres"

    def __init__(self, binaries: Path | None = None) -> None:
        self._binaries = binaries or (None if docker_answers() else find_postgres())
        self._password = secrets.token_hex(16)
        super().__init__()

    @property
    def url(self) -> str:
        """The URL of the administrator's database."""
        return self._url_of("postgres")

    def create_database(self) -> str:
        """Make an empty database; gives its URL."""
        name = f"test_{secrets.token_hex(8)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return self._url_of(name)

    def drop_database(self, url: str) -> None:
        """Drop a database that `create_database` made, whoever is still connected to it."""
        name = url.rpartition("/")[2]
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def kill(self) -> None:
        """End it as a crash would; `SIGQUIT`, since `SIGKILL` would leave its other processes behind."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it in order without waiting for its clients; its data stays."""
        self._end(signal.SIGINT)

    def launch(self) -> None:
        """Start the container, or make the data directory once and start `postgres` on it."""
        options = ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        options += ["-c", "max_connections=200"]
        if self._binaries is None:
            self._run_container(POSTGRES_IMAGE, 5432, shlex.join(options), POSTGRES_PASSWORD=self._password)
            return
        data = self.folder / "data"
        account = unprivileged(self.folder)
        if not data.exists():
            if account:
                self._binaries = readable_by_all(self._binaries, self.folder)
            secret = self.folder / "password"
            secret.write_text(self._password)
            if account:
                shutil.chown(secret, account["user"], account["group"])
            command: list[str | Path] = [self._binaries / "initdb", "-D", data, "-U", "postgres", "--no-sync"]
            command += ["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", f"--pwfile={secret}"]
            subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **account)
        options += ["-c", f"unix_socket_directories={self.folder}", "-c", "listen_addresses=127.0.0.1"]
        command = [self._binaries / "postgres", "-D", data, "-p", str(self.port), *options]
        self._spawn(command, cwd=self.folder, **account)

    def answers(self) -> bool:
        """Whether it takes a query."""
        with psycopg.connect(self.url, connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)

    def _url_of(self, database: str) -> str:
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{database}"


class RedisServer(Server):
    """Redis that appends every write to a file before it answers, so that a killed one comes back with its data.

    With any argument but `binary` it is always a program of this machine.

    Args:
        binary: `redis-server` or `valkey-server`; found as the module says when it is left out.
        password: of the default user, and of the server that it copies.
        users: the rules of further users, such as `{"celeriac": "on >its-password ~* &* +@all"}`.
        unix_socket: listen on a socket in its folder and on no port.
        replica_of: the port of the server that it copies.
        announced_port: the port by which others find it, where a `TlsFront` stands before it.
    """

    name = "redis"

    def __init__(
        self,
        binary: Path | None = None,
        *,
        password: str = "",
        users: Mapping[str, str] | None = None,
        unix_socket: bool = False,
        replica_of: int | None = None,
        announced_port: int | None = None,
    ) -> None:
        options: dict[str, str] = {f"user {name}": rules for name, rules in (users or {}).items()}
        if password:
            options |= {"requirepass": password, "masterauth": password}
        if replica_of:
            options |= {"replicaof": f"127.0.0.1 {replica_of}"}
        if announced_port:
            options |= {"replica-announce-ip": "127.0.0.1", "replica-announce-port": str(announced_port)}
        plain = not options and not unix_socket
        self._binary = binary or (None if plain and docker_answers() else find_redis())
        self._options = [part for name, value in options.items() for part in f"--{name} {value}".split()]
        self._secret = f":{password}@" if password else ""
        super().__init__()
        self._socket = self.folder / "redis.sock" if unix_socket else None

    @property
    def url(self) -> str:
        """The URL of its first database, for the default user."""
        if self._socket:
            return f"unix://{self._secret}{self._socket}"
        return f"redis://{self._secret}127.0.0.1:{self.port}/0"

    def launch(self) -> None:
        """Start the container or the process on the same data."""
        options = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", *self._options]
        if self._binary is None:
            self._run_container(REDIS_IMAGE, 6379, shlex.join(["redis-server", *options]))
            return
        place = ["--bind", "127.0.0.1", "--port", str(0 if self._socket else self.port), "--dir", str(self.folder)]
        if self._socket:
            place += ["--unixsocket", str(self._socket)]
        self._spawn([self._binary, *place, *options])

    def answers(self) -> bool:
        """Whether it takes a command: not while it still loads its data."""
        with self.client() as client:
            return bool(client.ping())

    def client(self) -> redis.Redis:
        """A client for the default user; it decodes responses."""
        return redis.Redis.from_url(self.url, socket_timeout=2, decode_responses=True)


class TlsFront(Server):
    """Takes TLS connections for a server that speaks plainly.

    Args:
        target: the server's port.
        authority: who signs its certificate, and those of its clients.
        port: where it listens; any when it is left out.
        clients_certified: refuse clients without a certificate of the authority.
        also_plain: take plain connections on the same port.
    """

    name = "tls"

    def __init__(
        self,
        target: int,
        authority: Authority,
        *,
        port: int | None = None,
        clients_certified: bool = False,
        also_plain: bool = False,
    ) -> None:
        super().__init__()
        self.port = port or self.port
        who = "clients" if clients_certified else "plain" if also_plain else "anyone"
        files = [*authority.issue(f"server-{self.port}"), authority.certificate]
        self._arguments = [str(self.port), str(target), *map(str, files), who]

    def launch(self) -> None:
        """Start its program."""
        self._spawn([sys.executable, "-m", "tests.tls_front", *self._arguments], cwd=Path(__file__).parents[1])

    def answers(self) -> bool:
        """Whether its port is open."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2):
            return True


class S3Server(Server):
    """An S3 endpoint in memory; any credentials will do."""

    name = "s3"

    @property
    def url(self) -> str:
        """What belongs in `AWS_ENDPOINT_URL`."""
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start moto's server."""
        if find_spec("moto") is None:
            msg = "no S3 server: install moto[s3,server]"
            raise ServerMissing(msg)
        self._spawn([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)])

    def answers(self) -> bool:
        """Whether its port is open."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2):
            return True


def free_port() -> int:
    """A port of the loopback interface that nobody has at this moment, another each time."""
    while True:
        port = _PORTS[next(_positions) % len(_PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
