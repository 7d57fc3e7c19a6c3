"""A primary, its replicas and the Sentinels that watch over them, as real processes.

with SentinelGroup() as group:
    group.primary.kill()
    group.wait_for_failover()       # another is the primary now
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, cast

import redis

from tests.binaries import find_redis
from tests.certificates import Authority
from tests.platform import wait_for
from tests.servers import RedisServer, Server, TlsFront, free_port

#: What the Sentinels call the primary.
PRIMARY = "trial"

#: A server that has not answered for so long is down, ms.
DOWN_AFTER_MS = 1000

#: A failover that has not come about by then is tried once more after twice as long, ms.
FAILOVER_TIMEOUT_MS = 5000

#: Sentinels that must agree that the primary is down.
QUORUM = 2


class SentinelServer(Server):
    """A Sentinel.

    Args:
        primary_port: where the primary is.
        password: what servers want to hear.
        own_password: what it wants to hear itself.
        binary: `redis-server` or `valkey-server`; found when it is left out.
    """

    name = "sentinel"

    def __init__(
        self, primary_port: int, *, password: str = "", own_password: str = "", binary: Path | None = None
    ) -> None:
        self._binary = binary or find_redis()
        self._own_password = own_password
        super().__init__()
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"dir {self.folder}",
            f"sentinel monitor {PRIMARY} 127.0.0.1 {primary_port} {QUORUM}",
            f"sentinel down-after-milliseconds {PRIMARY} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {PRIMARY} {FAILOVER_TIMEOUT_MS}",
        ]
        if password:
            lines.append(f"sentinel auth-pass {PRIMARY} {password}")
        if own_password:
            lines.append(f"requirepass {own_password}")
        # It writes what it learns into this file, and so knows it again after a restart.
        (self.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def launch(self) -> None:
        """Start it with what it knew."""
        self._spawn([self._binary, self.folder / "sentinel.conf", "--sentinel"])

    def answers(self) -> bool:
        """Whether it takes a command."""
        with self.client() as client:
            return bool(client.ping())

    def client(self) -> redis.Redis:
        """A client of it; it decodes responses."""
        password = self._own_password or None
        return redis.Redis(port=self.port, password=password, socket_timeout=2, decode_responses=True)

    def primary_port(self) -> int:
        """The port of the primary that it names."""
        with self.client() as client:
            return int(cast("Any", client.sentinel_get_master_addr_by_name(PRIMARY))[1])

    def knows(self, *, replicas: int, sentinels: int) -> bool:
        """Whether it has found all others."""
        with self.client() as client:
            state = cast("dict[str, Any]", client.sentinel_master(PRIMARY))
            return bool(state["num-slaves"] == replicas and state["num-other-sentinels"] == sentinels - 1)


class SentinelGroup:
    """The processes; all of them end with it.

    Args:
        replicas: how many servers copy the primary.
        password: of all servers.
        sentinel_password: of all Sentinels.
        authority: who signs the certificates, where clients are to speak TLS to all of them; they themselves speak
            plainly to each other.
    """

    def __init__(
        self, *, replicas: int = 1, password: str = "", sentinel_password: str = "", authority: Authority | None = None
    ) -> None:
        self._replicas = replicas
        self._passwords = password, sentinel_password
        self._authority = authority
        self._stack = ExitStack()
        #: By the port at which others find them.
        self._servers: dict[int, RedisServer] = {}
        self._sentinels: list[SentinelServer] = []
        self._sentinel_ports: list[int] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        password, sentinel_password = self._passwords
        primary_port: int | None = None
        for _ in range(1 + self._replicas):
            announced = free_port() if self._authority else None
            server = RedisServer(find_redis(), password=password, replica_of=primary_port, announced_port=announced)
            port = announced or server.port
            primary_port = primary_port or port
            self._servers[port] = self._stack.enter_context(server)
            self._put_front(server, announced)
        assert primary_port
        for _ in range(3):
            sentinel = SentinelServer(primary_port, password=password, own_password=sentinel_password)
            self._sentinels.append(self._stack.enter_context(sentinel))
            announced = free_port() if self._authority else None
            self._put_front(sentinel, announced)
            self._sentinel_ports.append(announced or sentinel.port)
        wait_for(
            lambda: all(sentinel.knows(replicas=self._replicas, sentinels=3) for sentinel in self._sentinels),
            "the Sentinels to find each other and the replicas",
        )
        self.wait_for_replicas(self._replicas)

    def _put_front(self, server: Server, port: int | None) -> None:
        if port is not None:
            assert self._authority
            front = TlsFront(server.port, self._authority, port=port, also_plain=True)
            self._stack.enter_context(front)

    @property
    def url(self) -> str:
        """What belongs in `REDIS_URL`."""
        password, sentinel_password = self._passwords
        scheme = "rediss" if self._authority else "redis"
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._sentinel_ports)
        query = [f"sentinel_password={sentinel_password}"] if sentinel_password else []
        query += [f"ssl_ca_certs={self._authority.certificate}"] if self._authority else []
        secret = f":{password}@" if password else ""
        return f"{scheme}+sentinel://{secret}{hosts}/{PRIMARY}/0" + (f"?{'&'.join(query)}" if query else "")

    @property
    def primary(self) -> RedisServer:
        """The server that the Sentinels name."""
        return self._servers[self.sentinels[0].primary_port()]

    @property
    def sentinels(self) -> list[SentinelServer]:
        """The Sentinels that run, in the order of the URL."""
        return [sentinel for sentinel in self._sentinels if sentinel.is_running]

    def replicate(self) -> None:
        """Wait until a replica has all that the primary was told so far."""
        with self.primary.client() as client:
            assert client.wait(1, 2000) >= 1, "no replica follows"

    def switch_primary(self) -> None:
        """Have a replica made the primary in order, as before maintenance."""
        before = self.primary
        with self.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", PRIMARY)
        self.wait_for_failover(before)

    def wait_for_failover(self, before: RedisServer) -> float:
        """Wait until all Sentinels name another primary than before; gives the seconds that it took."""
        began = time.monotonic()
        wait_for(
            lambda: all(self._servers[sentinel.primary_port()] is not before for sentinel in self.sentinels),
            "the failover",
        )
        return time.monotonic() - began

    def wait_for_replicas(self, count: int) -> None:
        """Wait until the primary has so many replicas that follow it."""

        def followed() -> bool:
            with self.primary.client() as client:
                replication = cast("dict[str, Any]", client.info("replication"))
            states = [replication.get(f"slave{number}", {}).get("state") for number in range(count)]
            return replication["role"] == "master" and states == ["online"] * count

        wait_for(followed, f"{count} replicas to follow the primary")
