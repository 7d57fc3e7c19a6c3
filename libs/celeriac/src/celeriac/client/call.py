"""A request to the API, and what its answer is: what clients of every kind send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import IO, Any, Generic, Self, TypeVar

import httpx
from pydantic import BaseModel

R_co = TypeVar("R_co", covariant=True)
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call(Generic[R_co]):
    """A request that was not sent yet."""

    method: str
    path: str
    #: Makes the answer out of a response; raises `ValueError` where that is none of the API's.
    read: Callable[[httpx.Response], R_co]
    #: The query; what is None is left out.
    params: Mapping[str, Any] = field(default_factory=dict)
    #: A JSON body; None for none.
    body: Mapping[str, Any] | None = None
    #: The fields of a form, and the file in it: its name and content.
    form: Mapping[str, str] | None = None
    file: tuple[str, IO[bytes]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Whether it may be sent again where nobody knows if the first was carried out.
    repeatable: bool = False
    #: Statuses that are answers and no errors, besides 2xx.
    answers: frozenset[int] = frozenset()
    #: How much longer than others it may take, seconds.
    extra_seconds: float = 0

    def after(self, cursor: str) -> Self:
        """The same for the page that comes after a cursor."""
        if self.body is not None:
            return replace(self, body={**self.body, "cursor": cursor})
        return replace(self, params={**self.params, "cursor": cursor})

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Make the request that a client of httpx sends."""
        timeout = http.timeout
        if self.extra_seconds and timeout.read is not None:
            # The answer takes longer, not the way to it.
            longer = timeout.read + self.extra_seconds
            timeout = httpx.Timeout(connect=timeout.connect, read=longer, write=timeout.write, pool=timeout.pool)
        return http.build_request(
            self.method,
            self.path,
            params={name: value for name, value in self.params.items() if value is not None},
            json=self.body,
            data=self.form,
            files=None if self.file is None else {"file": self.file},
            headers=self.headers,
            timeout=timeout,
        )


def answer_of(model: type[M]) -> Callable[[httpx.Response], M]:
    """Read a response's JSON body."""
    return lambda response: model.model_validate_json(response.content)
