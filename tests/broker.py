"""What tests of the broker share: a clock that they turn themselves, and messages as kombu writes them."""

from __future__ import annotations

import base64
import json
from typing import Any

from redis import Redis

from celeriac.broker import Keys
from celeriac.broker.leases import Delivery


class Clock:
    """Redis' clock, in a key: it stands still until it is told to go on.

    Args:
        client: a client of the Redis that the scripts run on.
    """

    _KEY = "tests:clock"

    def __init__(self, client: Redis) -> None:
        self._client = client
        self.go_to(1_800_000_000 * 1_000_000)

    @property
    def lua(self) -> str:
        """What `scripts.source` takes in place of `clock.lua`."""
        return f"local function now_us() return tonumber(redis.call('GET', '{self._KEY}')) end"

    @property
    def ms(self) -> int:
        """The time, ms since 1970."""
        return self.us // 1000

    def go_on(self, seconds: float) -> None:
        """Turn the clock on; never by less than a microsecond, for no two scripts begin in the same one."""
        self.go_to(self.us + max(1, round(seconds * 1_000_000)))

    def go_to(self, us: int) -> None:
        """Set the clock."""
        self.us = us
        self._client.set(self._KEY, us)


def message(body: str = "", *, headers: dict[str, Any] | None = None, **properties: Any) -> str:
    """A raw message, as kombu writes it."""
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers or {},
            "properties": {"body_encoding": "base64", "delivery_info": {}, "delivery_tag": "d", **properties},
        }
    )


def claimed(answer: list[Any], queues: list[str]) -> list[tuple[Delivery, bool, str]]:
    """The answer to a claim from some queues: delivery, whether its task is revoked, raw message."""
    parts = zip(answer[::4], answer[1::4], answer[2::4], answer[3::4], strict=True)
    return [(Delivery(queues[n - 1], int(tag)), bool(revoked), _text(raw)) for n, tag, revoked, raw in parts]


def inflight(client: Redis, keys: Keys) -> dict[int, tuple[str, str, str]]:
    """Owner, list and raw message of all that is in flight, by tag."""
    values = client.hgetall(keys.inflight)
    return {int(tag): tuple(_text(value).split("\n", 2)) for tag, value in values.items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
