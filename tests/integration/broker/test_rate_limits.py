"""Rate limits in `publish.lua`, beside buckets that leak, by a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeriac.broker import Keys, scripts
from celeriac.broker.publication import Once, Publication, RateLimit
from celeriac.rate import Rate
from tests.broker import Clock, message

Publish = Callable[[Publication], object]

# Strings of limits expire by Redis' own clock, so each of these lasts for longer than a test.
RATES = ("1/m", "3/m", "2/h", "5/h", "7/h")

_prefixes = count()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def clock(client: redis.Redis) -> Clock:
    return Clock(client)


@pytest.fixture
def publish(client: redis.Redis, clock: Clock) -> Publish:
    script = client.register_script(scripts.source("publish", clock.lua))
    return lambda publication: script(args=publication.arguments("app:"))


def limit(rate: str, key: str = "app:limit") -> RateLimit:
    return RateLimit(key, Rate.parse(rate), "what is tested")


def one(*limits: RateLimit, **options: object) -> Publication:
    return Publication("q", message(), waiting_id="id", rate_limits=limits, **options)  # type: ignore[arg-type]


@dataclass
class Bucket:
    """Holds what came, and leaks steadily: `Rate.count` drops in the time that the rate names."""

    rate: Rate
    drops: Fraction = Fraction(0)
    at_us: int = 0

    def wait_us(self, us: int) -> Fraction:
        """How long to wait until there is room for one drop."""
        share = self.rate.interval_us
        self.drops = max(Fraction(0), self.drops - Fraction(us - self.at_us, share))
        self.at_us = us
        return max(Fraction(0), (self.drops + 1 - self.rate.count) * share)


@given(
    rates=st.tuples(st.sampled_from(RATES), st.sampled_from(RATES)),
    steps=st.lists(
        st.tuples(st.integers(0, 3_000_000_000), st.sampled_from([(), (0,), (1,), (0, 1), (1, 0)])), max_size=40
    ),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_limits_allow_what_leaking_buckets_have_room_for(
    publish: Publish, clock: Clock, rates: tuple[str, str], steps: list[tuple[int, tuple[int, ...]]]
):
    prefix = next(_prefixes)
    limits = [limit(rate, f"app:limit:{prefix}:{number}") for number, rate in enumerate(rates)]
    buckets = [Bucket(each.rate) for each in limits]
    for microseconds, chosen in steps:
        clock.go_on(microseconds / 1_000_000)
        waits = [buckets[number].wait_us(clock.us) for number in chosen]
        answer = publish(one(*(limits[number] for number in chosen)))
        if max(waits, default=0) == 0:
            assert answer == 1
            for number in chosen:
                buckets[number].drops += 1
        else:
            assert answer == [waits.index(max(waits)) + 1, max(waits)]


@pytest.mark.parametrize("rate", ["1/h", "1/m", "3/m", "7/h"])
def test_after_the_wait_it_is_allowed_and_not_a_microsecond_before(publish: Publish, clock: Clock, rate: str):
    limited = one(limit(rate))
    share = Rate.parse(rate).interval_us
    assert [publish(limited) for _ in range(int(rate[0]))] == [1] * int(rate[0]), "as many at once as the number says"
    assert publish(limited) == [1, share]
    clock.go_to(clock.us + share - 1)
    assert publish(limited) == [1, 1]
    clock.go_to(clock.us + 1)
    assert publish(limited) == 1


def test_what_is_refused_writes_nothing_at_all(publish: Publish, client: redis.Redis):
    first, second = limit("1/h", "app:first"), limit("5/h", "app:second")
    assert publish(one(first)) == 1
    before = {key: client.dump(key) for key in client.keys("app:*")}
    once = Once("app:once", "value", 60)
    assert publish(one(second, first, once=once)) == [2, 3_600_000_000]
    assert {key: client.dump(key) for key in client.keys("app:*")} == before


def test_what_is_known_or_finds_the_queue_full_takes_nothing(publish: Publish, client: redis.Redis):
    limited, once = limit("1/h"), Once("app:once", "value", 60)
    assert publish(one()) == 1
    assert publish(one(limited, limit=1)) == -1
    assert not client.exists("app:limit")
    assert publish(one(limited, once=once)) == 1
    taken = client.get("app:limit")
    assert publish(one(limited, once=once)) == "value"
    assert client.get("app:limit") == taken


def test_a_limit_that_is_whole_again_takes_no_memory(publish: Publish, client: redis.Redis):
    assert publish(one(limit("10/s"), limit("2/h", "app:other"))) == 1
    assert 0 <= client.pttl("app:limit") <= 100
    assert 1_799_000 < client.pttl("app:other") <= 1_800_000


def test_limits_are_named_by_what_they_are_of():
    keys = Keys("app:")
    assert len({keys.rate("task", "one"), keys.rate("token", "one"), keys.rate("task", "two")}) == 3
    assert keys.rate("task", "one").startswith("app:celeriac:")
