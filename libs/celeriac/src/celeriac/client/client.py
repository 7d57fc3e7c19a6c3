"""The client for ordinary code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self, TypeVar

import httpx

from celeriac.client.call import Call
from celeriac.client.conversation import Conversation, Outcome, converse, wait
from celeriac.client.errors import ApiError
from celeriac.client.following import Following
from celeriac.client.operations import Operations
from celeriac.contract.page import Page, Part
from celeriac.contract.tasks import TaskView

if TYPE_CHECKING:
    from celeriac.settings import Settings

R = TypeVar("R")
T = TypeVar("T")
Q = TypeVar("Q", bound=Part)


class Client(Operations):
    """Speaks to one API. It may be used by several threads.

    Args:
        url: the API's address.
        token: a bearer token; None for what needs none.
        timeout_seconds: for each request.
        patience_seconds: how long a request that may be repeated is, where the API does not answer or says that it may
            later; 0 for no repetition.
    """

    def __init__(
        self, url: str, token: str | None = None, *, timeout_seconds: float = 10, patience_seconds: float = 30
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_seconds)
        self._patience_seconds = patience_seconds

    @classmethod
    def from_settings(cls, settings: Settings, *, patience_seconds: float = 30) -> Self:
        """Make the client that the settings describe."""
        token = settings.api_token.get_secret_value() if settings.api_token else None
        return cls(settings.api.url, token, patience_seconds=patience_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def send(self, call: Call[R]) -> R:
        """Send a call and read its answer.

        Raises:
            ApiError: the API refuses it.
            Unavailable: the API does not answer.
        """
        return self._drive(converse(call, self._http, self._patience_seconds))

    def pages(self, call: Call[Q]) -> Iterator[Q]:
        """Send a call whose answer is a part, and again for each further part."""
        following: Call[Q] | None = call
        while following is not None:
            page = self.send(following)
            yield page
            following = following.after(page.next) if page.next is not None else None

    def each(self, call: Call[Page[T]]) -> Iterator[T]:
        """Go through all entries of a list: `client.each(calls.list_tasks(state="FAILURE"))`."""
        for page in self.pages(call):
            yield from page.entries

    def wait(self, task_id: str, timeout_seconds: float = 60) -> TaskView:
        """Wait for a task's end, or for the time to run out, and read it."""
        return self._drive(wait(task_id, self._http, self._patience_seconds, timeout_seconds))

    def follow(self, following: Following[T]) -> Iterator[T]:
        """Give the events of a stream as they come; one that was cut off is taken up again.

        Raises:
            ApiError: the API refuses.
            Unavailable: the API does not answer.
        """
        while not following.ended:
            error: ApiError | httpx.HTTPError | None = None
            try:
                response = self._http.send(following.request(self._http), stream=True)
                try:
                    if response.is_error:
                        response.read()
                    if following.begin(response):
                        for chunk in response.iter_bytes():
                            yield from following.events(chunk)
                finally:
                    response.close()
            except (ApiError, httpx.HTTPError) as failure:
                error = failure
            if not following.ended:
                time.sleep(following.pause(error, self._http))

    def _drive(self, conversation: Conversation[R]) -> R:
        outcome: Outcome = None
        while True:
            try:
                step = conversation.send(outcome)
            except StopIteration as end:
                answer: R = end.value
                return answer
            outcome = None
            if isinstance(step, httpx.Request):
                try:
                    outcome = self._http.send(step)
                except httpx.HTTPError as error:
                    outcome = error
            else:
                time.sleep(step)
