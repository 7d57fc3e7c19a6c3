"""Redis URLs: what each form means, what is refused and in which words, and that no word of it is a secret."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import kombu
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.sentinel import MasterNotFoundError

from celeriac.broker import Endpoint, broker_url, connect
from celeriac.broker.sentinel import PrimaryConnection, PrimaryTLSConnection
from celeriac.broker.url import FORMS
from celeriac.errors import ConfigurationError
from tests.servers import free_port

#: Two words, so that either half of a password that was cut in two is found.
SECRET, SECOND = "hunter2", "swordfish"

#: Every form of URL, with a place for user and password.
PLACES = {
    "redis": "redis://{}@host:6379/3",
    "rediss": "rediss://{}@host:6379/3",
    "unix": "unix://{}@/run/redis.sock?db=3",
    "redis+sentinel": "redis+sentinel://{}@one:26379,two:26380,[::1]:26381/primary/3?sentinel_password=hunter2",
    "rediss+sentinel": "rediss+sentinel://{}@one,two/primary/3?ssl_password=hunter2",
}


def refusal(url: str) -> str:
    """The error that a URL gives, with all that a traceback would show of it."""
    with pytest.raises(ConfigurationError) as caught:
        Endpoint.parse(url)
    with pytest.raises(ConfigurationError) as again:
        broker_url(url)
    assert str(caught.value) == str(again.value)
    shown = [line for line in traceback.format_exception(caught.value) if not line.startswith("  File")]
    assert SECRET not in "".join(shown)
    assert SECOND not in "".join(shown)
    return str(caught.value)


def masked(url: str) -> str:
    """The broker URL as kombu shows it."""
    return str(kombu.Connection(broker_url(url)).as_uri())


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://", {"host": "localhost", "port": 6379, "db": 0}),
        ("redis://host", {"host": "host", "port": 6379, "db": 0}),
        ("redis://host:6380/", {"host": "host", "port": 6380, "db": 0}),
        ("redis://host:6380/15", {"host": "host", "port": 6380, "db": 15}),
        ("redis://host/1?db=2", {"host": "host", "port": 6379, "db": 2}),
        ("REDIS://my_host.svc:6380/1\n", {"host": "my_host.svc", "port": 6380, "db": 1}),
        ("redis://[::1]:6380", {"host": "::1", "port": 6380, "db": 0}),
        ("redis://:pw@host", {"host": "host", "port": 6379, "db": 0, "password": "pw"}),
        ("redis://:@host", {"host": "host", "port": 6379, "db": 0}),
        ("redis://me:pw@host", {"host": "host", "port": 6379, "db": 0, "username": "me", "password": "pw"}),
        ("redis://m%40e:p%2Fw%25@host", {"host": "host", "port": 6379, "db": 0, "username": "m@e", "password": "p/w%"}),
        ("redis://:a@b:c@host", {"host": "host", "port": 6379, "db": 0, "password": "a@b:c"}),
    ],
)
def test_a_server_is_named_by_its_host(url: str, options: dict[str, Any]):
    endpoint = Endpoint.parse(url)
    assert (endpoint.options, endpoint.connection_class, endpoint.sentinels) == (options, Connection, ())
    assert endpoint.database == options["db"]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("unix:///run/redis.sock", {"path": "/run/redis.sock", "db": 0}),
        ("unix:///run/redis.sock?db=3", {"path": "/run/redis.sock", "db": 3}),
        ("unix:///a b/c%23d@e.sock", {"path": "/a b/c#d@e.sock", "db": 0}),
        ("unix://me:pw@/redis.sock", {"path": "/redis.sock", "db": 0, "username": "me", "password": "pw"}),
    ],
)
def test_a_socket_is_named_by_its_path(url: str, options: dict[str, Any]):
    endpoint = Endpoint.parse(url)
    assert (endpoint.options, endpoint.connection_class) == (options, UnixDomainSocketConnection)


def test_the_certificate_of_a_server_is_checked_unless_the_url_says_otherwise(tmp_path: Path):
    connection = Endpoint.parse("rediss://host").pool().make_connection()
    assert isinstance(connection, SSLConnection)
    assert (connection.cert_reqs.name, connection.check_hostname) == ("CERT_REQUIRED", True)

    files = {name: tmp_path / name for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")}
    for file in files.values():
        file.touch()
    query = "&".join(f"{name}={file}" for name, file in files.items())
    endpoint = Endpoint.parse(f"rediss://host/1?{query}&ssl_check_hostname=false&ssl_password=p%26w")
    given_files = {name: str(file) for name, file in files.items()}
    expected = {"host": "host", "port": 6379, "db": 1, "ssl_check_hostname": False, "ssl_password": "p&w"}
    assert endpoint.options == expected | given_files


@pytest.mark.parametrize("written", ["none", "CERT_NONE"])
def test_how_certificates_are_checked_is_said_in_redis_words_or_celerys(written: str):
    connection = Endpoint.parse(f"rediss://host?ssl_cert_reqs={written}").pool().make_connection()
    assert isinstance(connection, SSLConnection)
    assert connection.cert_reqs.name == "CERT_NONE"


def test_sentinels_are_named_by_their_hosts_and_the_primary_by_its_name():
    endpoint = Endpoint.parse(
        "redis+sentinel://me:pw@one:5000,two,[::1]:5001/my%20primary/3?sentinel_username=s&sentinel_password=t"
    )
    assert endpoint.options == {"db": 3, "username": "me", "password": "pw"}
    assert endpoint.sentinels == (("one", 5000), ("two", 26379), ("::1", 5001))
    assert endpoint.master == "my primary"
    assert endpoint.connection_class is PrimaryConnection
    assert endpoint.sentinel_options == {"username": "s", "password": "t", "ssl": False}


@pytest.mark.parametrize(
    ("url", "for_sentinels"),
    [
        ("rediss+sentinel://one/p", {"ssl": True}),
        ("rediss+sentinel://one/p?sentinel_ssl=false", {"ssl": False}),
        ("redis+sentinel://one/p?sentinel_ssl=true", {"ssl": True}),
        ("rediss+sentinel://one/p?ssl_ca_data=c", {"ssl": True, "ssl_ca_data": "c"}),
        ("rediss+sentinel://one/p?ssl_ca_data=c&sentinel_ssl_ca_data=d", {"ssl": True, "ssl_ca_data": "d"}),
        ("rediss+sentinel://one/p?ssl_ca_data=c&sentinel_ssl=no", {"ssl": False}),
    ],
)
def test_sentinels_speak_tls_where_their_servers_do_unless_the_url_says_otherwise(
    url: str, for_sentinels: dict[str, Any]
):
    endpoint = Endpoint.parse(url)
    assert endpoint.sentinel_options == for_sentinels
    assert endpoint.connection_class is (PrimaryTLSConnection if url.startswith("rediss") else PrimaryConnection)
    assert "ssl" not in endpoint.options


def test_options_of_the_query_are_read_as_what_they_are():
    query = "client_name=me&health_check_interval=7&max_connections=9&protocol=2&socket_timeout=1.5&socket_keepalive=no"
    options = Endpoint.parse(f"redis://host?{query}").options
    assert options == {
        "host": "host",
        "port": 6379,
        "db": 0,
        "client_name": "me",
        "health_check_interval": 7,
        "max_connections": 9,
        "protocol": 2,
        "socket_timeout": 1.5,
        "socket_keepalive": False,
    }
    connect(f"redis://host?{query}").connection_pool.make_connection()


@pytest.mark.parametrize(
    "url",
    ["", "redis", "redis:host", "amqp://host", "redis+cluster://host", f"{SECRET}", f"me:{SECRET}@host", "://host"],
)
def test_what_is_no_redis_url_is_refused_with_those_that_are(url: str):
    error = refusal(url)
    assert error.startswith("REDIS_URL: ")
    assert all(f"{scheme}://" in error for scheme in FORMS)


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("redis://host:http/0", "host and port"),
        ("redis://host:0/0", "a port from 1 to 65535"),
        ("redis://host:70000", "a port from 1 to 65535"),
        ("redis://ho st", "host and port"),
        ("redis://host:1:2", "host and port"),
        (f"redis://me:{SECRET}", "host and port"),
        ("redis://one,two", "more than one host; Sentinels are named with redis+sentinel://"),
        ("redis://host/mine", "the database is no number"),
        ("redis://host/1/2", "the database is no number"),
        ("redis://host/-1", "the database is no number"),
        ("redis://host?db=x", "the database is no number"),
        (f"redis://{SECRET}@host", "a password alone is written :password@"),
        (f"redis://:{SECRET}/x@host", "written %2F %3F %23"),
        (f"redis://:{SECRET}?x@host", "written %2F %3F %23"),
        (f"redis://:{SECRET}#x@host", "written %2F %3F %23"),
        (f"redis://me:12/{SECRET}@host:6379", "written %2F %3F %23"),
        ("redis://host?db", "what follows the ? is not name=value"),
        ("redis://host?sockettimeout=5", "no option is named 'sockettimeout'; there are db, client_name,"),
        (f"redis://host?password={SECRET}", "no option is named 'password'"),
        ("redis://host?sentinel_password=x", "no option is named 'sentinel_password'"),
        ("redis://host?protocol=4", "protocol is none of 2, 3"),
        ("redis://host?socket_timeout=soon", "socket_timeout is no number of seconds"),
        ("redis://host?max_connections=-1", "max_connections is no whole number"),
        ("redis://host?ssl_ca_certs=/ca.pem", "ssl_ca_certs needs TLS, which is rediss://"),
        ("rediss://host?ssl_ca_certs=/no/such/ca.pem", "ssl_ca_certs names /no/such/ca.pem, which does not exist"),
        ("rediss://host?ssl_cert_reqs=maybe", "ssl_cert_reqs is none of none, optional, required"),
        ("rediss://host?ssl_check_hostname=perhaps", "ssl_check_hostname is none of true, false"),
        ("unix://", "no absolute path of a socket"),
        ("unix://run/redis.sock", "it begins with the third slash"),
        (f"unix://me:{SECRET}/redis.sock", "host and port"),
        ("unix:///redis.sock?socket_keepalive=true", "no option is named 'socket_keepalive'"),
        ("redis+sentinel:///primary", "the host of a Sentinel is missing"),
        ("redis+sentinel://one,/primary", "the host of a Sentinel is missing"),
        ("redis+sentinel://one,:5000/primary", "the host of a Sentinel is missing"),
        ("redis+sentinel://one,two", "the name of the primary is missing"),
        ("redis+sentinel://one,two//0", "the name of the primary is missing"),
        ("redis+sentinel://one,two:x/primary", "host and port"),
        ("redis+sentinel://one/primary/first", "the database is no number"),
        ("redis+sentinel://one/primary/0/1", "the database is no number"),
        ("redis+sentinel://one/primary?ssl_ca_certs=/ca.pem", "needs TLS, which is rediss+sentinel://"),
        (f"redis+sentinel://:{SECRET}/x@one/primary", "written %2F %3F %23"),
        (f"redis+sentinel://one/primary?sentinel_password={SECRET}@x", "written %2F %3F %23"),
    ],
)
def test_a_refusal_names_the_variable_what_is_wrong_and_a_valid_url(url: str, wrong: str):
    error = refusal(url)
    assert error.startswith("REDIS_URL: ")
    assert wrong in error
    assert error.endswith(f"; a valid one is {FORMS[url.partition('://')[0]]}")


def test_an_option_that_names_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    key = tmp_path / "client.key"
    key.touch()
    monkeypatch.setattr("os.access", lambda *_: False)  # root may read everything
    assert f"ssl_keyfile names {key}, which cannot be read" in refusal(f"rediss://host?ssl_keyfile={key}")


@pytest.mark.parametrize("form", list(FORMS.values()))
def test_the_valid_urls_of_the_errors_are_valid(form: str, tmp_path: Path):
    (tmp_path / "ca.pem").touch()
    Endpoint.parse(form.replace("/path/to/ca.pem", str(tmp_path / "ca.pem")))


@pytest.mark.parametrize("scheme", list(PLACES))
@pytest.mark.parametrize("special", [*"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ", "[]", "%41", "ä", "://"])
def test_a_raw_character_in_a_password_is_taken_as_it_is_or_refused_without_showing_it(scheme: str, special: str):
    password = f"{SECRET}{special}{SECOND}"
    url = PLACES[scheme].format(f"me:{password}")
    if special in {"/", "?", "#", "://"} and not (scheme == "unix" and special in {"/", "://"}):
        assert "written %2F %3F %23" in refusal(url)
    elif scheme == "unix" and special in {"/", "://"}:
        refusal(url)
    else:
        assert Endpoint.parse(url).options["password"] == password.replace("%41", "A")
        assert SECRET not in masked(url)
        assert SECOND not in masked(url)


@pytest.mark.parametrize("scheme", list(PLACES))
@given(username=st.text(min_size=1), password=st.text(min_size=1))
def test_any_user_and_password_can_be_written_and_come_through_kombu(scheme: str, username: str, password: str):
    secret = ":".join(quote(part, safe="") for part in (username, password))
    endpoint = Endpoint.parse(PLACES[scheme].format(secret))
    assert (endpoint.options["username"], endpoint.options["password"]) == (username, password)
    connection = kombu.Connection(broker_url(PLACES[scheme].format(secret)))
    assert Endpoint.parse(str(connection.hostname)) == endpoint
    assert f"{quote(username, safe='')}:**@" in str(connection.as_uri())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host", "celeriac+redis://host/0"),
        ("redis://:hunter2@host:6380/1", "celeriac+redis://:**@host:6380/1"),
        ("rediss://me:hunter2@host/1?ssl_password=swordfish", "celeriac+rediss://me:**@host/1"),
        ("unix:///run/redis.sock?db=3", "celeriac+unix:///run/redis.sock"),
        ("unix://me:hunter2@/run/redis.sock", "celeriac+unix://me:**@/run/redis.sock"),
        ("redis+sentinel://one,two/primary", "celeriac+redis+sentinel://one/primary/0"),
        (
            "redis+sentinel://me:hunter2@one:5000,two:5001,three/primary/2?sentinel_password=swordfish",
            "celeriac+redis+sentinel://me:**@one:5000/primary/2",
        ),
        ("rediss+sentinel://:hunter2@one,two/primary", "celeriac+rediss+sentinel://:**@one/primary/0"),
    ],
)
def test_kombu_shows_a_broker_url_without_its_secrets(url: str, shown: str):
    assert masked(url) == shown


@pytest.mark.parametrize("scheme", list(PLACES))
def test_a_broker_url_names_the_same_server(scheme: str):
    url = PLACES[scheme].format("me:p%2Fw;x")
    connection = kombu.Connection(broker_url(url))
    assert connection.transport_cls == "celeriac"
    assert not connection.alt, "a semicolon would part it into two"
    assert Endpoint.parse(str(connection.hostname)) == Endpoint.parse(url)


@pytest.mark.parametrize("scheme", list(PLACES))
def test_nothing_that_is_printed_of_a_connection_shows_a_secret(scheme: str):
    endpoint = Endpoint.parse(PLACES[scheme].format(f"me:{SECRET}"))
    pool = endpoint.pool()
    assert SECRET not in f"{endpoint!r} {pool!r} {pool.make_connection()!r} {redis.Redis(connection_pool=pool)!r}"


def test_the_error_of_silent_sentinels_has_the_reason_of_each_and_no_secret():
    ports = [free_port(), free_port()]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    client = connect(f"redis+sentinel://:{SECRET}@{hosts}/mine?sentinel_password={SECOND}")
    with pytest.raises(MasterNotFoundError) as caught:
        client.ping()
    assert "no Sentinel names a primary 'mine'" in str(caught.value)
    assert all(f"127.0.0.1:{port}: " in str(caught.value) for port in ports)
    assert str(caught.value).count("Connection refused") == 2
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECOND not in "".join(traceback.format_exception(caught.value))


def test_a_command_that_fails_is_not_sent_again():
    for url in ("redis://host", "unix:///run/redis.sock", "redis+sentinel://host/primary"):
        connection = Endpoint.parse(url).pool(socket_timeout=1).make_connection()
        assert connection.retry._retries == 0
