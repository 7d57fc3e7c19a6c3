"""Clients that mean harm or know no better: after each, the API serves others as before and has kept nothing."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator

import pytest

from tests.hostile import (
    BODY_SECONDS,
    HEAD_SECONDS,
    MAX_CONNECTIONS,
    UNREAD_SECONDS,
    Answer,
    HostileApi,
    Wire,
    all_ended,
    head,
    submit,
)
from tests.servers import RedisServer

#: Clients at a time.
MANY = 200
#: Beyond its limit, until the API has looked and the connection has ended, seconds.
SLACK = 8


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, server: RedisServer) -> Iterator[HostileApi]:
    api = HostileApi(tmp_path_factory.mktemp("hostile"), server.url)
    with api.platform:
        yield api


@pytest.fixture
def api(running: HostileApi) -> Iterator[HostileApi]:
    """An API that must be well afterwards."""
    yield running
    running.is_well()


GOOD = head("GET", "/health/live")

HEADS = {
    "no HTTP": (b"hello\r\n\r\n", 400),
    "HTTP 0.9": (b"GET /\r\n\r\n", 401),
    "HTTP 2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), 400),
    "an unknown method": (head("FETCH"), 400),
    "CONNECT": (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", 400),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: api\r\n\r\n", 401),
    "bytes in the path": (b"GET /tasks/\xff\xfe HTTP/1.1\r\nHost: api\r\n\r\n", 400),
    "NUL in the path": (b"GET /tasks/a\0b HTTP/1.1\r\nHost: api\r\n\r\n", 400),
    "NUL in a header": (b"GET /tasks/one HTTP/1.1\r\nHost: api\r\nX: a\0b\r\n\r\n", 400),
    "a long URL": (head("GET", "/tasks/" + "a" * 40_000), 431),
    "a very long URL": (head("GET", "/tasks/" + "a" * 2_000_000), 431),
    "a long query": (head("GET", "/tasks?queue=" + "a" * 40_000), 431),
    "a long header": (head("GET", "/tasks/one", "X: " + "a" * 40_000), 431),
    "a very long header": (head("GET", "/tasks/one", "X: " + "a" * 2_000_000), 431),
    "many headers": (head("GET", "/tasks/one", *["X: a"] * 101), 431),
    "very many headers": (head("GET", "/tasks/one", *["X: a"] * 100_000), 431),
    "two lengths": (head("POST", "/tasks", "Content-Length: 2", "Content-Length: 3") + b"{}", 400),
    "length and chunks": (head("POST", "/tasks", "Content-Length: 2", "Transfer-Encoding: chunked") + b"{}", 400),
    "a negative length": (head("POST", "/tasks", "Content-Length: -1"), 400),
    "a length that is none": (head("POST", "/tasks", "Content-Length: 0x10"), 400),
    "a length beyond 64 bits": (head("POST", "/tasks", "Content-Length: " + "9" * 5000), 400),
    "a huge length": (head("POST", "/tasks", "Content-Length: 999999999999"), 413),
    "a coding unknown": (head("POST", "/tasks", "Transfer-Encoding: gzip"), 400),
    "chunks that are none": (head("POST", "/tasks", "Transfer-Encoding: chunked") + b"zz\r\n", 400),
    "a chunk beyond 64 bits": (head("POST", "/tasks", "Transfer-Encoding: chunked") + b"f" * 40 + b"\r\n", 400),
    "a token of bytes": (b"GET /tasks/one HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer \xff\xfe\r\n\r\n", 401),
    "a long token": (head("GET", "/tasks/one", token="a" * 20_000), 401),
    "a path out": (head("GET", "/static-offline-docs/../../etc/passwd"), 404),
    "a path out, escaped": (head("GET", "/static-offline-docs/..%2f..%2fetc%2fpasswd"), 404),
    "an escape that is none": (head("GET", "/tasks/%zz%"), 404),
    "bytes that are no text, escaped": (head("GET", "/tasks/%ff%fe"), 404),
    "NUL, escaped": (head("GET", "/tasks/%00"), 404),
    "a whole URL": (head("GET", "http://other/tasks/one"), 404),
    "an upgrade": (head("GET", "/tasks/one", "Connection: Upgrade", "Upgrade: websocket"), 404),
    "an upgrade to HTTP 2": (head("GET", "/tasks/one", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"), 404),
    "an address that is none": (head("GET", "/tasks/one", "X-Forwarded-For: " + "a" * 5000), 404),
    "a method that is not allowed": (head("TRACE"), 405),
    "an old client": (b"GET /health/live HTTP/1.0\r\n\r\n", 200),
    "a body that nobody reads": (head("GET", "/health/live", "Content-Length: 5") + b"hello", 200),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_wrong_is_refused_with_a_problem(api: HostileApi, name: str):
    raw, status = HEADS[name]
    answer = asyncio.run(api.ask(raw))
    assert answer is not None
    assert answer.status == status, answer.body
    if status >= 400:
        assert answer.problem["status"] == status


def test_garbage_is_refused_or_answered_but_never_stops_anything(api: HostileApi):
    rng = random.Random(6)

    async def run() -> list[Answer | None]:
        samples = [submit(b'{"name": "examples.add"}'), head("GET", "/tasks?limit=5"), GOOD]
        mutants = []
        for _ in range(MANY):
            raw = bytearray(rng.choice(samples))
            for _ in range(rng.randint(1, 8)):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            mutants.append(bytes(raw) if rng.random() < 0.8 else rng.randbytes(rng.randrange(1, 2000)))
        return await asyncio.gather(*(api.ask(raw, seconds=HEAD_SECONDS + BODY_SECONDS + 2 * SLACK) for raw in mutants))

    answers = asyncio.run(run())
    assert {answer.status for answer in answers if answer} <= {200, 202, 400, 401, 403, 404, 405, 408, 413, 415, 422}


DEEP = 100_000

BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "bytes that are no text": b'{"name": "\xff\xfe"}',
    "UTF-16": '{"name": "examples.add"}'.encode("utf-16"),
    "a mark before it": b"\xef\xbb\xbf" + b'{"name": "examples.add", "args": [1, 2]}',
    "a lone surrogate": rb'{"name": "examples.add", "args": ["\ud800", 1]}',
    "a lone surrogate as a name": rb'{"name": "\udfff"}',
    "a number beyond floats": b'{"name": "examples.add", "args": [1e400, 1]}',
    "a time beyond floats": b'{"name": "examples.add", "args": [1, 2], "countdown": 1e400}',
    "NaN": b'{"name": "examples.add", "args": [NaN, 1]}',
    "an integer of 5,000 digits": b'{"name": "examples.add", "args": [' + b"9" * 5000 + b", 1]}",
    "a priority of 5,000 digits": b'{"name": "examples.add", "args": [1, 2], "priority": ' + b"9" * 5000 + b"}",
    "arrays in arrays": b'{"name": "examples.add", "args": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "objects in objects": b'{"name": "examples.add", "kwargs": ' + b'{"a":' * DEEP + b"1" + b"}" * (DEEP + 1),
    "many wrong fields": b"{" + b",".join(b'"f%d": 1' % number for number in range(50_000)) + b"}",
    "a field with a long name": b'{"' + b"f" * 500_000 + b'": 1}',
    "an eta before the year 1": b'{"name": "examples.add", "args": [1, 2], "eta": "0001-01-01T00:00:00+23:59"}',
    "an eta after the year 9999": b'{"name": "examples.add", "args": [1, 2], "eta": "9999-12-31T23:59:59-23:59"}',
    "an end before the year 1": b'{"name": "examples.add", "args": [1, 2], "expires": "0001-01-01T00:00:00+23:59"}',
    "an array": b"[1]",
    "a text": b'"examples.add"',
    "nothing at all": b"null",
}


@pytest.mark.parametrize("path", ["/tasks", "/tasks/bulk", "/admin/dead-letters/replay", "/api/data-sync/sync-batch"])
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_wrong_is_refused_with_what_is_wrong(api: HostileApi, path: str, name: str):
    body = BODIES[name]
    if path == "/tasks/bulk" and body.startswith(b'{"name"'):
        body = b'{"tasks": [' + body + b"]}"
    answer = asyncio.run(api.ask(submit(body, path=path)))
    assert answer is not None
    if answer.status == 202:
        # What is wrong with one task of many is said in its place.
        (task,) = json.loads(answer.body)["tasks"]
        assert task["error"]["status"] == 422
        return
    assert answer.status == 422, answer.body
    assert 0 < len(answer.problem["detail"]) < 3000


ODD = {
    "NUL": (b'{"name": "examples.add", "args": ["\\u0000", "b"]}', 202),
    "the same name twice": (b'{"name": "examples.none", "name": "examples.add", "args": [1], "args": [1, 2]}', 202),
    "an integer of 4,000 digits": (b'{"name": "examples.add", "args": [' + b"9" * 4000 + b", 1]}", 202),
    "100 levels": (b'{"name": "examples.add", "args": [' + b"[" * 100 + b"]" * 100 + b", 1]}", 202),
    "the last moment": (b'{"name": "examples.add", "args": [1, 2], "eta": "9999-12-31T23:59:59Z"}', 202),
    "the first moment": (b'{"name": "examples.add", "args": [1, 2], "eta": "0001-01-01T00:00:00Z"}', 202),
}


@pytest.mark.parametrize("name", ODD)
def test_a_body_that_is_odd_but_right_is_accepted_and_shown(api: HostileApi, name: str):
    body, status = ODD[name]
    answer = asyncio.run(api.ask(submit(body)))
    assert answer is not None
    assert answer.status == status, answer.body
    shown = asyncio.run(api.ask(head("GET", answer.headers["location"])))
    assert shown is not None
    assert shown.status == 200, shown.body


@pytest.mark.parametrize("path", ["/tasks", "/tasks/bulk", "/admin/dead-letters/drop", "/api/data-sync/files"])
@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/jsonx", "", None, "\xff", "a" * 5000])
def test_a_body_of_another_type_is_refused(api: HostileApi, path: str, kind: str | None):
    answer = asyncio.run(api.ask(submit(b'{"name": "examples.add", "args": [1, 2]}', kind=kind, path=path)))
    assert answer is not None
    assert answer.status == 415, answer.body
    assert "body: send it as " in answer.problem["detail"]


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=x"]
)
def test_an_upload_that_is_no_form_is_refused(api: HostileApi, kind: str):
    answer = asyncio.run(api.ask(submit(b"--y\r\n\r\nhello\r\n", kind=kind, path="/api/data-sync/files")))
    assert answer is not None
    assert answer.status == 422, answer.body
    assert answer.problem["type"] == "urn:celeriac:error:invalid-input"


def test_those_who_send_nothing_or_slowly_are_cut_off_and_hold_nobody_up(api: HostileApi):
    async def drip(wire: Wire, raw: bytes) -> None:
        """Send a byte at a time, for ever."""
        while True:
            for byte in raw:
                wire.send(bytes([byte]))
                await asyncio.sleep(0.5)

    async def run() -> None:
        bodies = head("POST", "/tasks", "Content-Type: application/json", "Content-Length: 100000")
        chunks = head("POST", "/tasks", "Content-Type: application/json", "Transfer-Encoding: chunked")
        wires = [await api.connect() for _ in range(MANY)]
        tasks = []
        for number, wire in enumerate(wires):
            kind = number % 5
            if kind == 0:
                continue  # says nothing
            if kind == 1:
                wire.send(b"GET /tasks/one HTTP/1.1\r\n")
                tasks.append(asyncio.create_task(drip(wire, b"X: a\r\n")))
            elif kind == 2:
                tasks.append(asyncio.create_task(drip(wire, b"\r\n")))
            elif kind == 3:
                wire.send(bodies)
                tasks.append(asyncio.create_task(drip(wire, b" ")))
            else:
                wire.send(chunks)
                tasks.append(asyncio.create_task(drip(wire, b"1\r\n \r\n")))
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < began + HEAD_SECONDS:
            await asyncio.to_thread(api.good)
        ended = await all_ended(wires, BODY_SECONDS + SLACK + 10)
        for task in tasks:
            task.cancel()
        assert ended == MANY

    asyncio.run(run())


@pytest.mark.parametrize("token", ["a-token-for-tests", "unknown"])
def test_a_slow_body_is_told_that_it_was_too_slow(api: HostileApi, token: str):
    fields = ["Content-Type: application/json", "Content-Length: 100"]

    async def run() -> Answer | None:
        wire = await api.connect()
        wire.send(head("POST", "/tasks", *fields, token=token) + b'{"name": ')
        answer = await asyncio.wait_for(wire.read(), BODY_SECONDS + SLACK)
        assert await wire.ended(SLACK), "the rest would be taken for another request"
        return answer

    answer = asyncio.run(run())
    assert answer is not None
    assert answer.headers["connection"] == "close"
    if token == "unknown":
        assert answer.status == 401, "nobody waits for the body of who has no token"
    else:
        assert answer.status == 408
        assert "9 bytes" in answer.problem["detail"]


def test_a_slow_head_is_told_that_it_was_too_slow(api: HostileApi):
    answer = asyncio.run(api.ask(b"GET /tasks/one HTTP/1.1\r\nHost: api\r\n", seconds=HEAD_SECONDS + SLACK))
    assert answer is not None
    assert (answer.status, answer.problem["type"]) == (408, "urn:celeriac:error:request-timeout")


ENDLESS = {
    "a URL": (b"GET /", b"a" * 65536),
    "a header": (b"GET / HTTP/1.1\r\nX: ", b"a" * 65536),
    "headers": (b"GET / HTTP/1.1\r\n", b"X: a\r\n" * 10_000),
    "empty lines": (b"", b"\r\n" * 30_000),
    "a body": (head("POST", "/tasks", "Content-Length: 999999"), b" " * 65536),
    "chunks": (
        head("POST", "/tasks", "Content-Type: application/json", "Transfer-Encoding: chunked"),
        b"fff0\r\n" + b" " * 0xFFF0 + b"\r\n",
    ),
    "chunks of one byte": (
        head("POST", "/tasks", "Content-Type: application/json", "Transfer-Encoding: chunked"),
        b"1\r\n \r\n" * 10_000,
    ),
    "a chunk's extension": (
        head("POST", "/tasks", "Content-Type: application/json", "Transfer-Encoding: chunked") + b"1;",
        b"a" * 65536,
    ),
    "a trailer": (
        head("POST", "/tasks", "Content-Type: application/json", "Transfer-Encoding: chunked") + b"0\r\nX: ",
        b"a" * 65536,
    ),
    "trailers": (
        head("POST", "/tasks", "Content-Type: application/json", "Transfer-Encoding: chunked") + b"0\r\n",
        b"X: a\r\n" * 10_000,
    ),
    "a body without a token": (head("POST", "/tasks", "Transfer-Encoding: chunked", token=None), b"1\r\n \r\n" * 9000),
    "a body that nobody asked for": (head("GET", "/health/live", "Transfer-Encoding: chunked"), b"1\r\n \r\n" * 9000),
    "requests": (b"", GOOD * 1000),
    "requests for much": (b"", head("GET", "/openapi.json") * 1000),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_cut_off(api: HostileApi, name: str):
    begin, more = ENDLESS[name]

    async def flood() -> None:
        wire = await api.connect()
        wire.send(begin)
        try:
            async with asyncio.timeout(BODY_SECONDS + UNREAD_SECONDS + 2 * SLACK):
                while True:
                    wire.send(more)
                    await wire.flush()
        except ConnectionError:
            return  # the API has hung up
        finally:
            wire.cut()

    async def run() -> None:
        floods = [asyncio.create_task(flood()) for _ in range(8)]
        await asyncio.to_thread(api.good)
        await asyncio.gather(*floods)

    asyncio.run(run())


def test_who_does_not_read_the_answers_is_cut_off(api: HostileApi):
    async def run() -> None:
        wires = [await api.connect(receive_buffer=4096) for _ in range(20)]
        for wire in wires:
            wire.send(head("GET", "/openapi.json") * 12)
        await asyncio.to_thread(api.good)
        await asyncio.sleep(UNREAD_SECONDS + SLACK / 2)
        # What had been sent before it gave up can still be read, and then the connection ends.
        assert await all_ended(wires, SLACK) == len(wires)

    asyncio.run(run())


def test_those_who_hang_up_leave_nothing_behind(api: HostileApi):
    whole = submit(b'{"name": "examples.add", "args": [1, 2]}')
    big = head("GET", "/openapi.json")

    async def run() -> None:
        for number in range(MANY):
            wire = await api.connect()
            if number % 3:
                wire.send(whole[: number % len(whole)])
            else:
                wire.send(big)
                await wire.flush()
                await asyncio.sleep(0.002)
            await wire.flush()
            wire.cut()

    asyncio.run(run())


def test_requests_that_are_sent_ahead_are_answered_in_their_order(api: HostileApi):
    async def run() -> list[int | None]:
        wire = await api.connect()
        asked = [head("GET", "/tasks/one"), GOOD, submit(b"{"), submit(b"[]", kind="a/b"), GOOD, head("PUT", "/tasks")]
        wire.send(b"".join(asked))
        answers = [await wire.read() for _ in asked]
        wire.cut()
        return [answer and answer.status for answer in answers]

    assert asyncio.run(run()) == [404, 200, 422, 415, 200, 405]


def test_a_good_request_before_garbage_has_its_answer(api: HostileApi):
    async def run() -> tuple[Answer | None, bool]:
        wire = await api.connect()
        wire.send(head("GET", "/tasks?limit=5") + b"garbage\r\n\r\n")
        first = await wire.read()
        return first, await wire.ended(SLACK)

    first, ended = asyncio.run(run())
    assert first is not None
    assert first.status == 200
    assert ended


def test_more_requests_ahead_than_anyone_needs_are_not_kept(api: HostileApi):
    async def run() -> int:
        wire = await api.connect()
        wire.send(head("GET", "/tasks?limit=5") * 1000)
        answered = 0
        while (answer := await wire.read()) is not None:
            assert answer.status == 200
            answered += 1
        return answered

    assert 0 < asyncio.run(run()) < 100


def test_an_answer_that_comes_before_the_end_of_a_body_can_be_read(api: HostileApi):
    async def run() -> list[Answer | None]:
        size = 20 * 2**20
        heads = [
            head("POST", "/tasks", f"Content-Length: {size}", token="unknown"),
            head("POST", "/tasks", f"Content-Length: {size}"),
        ]
        answers = []
        for each in heads:
            wire = await api.connect()
            wire.send(each)
            try:
                for _ in range(size // 65536):
                    wire.send(b" " * 65536)
                    await wire.flush()
            except ConnectionError:
                pass
            answers.append(await wire.read())
            wire.cut()
        return answers

    assert [answer and answer.status for answer in asyncio.run(run())] == [401, 413]


def test_where_connections_are_many_those_that_ask_nothing_make_room(api: HostileApi):
    async def run() -> None:
        wires = []
        for number in range(2 * MAX_CONNECTIONS):
            wire = await api.connect()
            if number % 2:
                wire.send(b"GET / HTTP/1.1\r\n")
            wires.append(wire)
            if number % 100 == 99:
                await asyncio.to_thread(api.good)
        assert api.process.num_fds() < MAX_CONNECTIONS + 64
        for wire in wires:
            wire.cut()

    asyncio.run(run())


def test_where_all_connections_are_busy_others_are_told_to_come_again(api: HostileApi):
    async def busy() -> Wire:
        """A connection whose request the API waits for; those of tests before may still be in the way."""
        fields = ("Content-Type: application/json", "Content-Length: 9", "Expect: 100-continue")
        while True:
            wire = await api.connect()
            wire.send(head("POST", "/tasks", *fields))
            answer = await wire.read()
            if answer is not None and answer.status == 100:
                return wire

    async def run() -> Answer:
        while True:
            wires = await asyncio.gather(*(busy() for _ in range(MAX_CONNECTIONS)))
            answer = await api.ask(GOOD)
            for wire in wires:
                wire.cut()
            # On a slow machine the first of them has been given up before the last one was there.
            if answer is not None and answer.status != 200:
                return answer

    answer = asyncio.run(asyncio.wait_for(run(), 60))
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert "connections are open" in answer.problem["detail"]
