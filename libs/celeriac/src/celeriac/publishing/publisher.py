"""Publish without a connection of kombu's: one round trip, and from asyncio no thread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celeriac.broker import scripts
from celeriac.broker.caller import Caller
from celeriac.broker.publication import Publication
from celeriac.publishing.envelopes import Envelopes

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp


class Publisher:
    """Sends what is published.

    Args:
        app: the platform.
    """

    def __init__(self, app: CeleriacApp) -> None:
        self._app = app
        self._script = app.redis.register_script(scripts.source("publish"))
        self._caller = Caller(app.redis)

    @cached_property
    def envelopes(self) -> Envelopes:
        """Writes the messages of the platform's tasks."""
        return Envelopes(self._app)

    async def send(self, publications: Sequence[Publication]) -> list[Any]:
        """Publish messages in one go; for each what `publish.lua` answers, or an error in its place."""
        prefix = self._app.keys.prefix
        return await self._app.line.call_all(self._script, [([], each.arguments(prefix)) for each in publications])

    def send_blocking(self, publication: Publication) -> None:
        """Publish a message from ordinary code.

        Raises:
            RedisError: Redis is away or refuses; the message may have been published.
        """
        self._caller.call(self._script, [], publication.arguments(self._app.keys.prefix))
