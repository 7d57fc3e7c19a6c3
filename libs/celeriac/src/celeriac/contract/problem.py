"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, Field

from celeriac.errors import TYPE_PREFIX, CeleriacError

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An error: what, where and the way out."""

    type: str = Field(
        pattern=f"^({TYPE_PREFIX}[a-z-]+|about:blank)$",
        description="Names the error to programs; docs/reference/errors.md lists all, and a workload may add others.",
    )
    title: str = Field(description="The kind of error, for people.")
    status: int = Field(ge=400, le=599, description="The status of the answer.")
    detail: str = Field(description="The field, its value and what would be right; or what to wait for.")
    retry_after: int | None = Field(
        None, ge=0, description="Seconds after which it may work, as in the header; where that is known."
    )

    @classmethod
    def of(cls, error: CeleriacError) -> Self:
        """The problem of an error."""
        return cls(
            type=error.type_uri(),
            title=error.title,
            status=error.status,
            detail=str(error),
            retry_after=error.retry_after_seconds,
        )


def fails(*errors: type[CeleriacError]) -> dict[int | str, dict[str, Any]]:
    """Say which errors of its own a route answers, for its `responses`.

        @router.post("/{task_id}/retry", status_code=202, responses=fails(Conflict))

    What every route answers (401, 403, 503), what follows from its path, its parameters or its body (404, 408, 413,
    415, 422), is added for it.

    Args:
        errors: what the route raises beyond that.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        response = responses.setdefault(error.status, {"description": error.title, "x-errors": []})
        response["x-errors"].append(error.code)
    return responses
