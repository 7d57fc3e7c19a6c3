"""How a call becomes a method of clients of both kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, overload

from celeriac.client.call import Call

if TYPE_CHECKING:
    from celeriac.client.async_client import AsyncClient
    from celeriac.client.client import Client
    from celeriac.client.following import Following

P = ParamSpec("P")
R = TypeVar("R")


class Method(Generic[P, R]):
    """A method that sends a call: `show_task = Method(calls.show_task)`; with asyncio it is awaited.

    Args:
        call: makes the call; its parameters are those of the method.
    """

    def __init__(self, call: Callable[P, Call[R]]) -> None:
        self.call = call
        self.__doc__ = call.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, R]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        """Give the method of one client."""
        if client is None:
            return self

        def send(*args: P.args, **kwargs: P.kwargs) -> Any:  # noqa: ANN401
            return client.send(self.call(*args, **kwargs))

        return send


class Stream(Generic[P, R]):
    """A method that gives events as they come: `follow_task = Stream(following.task)`; an asynchronous iterator there.

    Args:
        follow: makes the stream; its parameters are those of the method.
    """

    def __init__(self, follow: Callable[P, Following[R]]) -> None:
        self.follow = follow
        self.__doc__ = follow.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, Iterator[R]]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, AsyncIterator[R]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        """Give the method of one client."""
        if client is None:
            return self

        def events(*args: P.args, **kwargs: P.kwargs) -> Any:  # noqa: ANN401
            return client.follow(self.follow(*args, **kwargs))

        return events
