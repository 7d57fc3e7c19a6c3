"""What Celery publishes, kept instead of sent: for publishing from asyncio, where Celery itself would block."""

from __future__ import annotations

from typing import Any

import kombu
from kombu.transport import virtual

from celeriac.broker.publication import Publication, PublishingChannel


class _Channel(PublishingChannel):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's signature
        super().__init__(*args, **kwargs)
        self.publications: list[Publication] = []

    def publish(self, publication: Publication) -> None:
        self.publications.append(publication)

    def _new_queue(self, *_args: Any, **_kwargs: Any) -> None:  # noqa: ANN401
        """Nothing to make."""


class _Transport(virtual.Transport):
    Channel = _Channel
    driver_type = "celeriac"
    driver_name = "celeriac"


class Outbox:
    """A producer to give to `apply_async`, and what it was given. Not for two threads at once."""

    def __init__(self) -> None:
        self._channel: Any = kombu.Connection(transport=_Transport).channel()
        self.producer = kombu.Producer(self._channel)

    def take(self) -> list[Publication]:
        """Everything that was published since the last call."""
        taken: list[Publication] = self._channel.publications
        self._channel.publications = []
        return taken
