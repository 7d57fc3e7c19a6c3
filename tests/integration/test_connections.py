"""Every way to reach Redis, by real servers and real workers."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import chord
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from celeriac import CeleriacApp
from celeriac.broker import connect
from celeriac.broker.tls import _context
from tests.binaries import ServerMissing, find_redis
from tests.certificates import Authority
from tests.conftest import _give_up
from tests.platform import Platform, wait_for
from tests.sentinels import SentinelGroup
from tests.servers import RedisServer, TlsFront
from tests.trial import LEDGER_VARIABLE, QUEUE

#: The password of every server here: nothing that is printed may hold it.
SECRET = "hunter2swordfish"

#: Seconds without a primary after it was killed: a second until the Sentinels call it down, two for the failover, and
#: some for a busy machine.
FAILOVER_SECONDS = 10.0

MakeApp = Callable[..., CeleriacApp]


class Trial:
    """A platform whose only workload is `tests.trial`, and an app of the same platform in this process."""

    def __init__(self, folder: Path, url: str, make_app: MakeApp, prefix: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self._ledger = folder / "ledger"
        database_url = f"sqlite:///{folder / 'celeriac.db'}"
        variables = {
            "CELERIAC_WORKLOADS": "tests.trial",
            "CELERIAC_REDIS__KEY_PREFIX": prefix,
            "PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            LEDGER_VARIABLE: str(self._ledger),
        }
        self.platform = Platform(folder, url, database_url, **variables)
        self.app = make_app(
            redis_url=url, database_url=database_url, redis={"key_prefix": prefix}, workloads="tests.trial"
        )

    def start(self) -> None:
        """Start the API and a worker."""
        self.platform.start_api()
        self.platform.start_worker(QUEUE)

    def ledger(self) -> Counter[str]:
        """How often each line has been written."""
        return Counter(self._ledger.read_text().splitlines() if self._ledger.exists() else [])

    def printed(self) -> str:
        """What all processes have printed."""
        return "".join(path.read_text() for path in self.platform.folder.glob("*.log"))

    def submits(self) -> bool:
        """Whether the API accepts a task now."""
        return self.platform.http.post("/tasks", json={"name": "trial.add", "args": [1]}).status_code == 202


@pytest.fixture(autouse=True)
def redis_program() -> None:
    """What all servers here are: a container would take neither options nor Sentinels' word for its address."""
    try:
        find_redis()
    except ServerMissing as error:
        _give_up(str(error))


@pytest.fixture
def make_trial(tmp_path: Path, make_app: MakeApp) -> Iterator[Callable[..., Trial]]:
    """Makes trials; their processes are killed at the end."""
    with ExitStack() as stack:

        def make(url: str, prefix: str = "") -> Trial:
            trial = Trial(tmp_path / f"platform-{prefix.strip(':')}", url, make_app, prefix)
            stack.enter_context(trial.platform)
            return trial

        yield make


def check_all(trial: Trial) -> None:
    """Everything that a platform does with Redis works."""
    platform, app = trial.platform, trial.app
    assert platform.http.get("/health").json()["checks"]["redis"] == "ok"
    assert platform.wait(platform.submit("trial.add", 2, 3))["result"] == 5

    retried = platform.wait(platform.submit("trial.try_twice", 1))
    assert (retried["state"], retried["result"], retried["retries"]) == ("SUCCESS", 1, 1)

    header = [app.signature("trial.add", (number, number)) for number in range(4)]
    assert chord(header, app=app)(app.signature("trial.total")).get(timeout=30) == 12

    waiting = platform.submit("trial.write", "never", countdown=1)
    assert platform.http.delete(f"/tasks/{waiting}").json()["state"] == "REVOKED"
    later = platform.submit("trial.write", "later", countdown=1.5)
    assert platform.wait(later)["state"] == "SUCCESS"
    assert platform.task(waiting)["state"] == "REVOKED"
    assert trial.ledger() == {"later": 1}

    assert [list(answer.values()) for answer in app.control.ping(limit=1, timeout=10)] == [[{"ok": "pong"}]]
    stats = app.control.inspect(limit=1, timeout=10).stats()
    assert len(stats) == 1
    assert SECRET not in json.dumps(stats)
    assert SECRET not in trial.printed()


def test_a_platform_works_by_tls_with_client_certificates(make_trial: Callable[..., Trial], tmp_path: Path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("client")
    with (
        RedisServer(password=SECRET) as server,
        TlsFront(server.port, authority, clients_certified=True) as front,
    ):
        query = f"ssl_ca_certs={authority.certificate}&ssl_certfile={certificate}&ssl_keyfile={key}"
        trial = make_trial(f"rediss://:{SECRET}@127.0.0.1:{front.port}/0?{query}")
        trial.start()
        check_all(trial)


def test_a_server_whose_certificate_is_not_trusted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    authority, other = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    with RedisServer(password=SECRET) as server, TlsFront(server.port, authority) as front:
        address = f"rediss://:{SECRET}@127.0.0.1:{front.port}/0"
        for query in ("", f"?ssl_ca_certs={other.certificate}"):
            with pytest.raises(RedisConnectionError, match="certificate verify failed") as caught:
                connect(address + query).ping()
            assert SECRET not in str(caught.value)

        # The authorities that the system trusts count only where the URL names none.
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        _context.cache_clear()
        assert connect(address).ping()
        with pytest.raises(RedisConnectionError, match="certificate verify failed"):
            connect(f"{address}?ssl_ca_certs={other.certificate}").ping()
        _context.cache_clear()


def test_a_client_certificate_is_demanded_and_may_be_renewed_in_place(tmp_path: Path):
    authority, other = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    certificate, key = other.issue("client")
    with RedisServer() as server, TlsFront(server.port, authority, clients_certified=True) as front:
        address = f"rediss://127.0.0.1:{front.port}/0?ssl_ca_certs={authority.certificate}"
        refused = "certificate required|unknown ca|closed|reset"  # TLS 1.3 says so only when something is read
        with pytest.raises(RedisConnectionError, match=refused):
            connect(address).ping()
        client = connect(f"{address}&ssl_certfile={certificate}&ssl_keyfile={key}")
        with pytest.raises(RedisConnectionError, match=refused):
            client.ping()
        authority.issue("client")
        assert client.ping()


def test_a_platform_works_as_a_user_who_may_touch_only_keys_with_its_prefix(make_trial: Callable[..., Trial]):
    # INFO, which tells the uptime and the eviction policy, counts as dangerous. Channels are subscribed by patterns,
    # which Redis allows only to a user who has the very same ones, or all.
    rules = f"on >{SECRET} ~mine:* allchannels +@all -@dangerous +info"
    with RedisServer(password="of-the-administrator", users={"celeriac": rules}) as server:
        trial = make_trial(f"redis://celeriac:{SECRET}@127.0.0.1:{server.port}/0", prefix="mine:")
        trial.start()
        check_all(trial)
        with server.client() as administrator:
            denied = administrator.execute_command("ACL", "LOG")
            assert [entry for entry in denied if "client|" not in str(entry) and "'client'" not in str(entry)] == []


def test_a_wrong_password_is_refused_in_words_that_do_not_hold_it(make_trial: Callable[..., Trial]):
    with RedisServer(password="another") as server:
        trial = make_trial(f"redis://:{SECRET}@127.0.0.1:{server.port}/0")
        with pytest.raises(AuthenticationError, match="invalid username-password pair") as caught:
            trial.app.redis.ping()
        assert SECRET not in str(caught.value)
        trial.platform.start_api()
        trial.platform.start("worker", QUEUE)
        answer = trial.platform.http.post("/tasks", json={"name": "trial.add"})
        assert answer.status_code == 503
        assert "invalid username-password pair" in answer.json()["detail"]
        health = trial.platform.http.get("/health").json()
        assert (health["status"], health["checks"]["celery_worker"]) == ("degraded", "unknown (redis is away)")
        wait_for(lambda: "broker_disconnected" in trial.platform.log("worker"), "the worker to say so")
        assert "invalid username-password pair" in trial.platform.log("worker")
        assert SECRET not in trial.printed() + answer.text + json.dumps(health)


def test_a_platform_works_by_a_unix_socket_in_another_database_and_with_the_older_protocol(
    make_trial: Callable[..., Trial],
):
    with RedisServer(password=SECRET, unix_socket=True) as server:
        trial = make_trial(f"{server.url}?db=3&protocol=2")
        trial.start()
        check_all(trial)
        with server.client() as administrator:
            assert set(administrator.info("keyspace")) == {"db3"}


def test_platforms_with_different_prefixes_in_one_database_know_nothing_of_each_other(
    make_trial: Callable[..., Trial],
):
    with RedisServer(password=SECRET) as server:
        ours, theirs = make_trial(server.url, "ours:"), make_trial(server.url, "theirs:")
        theirs.start()
        ours.platform.start_api()
        assert theirs.platform.workers() == 1
        assert ours.platform.workers() == 0
        waits = ours.platform.submit("trial.write", "ours")
        assert theirs.platform.http.get(f"/tasks/{waits}").status_code == 404
        assert theirs.platform.http.delete(f"/tasks/{waits}").status_code == 404
        assert not ours.app.control.ping(timeout=1)
        assert theirs.platform.wait(theirs.platform.submit("trial.write", "theirs"))["state"] == "SUCCESS"
        assert ours.platform.task(waits)["state"] == "PENDING"

        ours.platform.start_worker(QUEUE)
        assert ours.platform.wait(waits)["state"] == "SUCCESS"
        assert ours.ledger() == {"ours": 1}
        assert theirs.ledger() == {"theirs": 1}
        (own,) = ours.app.control.ping(timeout=2)
        (other,) = theirs.app.control.ping(timeout=2)
        assert own.keys() != other.keys()
        with server.client() as administrator:
            strangers = [key for key in administrator.scan_iter(count=1000) if not key.startswith(("ours:", "theirs:"))]
        assert strangers == []


@pytest.mark.parametrize("secured", ["passwords", "tls"])
def test_workers_and_clients_follow_a_failover_and_nothing_that_was_replicated_is_lost(
    make_trial: Callable[..., Trial], tmp_path: Path, secured: str
):
    by_tls = secured == "tls"
    with SentinelGroup(
        replicas=1 if by_tls else 2,
        password=SECRET,
        sentinel_password="" if by_tls else "sesame",
        authority=Authority(tmp_path) if by_tls else None,
    ) as group:
        trial = make_trial(group.url)
        platform, app = trial.platform, trial.app
        platform.start_api()
        workers = [platform.start_worker(QUEUE, concurrency=1) for _ in range(2)]

        done = {platform.submit("trial.write", f"done-{number}"): f"done-{number}" for number in range(10)}
        for task_id in done:
            assert platform.wait(task_id)["state"] == "SUCCESS"
        # A client that subscribes before the failover to a result that comes after it.
        assert app.send_task("trial.add", (1, 2)).get(timeout=30) == 3
        awaited: list[Any] = []
        due_later = app.send_task("trial.write", ("due later",), countdown=8)
        reader = threading.Thread(target=lambda: awaited.append(due_later.get(timeout=60)))
        reader.start()
        begun = {platform.submit("trial.write", "long", 6): "long"}
        begun |= {platform.submit("trial.write", f"queued-{number}", 0.5): f"queued-{number}" for number in range(10)}
        wait_for(lambda: trial.ledger()["queued-1"], "work to be under way")
        group.replicate()

        killed = group.primary
        killed.kill()
        group.sentinels[0].kill()  # the first that clients ask, on the same node
        killed_at = time.monotonic()
        wait_for(trial.submits, "a submit to be accepted", FAILOVER_SECONDS)
        accepted_after = time.monotonic() - killed_at
        group.wait_for_failover(killed)
        first_after = platform.submit("trial.write", "after", priority=9)
        assert platform.wait(first_after)["state"] == "SUCCESS"
        worked_after = time.monotonic() - killed_at
        print(f"submits {accepted_after:.1f} s, a task done {worked_after:.1f} s after the kill")  # noqa: T201 - by pytest -rP

        for task_id, line in begun.items():
            assert platform.wait(task_id)["result"] == line
        reader.join(60)
        assert awaited == ["due later"]
        assert app.send_task("trial.add", (3, 4)).get(timeout=30) == 7
        assert [worker.poll() for worker in workers] == [None, None], "no worker was restarted"
        wait_for(lambda: platform.workers() == 2, "both workers to count")

        if not by_tls:
            killed.start()
            group.wait_for_replicas(2)
            assert platform.wait(platform.submit("trial.write", "with the old one back"))["state"] == "SUCCESS"
        ledger = trial.ledger()
        for task_id, line in done.items():
            assert platform.task(task_id)["result"] == line
            assert ledger[line] == 1, "it had ended and was replicated"
        assert all(ledger[line] >= 1 for line in begun.values())
        assert ledger["long"] == 1, "its worker renewed the lease at the new primary in time"
        assert platform.http.get("/health").json()["status"] == "healthy"
        assert SECRET not in trial.printed()
        assert "sesame" not in trial.printed()


def test_a_primary_that_was_replaced_while_it_lives_is_left_within_seconds(make_trial: Callable[..., Trial]):
    with SentinelGroup(password=SECRET) as group:
        trial = make_trial(group.url)
        trial.start()
        platform = trial.platform
        assert platform.wait(platform.submit("trial.add", 1))["state"] == "SUCCESS"
        replaced = group.primary
        with replaced.client() as administrator:
            administrator.execute_command("CLIENT", "PAUSE", 20000, "WRITE")
        group.switch_primary()
        wait_for(trial.submits, "a submit to be accepted", FAILOVER_SECONDS)
        accepted = [platform.submit("trial.write", f"accepted-{number}") for number in range(20)]
        with replaced.client() as old, group.primary.client() as new:
            assert old.info("replication")["role"] == "master", "it does not know yet"
            assert [old.exists(trial.app.keys.task(task_id)) for task_id in accepted] == [0] * 20
            assert [new.exists(trial.app.keys.task(task_id)) for task_id in accepted] == [1] * 20
        for task_id in accepted:
            assert platform.wait(task_id)["state"] == "SUCCESS"
        assert trial.ledger().total() == 20


def test_sentinels_with_a_password_refuse_a_wrong_one_in_words_that_do_not_hold_it():
    with SentinelGroup(password=SECRET, sentinel_password="sesame") as group:
        for wrong in ("", "?sentinel_password=hunter3"):
            with pytest.raises(RedisConnectionError, match=r"already authenticated|invalid username") as caught:
                connect(group.url.partition("?")[0] + wrong).ping()
            assert "hunter" not in str(caught.value)
        assert connect(group.url).ping()


def test_a_primary_is_used_without_sentinels_but_not_when_it_has_become_a_replica():
    with SentinelGroup(password=SECRET) as group:
        client = connect(group.url)
        write = client.register_script("return redis.call('SET', KEYS[1], 'x')")
        assert write(keys=["one"])
        primary = group.primary
        for sentinel in group.sentinels:
            sentinel.kill()
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert write(keys=["one"]), "it is well without them"

        with primary.client() as administrator:
            administrator.replicaof("127.0.0.1", 1)
        # Within a script Redis 6.2 says so only in the text of a general error.
        with pytest.raises(RedisConnectionError, match=r"is given no more commands: .*READONLY"):
            write(keys=["one"])
        with pytest.raises(RedisConnectionError, match="no Sentinel names a primary"):
            client.ping()
