"""What a publisher hands to Redis: a message, where it goes, and what is written along with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kombu.transport import virtual
from kombu.utils.json import dumps

from celeriac.broker import messages
from celeriac.broker.keys import DEFAULT_PRIORITY, MAX_PRIORITY
from celeriac.rate import Rate


@dataclass(frozen=True, slots=True)
class Companion:
    """The record of a task, a hash that is written and indexed in the same step as its message is published."""

    key: str
    task_id: str
    expires_seconds: int
    #: ms since 1970; its place in its index.
    submitted_ms: int
    #: `name` the first, `state`, `queue` and `submitted_at` among them.
    fields: Mapping[str, str | int]

    def arguments(self) -> list[str | int]:
        """What scripts that write it take."""
        fields = [part for pair in self.fields.items() for part in pair]
        return [self.task_id, self.submitted_ms, self.expires_seconds, *fields]


@dataclass(frozen=True, slots=True)
class Once:
    """A name under which something is published once, however often that is tried."""

    key: str
    #: What is kept under the name, and answered to whoever tries again.
    value: str
    expires_seconds: int


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How often something may be published that has one thing in common: its task, or who publishes it."""

    key: str
    rate: Rate
    #: What it is that they have in common, for people.
    what: str


@dataclass(frozen=True, slots=True)
class Publication:
    """A message that is to be published."""

    queue: str
    #: The message as it is to be delivered.
    raw: str
    #: 0 to 9, 9 first.
    priority: int = DEFAULT_PRIORITY
    #: When it is due, ms since 1970; None for now.
    due_ms: int | None = None
    #: Its task id.
    waiting_id: str = ""
    #: Whether the queue is for tasks, and so tended, or for replies.
    tasks: bool = True
    companion: Companion | None = None
    once: Once | None = None
    #: Messages, those that wait until they are due included, from which on the queue takes no more; None for no limit.
    limit: int | None = None
    rate_limits: tuple[RateLimit, ...] = ()

    @classmethod
    def of(cls, queue: str, message: Mapping[str, Any], priority: int) -> Publication:
        """What a message of kombu's is published as.

        Args:
            queue: where to.
            message: as kombu's virtual channels make it; its properties may hold a `Companion`.
            priority: 0 to 9, 9 first.
        """
        properties = dict(message["properties"])
        companion = properties.pop(messages.COMPANION_PROPERTY, None)
        whole = {**message, "properties": properties}
        return cls(
            queue,
            dumps(whole),
            priority=priority,
            due_ms=messages.due_ms(message["headers"]),
            waiting_id=messages.waiting_id(whole),
            tasks=companion is not None or "task" in message["headers"],
            companion=companion,
        )

    def arguments(self, prefix: str) -> list[str | int]:
        """What `publish.lua` takes.

        Args:
            prefix: of all keys.
        """
        due = "" if self.due_ms is None else self.due_ms
        arguments: list[str | int] = [
            prefix,
            self.queue,
            self.priority,
            self.raw,
            int(self.tasks),
            due,
            self.waiting_id,
        ]
        arguments += [self.once.key, self.once.value, self.once.expires_seconds] if self.once else ["", "", ""]
        arguments += ["" if self.limit is None else self.limit, len(self.rate_limits)]
        for limit in self.rate_limits:
            arguments += [limit.key, limit.rate.interval_us, limit.rate.count]
        if self.companion is None:
            return [*arguments, ""]
        return [*arguments, self.companion.key, *self.companion.arguments()]


class PublishingChannel(virtual.Channel):
    """A channel's part that publishes."""

    min_priority = 0
    max_priority = MAX_PRIORITY
    default_priority = DEFAULT_PRIORITY

    def prepare_message(self, body: Any, priority: int | None = None, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """Make a message; kombu's own `priority or default` would lose an explicit 0."""
        message: dict[str, Any] = super().prepare_message(body, priority, *args, **kwargs)
        message["properties"]["priority"] = DEFAULT_PRIORITY if priority is None else priority
        return message

    def publish(self, publication: Publication) -> None:
        """Publish a message.

        Args:
            publication: the message, and what is written with it.
        """
        raise NotImplementedError

    def _put(self, queue: str, message: dict[str, Any], **_options: Any) -> None:  # noqa: ANN401 - kombu's signature
        self.publish(Publication.of(queue, message, self._get_message_priority(message)))
