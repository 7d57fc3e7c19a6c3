"""What a channel has delivered, and how each delivery ends."""

from __future__ import annotations

import sys
from typing import Any

from kombu.transport import virtual

from celeriac.broker import messages


class QoS(virtual.QoS):
    """Acknowledgements, which do not depend on the channel that a message came by."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message; at the latest by the next turn of the event loop."""
        self.channel.holder.acknowledge(int(delivery_tag))
        super().ack(delivery_tag)
        self.channel.credit_changed()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Return a message to the tail of its queue, or make it a dead letter."""
        message = self._delivered.get(delivery_tag)
        error = message.properties.get(messages.ERROR_PROPERTY, "") if message is not None else ""
        if requeue:
            self.channel.holder.give_up(int(delivery_tag), error or "rejected")
        else:
            self.channel.holder.bury(int(delivery_tag), "rejected", error)
        super().ack(delivery_tag)
        self.channel.credit_changed()

    def restore_unacked(self) -> list[Any]:
        """Return what waits in this worker; what runs stays leased and is acknowledged when it ends."""
        self._flush()
        tags = [int(tag) for tag in reversed(list(self._delivered or ()))]  # each goes to the head: the last goes first
        if not self.channel.marks_starts:
            running = _running_tags()
            self.channel.holder.release([tag for tag in tags if str(tag) not in running])
        else:
            # Only Redis knows for certain what has begun.
            self.channel.holder.release(tags, started="leave")
        self._delivered.clear()
        return []


def _running_tags() -> set[str]:
    """The delivery tags of the tasks that run in this worker; none where Celery's worker is not in use."""
    state = sys.modules.get("celery.worker.state")
    return {request.message.delivery_tag for request in state.active_requests} if state else set()
