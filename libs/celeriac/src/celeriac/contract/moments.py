"""Moments: ISO 8601 with an offset from UTC, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, WithJsonSchema

_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _refuse_others(value: Any) -> Any:  # noqa: ANN401 - whatever was sent
    # A number would be taken for seconds since 1970, and a wrong one for a moment long ago.
    if not isinstance(value, datetime) and not (isinstance(value, str) and _ISO.match(value)):
        msg = "give ISO 8601 with an offset from UTC, such as 2026-01-31T12:00:00Z"
        raise ValueError(msg)
    return value


def _to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        msg = "this is before the year 1 or after the year 9999 in UTC"
        raise ValueError(msg) from None


#: A moment that is asked for; it becomes one of UTC.
AskedMoment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_refuse_others), AfterValidator(_to_utc)]

#: A moment that is answered.
Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
