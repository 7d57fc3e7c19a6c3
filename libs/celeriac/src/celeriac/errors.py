"""What can go wrong, in words a caller can act on.

Every error names the field, the value and the way out. The HTTP API turns each into `application/problem+json`
(RFC 9457) with the status, title and type given here; the command line prints the message and exits with 1.
docs/reference/errors.md lists all of them.
"""

from __future__ import annotations

from typing import ClassVar

#: What the `type` of every problem begins with.
TYPE_PREFIX = "urn:celeriac:error:"


class CeleriacError(Exception):
    """Something that should not happen: a mistake of ours.

    The base of all errors that Celeriac raises on purpose. Every subclass has a code, a title and a way out of its own;
    its docstring begins with a sentence that says when it is raised.
    """

    #: The status of its answer over HTTP; 500 of those that are never answered, but only raised or printed.
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    #: Names the error to programs, in the `type` of its problem: it never changes.
    code: ClassVar[str] = "internal-error"
    #: What whoever meets it can do.
    way_out: ClassVar[str] = "Look for `unexpected_error` in the log of the API, and report it."
    #: When the same request may work, seconds; None where that is not known or where it never will.
    retry_after_seconds: int | None = None

    @classmethod
    def type_uri(cls) -> str:
        """What the error's problem has as its `type`."""
        return TYPE_PREFIX + cls.code


class InvalidInput(CeleriacError):
    """A field, a parameter or the body cannot be accepted as it is."""

    status = 422
    title = "Invalid input"
    code = "invalid-input"
    way_out = "Change what the detail names; it says what would be right."

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
    """There is nothing of this path or id, or no longer."""

    status = 404
    title = "Not found"
    code = "not-found"
    way_out = "Check the id. Records of tasks expire with their results; the lists show what there is."

    def __init__(self, what: str, ident: object, hint: str = "") -> None:
        """Name what is missing.

        Args:
            what: the kind of thing, such as `task`.
            ident: the id that was asked for.
            hint: why it may be missing, or where to look instead.
        """
        super().__init__(f"no {what} {_shorten(ident)}" + (f": {hint}" if hint else ""))


class Conflict(CeleriacError):
    """The state of the thing does not allow the request."""

    status = 409
    title = "Conflict"
    code = "conflict"
    way_out = "Look at the thing's state, which the detail names: the request may no longer be needed."


class Unavailable(CeleriacError):
    """A part that is needed is away: Redis, the database, the file store."""

    status = 503
    title = "Unavailable"
    code = "unavailable"
    way_out = "Send the request again after `Retry-After`; a submit with the same `Idempotency-Key`."
    retry_after_seconds = 1


class TooMany(CeleriacError):
    """A limit is reached, such as that of a queue."""

    status = 429
    title = "Too many"
    code = "too-many"
    way_out = "Send the request again after `Retry-After`."

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        """Say when to try again.

        Args:
            detail: which limit, and what it is.
            retry_after_seconds: when it may work.
        """
        self.retry_after_seconds = retry_after_seconds
        super().__init__(detail)


class DeadLettered(CeleriacError):
    """A task's message was given up: it was never run to an end, and now waits among the dead letters."""

    title = "Dead-lettered"
    code = "dead-lettered"
    way_out = "Mend what the reason says and replay the dead letter, or drop it."


class MessageLost(CeleriacError):
    """A task waited or ran by its record, and its message was nowhere any more."""

    title = "Message lost"
    code = "message-lost"
    way_out = "Submit the task anew. Look for who has deleted lists in Redis, or consumes from them besides."


class ConfigurationError(CeleriacError):
    """A setting cannot work; found at start."""

    title = "Configuration error"
    code = "configuration"
    way_out = "Change the setting that the message names."


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
