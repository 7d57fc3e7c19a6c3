"""Headers that several routes take or answer."""

from __future__ import annotations

from typing import Any, Final

#: What a submit takes: `Annotated[str | None, Header(**IDEMPOTENCY_KEY)] = None`.
IDEMPOTENCY_KEY: Final[dict[str, Any]] = {
    "alias": "Idempotency-Key",
    "min_length": 1,
    "max_length": 200,
    "description": "A name for this submit: repeated within a day, with the same token, it answers that of the first.",
}

LOCATION: Final[dict[str, Any]] = {
    "Location": {
        "description": "Where it is.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    }
}
RETRY_AFTER: Final[dict[str, Any]] = {
    "Retry-After": {
        "description": "When to try again, seconds.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    }
}
WWW_AUTHENTICATE: Final[dict[str, Any]] = {
    "WWW-Authenticate": {"description": "The scheme that is wanted.", "required": True, "schema": {"const": "Bearer"}}
}
