"""The part of a worker that shows its supervisor how it is, and gives back what it has not begun when it stops."""

from __future__ import annotations

import signal
import socket
from typing import Any

from celery import bootsteps
from celery.worker.state import active_requests, requests, reserved_requests

from celeriac.broker.channel import Channel
from celeriac.execution.pace import LONG_SECONDS, PACE, has_long


class Vitals(bootsteps.StartStopStep):
    """Starts anew after each connection."""

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:  # noqa: ANN401 - celery.worker.consumer.Consumer
        super().__init__(consumer, **options)
        self._channel: Channel | None = None
        self._timer: Any = None
        #: Readable after a signal; an event loop that starts anew has forgotten it.
        self._signals: socket.socket | None = None

    def start(self, consumer: Any) -> None:  # noqa: ANN401
        """Begin to show."""
        self._channel = channel = consumer.task_consumer.channel
        holder = channel.holder

        complete = False

        def slots() -> int:  # remote control may change it
            return int(consumer.pool.num_processes or consumer.controller.concurrency)

        def open_slots() -> int:
            # A process of the pool that has not started yet would let a message wait that another worker could run.
            started = getattr(getattr(consumer.pool, "_pool", None), "_all_inqueues", None)
            return slots() if started is None else len(started)

        def free_slots() -> int:
            return max(0, open_slots() - len(reserved_requests))

        def show() -> None:
            nonlocal complete
            complete = complete or open_slots() >= slots()
            if complete:
                holder.table.consume(queue.name for queue in consumer.task_consumer.queues)
            free = free_slots() if channel.qos.can_consume() else 0
            holder.table.turned(busy=len(active_requests), free_slots=free)

        channel.on_turn = show

        def claim_limit() -> int | None:
            if not PACE.is_short(active_requests):
                return free_slots()
            # Several at a time: one round trip for each would cost more than the tasks.
            open_now = open_slots()
            prefetch = open_now * int(consumer.prefetch_multiplier)
            return 0 if not open_now or len(reserved_requests) > max(open_now, prefetch // 2) else None

        channel.claim_limit = claim_limit
        holder.gathers = consumer.hub is not None
        if consumer.hub is not None:
            self._timer = consumer.hub.call_repeatedly(LONG_SECONDS, _return_waiting, consumer)
            receiver = self._signals = self._signals or _receive_signals()
            consumer.hub.add_reader(receiver, lambda: receiver.recv(4096))

    def stop(self, consumer: Any) -> None:  # noqa: ANN401
        """Return what waits in this worker; what runs stays leased until it ends."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        channel.on_turn = channel.claim_limit = None
        if self._timer is not None:
            self._timer.cancel()
        holder = channel.holder
        holder.table.consume([])
        holder.gathers = False
        holder.flush()
        if consumer.controller.semaphore:
            consumer.controller.semaphore.clear()
        channel.qos.restore_unacked()


def _return_waiting(consumer: Any) -> None:  # noqa: ANN401
    """Return what waits for a slot while a task runs for long: another worker may have one."""
    semaphore = consumer.controller.semaphore
    if not (semaphore and semaphore._waiting and has_long(active_requests)):  # noqa: SLF001 - it offers no other way
        return
    waiting = [arguments[0] for _, arguments, _ in semaphore._waiting]  # noqa: SLF001
    semaphore._waiting.clear()  # noqa: SLF001
    for request in waiting:
        reserved_requests.discard(request)
        requests.pop(request.id, None)
    consumer.task_consumer.channel.return_waiting([request.message.delivery_tag for request in waiting])


def _receive_signals() -> socket.socket:
    """What lets a signal end the event loop's wait, which Python would go on with after the handler."""
    receiver, sender = socket.socketpair()
    receiver.settimeout(0)
    sender.settimeout(0)
    signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)
    return receiver
