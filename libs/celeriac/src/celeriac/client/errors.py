"""What a client raises."""

from __future__ import annotations

import httpx
from pydantic import ValidationError

from celeriac.contract.problem import Problem
from celeriac.errors import CeleriacError


class ApiError(CeleriacError):
    """The API refused a request of the client; the message is the API's own."""

    title = "Refused by the API"
    code = "refused"
    way_out = "Do what the message says."

    def __init__(
        self, http_status: int, detail: str, retry_after_seconds: int | None = None, problem: Problem | None = None
    ) -> None:
        """Say what the API said.

        Args:
            http_status: the status that it answered.
            detail: why.
            retry_after_seconds: when the same may work; None where it has not said so.
            problem: the whole error, whose `type` names it; None where what answered was no API of ours.
        """
        self.http_status = http_status
        self.retry_after_seconds = retry_after_seconds
        self.problem = problem
        super().__init__(detail)

    @classmethod
    def of(cls, response: httpx.Response) -> ApiError:
        """The error that an answer tells of."""
        status = response.status_code
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            return cls(status, f"{status} {response.reason_phrase}", retry_after(response))
        return cls(status, f"{status} {problem.title}: {problem.detail}", retry_after(response), problem)


def retry_after(response: httpx.Response) -> int | None:
    """When an answer says that the same may work, seconds; None where it does not."""
    header = response.headers.get("Retry-After", "")
    return int(header) if header.isascii() and header.isdecimal() and len(header) < 10 else None
