"""How often something may be done: `10/s`, `600/m`, `1000/h`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}

#: As many as one Redis takes; whole microseconds are then off by 1 in 200 at most.
_MAX_PER_SECOND: Final = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a time: as many at once, and then one each time its share has gone by."""

    count: int
    #: `s`, `m` or `h`.
    unit: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a rate.

        Args:
            text: a number, `/` and `s`, `m` or `h`.

        Raises:
            ValueError: it is none, or more than 10,000 a second.
        """
        match = re.fullmatch(r"([1-9][0-9]{0,8})/([smh])", text)
        if match is None or int(match[1]) > _MAX_PER_SECOND * _SECONDS[match[2]]:
            what = f"a rate is a number, / and s, m or h, such as 10/s, 600/m or 1000/h, at most {_MAX_PER_SECOND}/s"
            msg = f"{what} (got {text!r})"
            raise ValueError(msg)
        return cls(int(match[1]), match[2])

    @property
    def interval_us(self) -> int:
        """The share of one, microseconds."""
        return round(1_000_000 * _SECONDS[self.unit] / self.count)

    def __str__(self) -> str:
        """As it is read."""
        return f"{self.count}/{self.unit}"
