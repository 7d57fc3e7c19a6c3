"""What can go wrong, in words a caller can act on.

Every error names the field, the value and the way out. The HTTP API turns each into `application/problem+json`
(RFC 9457) with the status and title given here; the command line prints the message and exits with 1.
"""

from __future__ import annotations

from typing import ClassVar


class CeleriacError(Exception):
    """The base of all errors that Celeriac raises on purpose."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"


class InvalidInput(CeleriacError):
    """Input that cannot be accepted as it is."""

    status = 422
    title = "Invalid input"

    def __init__(self, field: str, value: object, reason: str) -> None:
        """Name what is wrong.

        Args:
            field: the name of the field, as the caller wrote it.
            value: what the caller gave; shown shortened to 100 characters.
            reason: what is wrong with it and what would be right.
        """
        self.field = field
        self.value = value
        self.reason = reason
        super().__init__(f"{field}: {reason} (got {_shorten(value)})")


class NotFound(CeleriacError):
    """Something asked for by its id that does not exist, or no longer."""

    status = 404
    title = "Not found"

    def __init__(self, what: str, ident: object, hint: str = "") -> None:
        """Name what is missing.

        Args:
            what: the kind of thing, such as `task`.
            ident: the id that was asked for.
            hint: why it may be missing, or where to look instead.
        """
        super().__init__(f"no {what} {_shorten(ident)}" + (f": {hint}" if hint else ""))


class Conflict(CeleriacError):
    """A request that the state of the thing does not allow."""

    status = 409
    title = "Conflict"


class Unavailable(CeleriacError):
    """A part that is needed is away; the same request may work later."""

    status = 503
    title = "Unavailable"


class TooMany(CeleriacError):
    """More than a limit allows; the same request may work later."""

    status = 429
    title = "Too many"

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        """Say when to try again.

        Args:
            detail: which limit, and what it is.
            retry_after_seconds: when it may work.
        """
        self.retry_after_seconds = retry_after_seconds
        super().__init__(detail)


class DeadLettered(CeleriacError):
    """A task whose message was given up: it was never run to an end, and now waits among the dead letters."""

    title = "Dead-lettered"


class ConfigurationError(CeleriacError):
    """A setting that cannot work, found at start."""

    title = "Configuration error"


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
