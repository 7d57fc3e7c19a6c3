"""Records expire by themselves; their entries in the indexes are taken out here."""

from __future__ import annotations

import secrets
import time
from importlib.resources import files
from typing import cast

from redis import Redis

from celeriac.broker import Keys

#: One process sweeps at a time: another takes over when it has not for so long, ms.
_TURN_MS = 3000

#: Entries that are looked at in one go; Redis does nothing else for about a millisecond.
_LOOKED_AT = 300


class Sweep:
    """Takes out a bounded number of entries at a time, so that memory is given back soon after records expire.

    Args:
        keys: the names of keys.
        expires_seconds: how long the record of a finished task is kept.
        unfinished_expires_seconds: how long any other is kept after its last change.
    """

    def __init__(self, keys: Keys, *, expires_seconds: int, unfinished_expires_seconds: int) -> None:
        self._keys = keys
        self._kept = expires_seconds, unfinished_expires_seconds
        self._name = secrets.token_hex(8)
        self._script = files(__package__).joinpath("sweep.lua").read_text()

    def __call__(self, client: Redis) -> bool:
        """Sweep a little; whether there is more to do at once."""
        now_ms = int(time.time() * 1000)
        args: list[str | int] = [self._keys.prefix, self._name, _TURN_MS, now_ms, _LOOKED_AT, *self._kept]
        return bool(cast("int", client.register_script(self._script)(keys=[self._keys.sweeper], args=args)))
