"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel, Field

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Part(Protocol):
    """One of several answers to the same request."""

    @property
    def next(self) -> str | None:
        """What gets the next one; None at the end."""


class Page(Part, Protocol[T_co]):
    """A part of a list."""

    @property
    def entries(self) -> Sequence[T_co]:
        """What is on the page."""


class CursorPage(BaseModel, Generic[T]):
    """A page of a list; `cursor` gets the next one, and is null at the end."""

    items: list[T]
    cursor: str | None = Field(description="What gets the next page; null at the end.")

    @property
    def entries(self) -> Sequence[T]:
        """What is on the page."""
        return self.items

    @property
    def next(self) -> str | None:
        """What gets the next page; None at the end."""
        return self.cursor
