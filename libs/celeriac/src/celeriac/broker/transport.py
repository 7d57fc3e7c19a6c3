"""kombu's Redis transport with Celery's priorities turned the way callers mean them.

A message keeps the priority that its caller gave, 9 first; only the choice of list knows that kombu serves 0 first. So
a retry, which copies the priority of the message it continues, keeps it.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis

from celeriac.broker.keys import DEFAULT_PRIORITY, MAX_PRIORITY, ready_key


class Channel(redis.Channel):
    """Lists named by the caller's priority, served from 9 down to 0."""

    # When a connection is lost, what this worker holds is not put back: its tasks still run, and are renewed. What is
    # renewed no more comes back by the visibility timeout.
    do_restore = False
    default_priority = DEFAULT_PRIORITY
    # What stands between queue and priority: kombu finds the queue of a message by it.
    sep = ":"

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's signature
        super().__init__(*args, **kwargs)
        # A task that runs when the connection is lost acknowledges by this channel when it ends, closed or not.
        self._kept_connparams = dict(super()._connparams())

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's signature
        if self.connection is None or self.connection.client is None:
            return dict(self._kept_connparams)
        return dict(super()._connparams(asynchronous=asynchronous))

    def prepare_message(self, body: Any, priority: int | None = None, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """Make a message; kombu's own `priority or default` would lose an explicit 0."""
        message: dict[str, Any] = super().prepare_message(body, priority, *args, **kwargs)
        message["properties"]["priority"] = DEFAULT_PRIORITY if priority is None else priority
        return message

    def _get_message_priority(self, message: dict[str, Any], reverse: bool = False) -> int:  # noqa: FBT001, FBT002
        # kombu asks for its own order (reverse=False), which is the reverse of the caller's.
        return int(super()._get_message_priority(message, reverse=not reverse))

    def _q_for_pri(self, queue: str, pri: int) -> str:
        return ready_key(queue, MAX_PRIORITY - pri)


class Transport(redis.Transport):
    """What `celeriac://` names."""

    Channel = Channel
