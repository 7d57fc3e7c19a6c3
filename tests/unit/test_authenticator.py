"""What an API process knows of tokens: from when, until when, and at what cost to the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from threading import Event
from types import SimpleNamespace

import pytest

from celeriac.access import Scope, Token, token_hash
from celeriac.errors import Unavailable
from celeriac_api import auth
from celeriac_api.auth import Authenticator
from tests.platform import wait_for

BOOTSTRAP = Token("bootstrap", frozenset(Scope))
CI = Token("ci", frozenset({Scope.SUBMIT}))


class Clock:
    """The clock of `auth`, which a test puts forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


class Table:
    """Stands for the tokens in the database; may be away, and may be slow to answer."""

    def __init__(self) -> None:
        self.tokens = {token_hash("cel_ci"): CI}
        self.reads = 0
        self.away = False
        self.answers = Event()
        self.answers.set()

    def read(self) -> Mapping[str, Token]:
        self.reads += 1
        found = dict(self.tokens)
        assert self.answers.wait(30)
        if self.away:
            raise Unavailable("away")
        return found


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def known(table: Table) -> Authenticator:
    return Authenticator({token_hash("bootstrap"): BOOTSTRAP}, table.read)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(auth, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def ask(known: Authenticator, secret: str) -> Token | None:
    return asyncio.run(known.token(secret))


def test_a_known_token_costs_one_reading_however_often_it_is_used(known: Authenticator, table: Table):
    assert {ask(known, "cel_ci") for _ in range(100)} == {CI}
    assert table.reads == 1


def test_only_the_whole_secret_is_known(known: Authenticator):
    for secret in ("", "cel_c", "cel_ci ", token_hash("cel_ci"), "bootstra"):
        known._begun_at = -1e9  # nobody needs to wait for the next reading here
        assert ask(known, secret) is None


def test_the_bootstrap_token_never_asks_the_database(known: Authenticator, table: Table):
    table.away = True
    assert ask(known, "bootstrap") is BOOTSTRAP
    assert table.reads == 0


def test_while_the_database_is_away_a_token_works_for_a_minute_and_is_unchecked_then(
    known: Authenticator, table: Table, clock: Clock
):
    assert ask(known, "cel_ci") is CI
    table.away = True
    clock.ahead = auth.CACHE_SECONDS - 1
    assert ask(known, "cel_ci") is CI
    clock.ahead = auth.CACHE_SECONDS + 1
    for secret in ("cel_ci", "cel_unknown"):
        with pytest.raises(Unavailable, match="database cannot be reached"):
            ask(known, secret)
    table.away = False
    assert ask(known, "cel_ci") is CI


def test_a_revoked_token_stops_within_a_minute_even_if_nobody_asks_before(
    known: Authenticator, table: Table, clock: Clock
):
    assert ask(known, "cel_ci") is CI
    table.tokens.clear()
    clock.ahead = auth.CACHE_SECONDS
    assert ask(known, "cel_ci") is None


def test_a_copy_is_renewed_while_the_old_one_serves(known: Authenticator, table: Table, clock: Clock):
    assert ask(known, "cel_ci") is CI
    table.tokens.clear()
    clock.ahead = auth.REFRESH_SECONDS - 1
    assert ask(known, "cel_ci") is CI
    assert table.reads == 1
    clock.ahead = auth.REFRESH_SECONDS + 1
    assert ask(known, "cel_ci") is CI, "without waiting"
    wait_for(lambda: ask(known, "cel_ci") is None, "the new copy")
    assert table.reads == 2 + 1, "and one more for what the new copy did not have"


def test_a_token_works_as_soon_as_it_is_made(known: Authenticator, table: Table):
    assert ask(known, "cel_ci") is CI
    table.tokens[token_hash("cel_new")] = CI
    assert ask(known, "cel_new") is CI


def test_a_token_made_while_another_reading_is_under_way_is_not_refused(known: Authenticator, table: Table):
    async def both() -> Token | None:
        table.answers.clear()
        first = asyncio.create_task(known.token("cel_ci"))
        await asyncio.to_thread(wait_for, lambda: table.reads, "the first reading")
        table.tokens[token_hash("cel_new")] = CI
        second = asyncio.create_task(known.token("cel_new"))
        await asyncio.sleep(0)
        table.answers.set()
        assert await first is CI
        return await second

    assert asyncio.run(both()) is CI
    assert table.reads == 2


def test_guessing_makes_few_readings_and_fills_no_memory(known: Authenticator, table: Table):
    async def guess() -> list[Token | None]:
        begun = time.monotonic()
        answers: list[Token | None] = []
        while time.monotonic() - begun < 2.5:
            answers += await asyncio.gather(*(known.token(f"cel_{len(answers)}-{number}") for number in range(300)))
        return answers

    answers = asyncio.run(guess())
    assert len(answers) >= 600
    assert set(answers) == {None}
    assert table.reads <= 4
    assert known._snapshot.tokens.keys() == {token_hash("cel_ci")}


def test_guessing_holds_up_no_token_that_is_known(known: Authenticator, table: Table):
    async def use() -> float:
        assert await known.token("cel_ci") is CI
        guesses = [asyncio.create_task(known.token(f"cel_{number}")) for number in range(300)]
        await asyncio.sleep(0)
        begun = time.monotonic()
        assert await known.token("cel_ci") is CI
        waited = time.monotonic() - begun
        await asyncio.gather(*guesses)
        return waited

    assert asyncio.run(use()) < 0.1


def test_an_outage_is_told_to_all_who_wait_and_the_database_is_left_alone(known: Authenticator, table: Table):
    async def ask_many() -> list[Token | BaseException | None]:
        return await asyncio.gather(*(known.token(f"cel_{number}") for number in range(300)), return_exceptions=True)

    table.away = True
    for _ in range(2):
        assert {type(answer) for answer in asyncio.run(ask_many())} == {Unavailable}
    assert table.reads <= 3


def test_a_database_that_does_not_answer_blocks_neither_the_loop_nor_the_request(
    known: Authenticator, table: Table, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(auth, "PATIENCE_SECONDS", 0.2)
    table.answers.clear()

    async def use() -> None:
        waiting = asyncio.create_task(known.token("cel_ci"))
        await asyncio.sleep(0.05)
        assert await known.token("bootstrap") is BOOTSTRAP
        assert not waiting.done()
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await known.token("cel_ci")

    asyncio.run(use())
    assert table.reads == 1, "one thread waits, not one a request"
    table.answers.set()
    wait_for(known._reading.done, "the reading to end")
    assert ask(known, "cel_ci") is CI
