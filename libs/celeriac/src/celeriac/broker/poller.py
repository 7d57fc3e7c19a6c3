"""How a consuming thread hears of its channels, with an event loop or without one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from kombu.transport import redis as kombu_redis


class Poller(kombu_redis.MultiChannelPoller):
    """kombu's poller, which never leaves an answer unread and can be woken by another thread."""

    def __init__(self) -> None:
        super().__init__()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.settimeout(0)
        self._wake_sender.settimeout(0)
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """End a wait for events in another thread."""
        if self._thread is not None and self._thread is not threading.current_thread():
            try:
                self._wake_sender.send(b"x")
            except BlockingIOError:
                pass  # enough bytes are on the way
            except OSError:
                pass  # closed

    def get(self, callback: Callable[..., Any], timeout: float | None = None) -> Any:  # noqa: ANN401
        """Wait for one event and handle it."""
        self._thread = threading.current_thread()
        self.poller.register(self._wake_receiver, self.eventflags)
        try:
            return super().get(callback, timeout)
        finally:
            self._thread = None

    def handle_event(self, fileno: int, event: int) -> Any:  # noqa: ANN401
        """Handle what was heard of one connection."""
        if fileno == self._wake_receiver.fileno():
            try:
                while self._wake_receiver.recv(4096):
                    pass
            except BlockingIOError:
                pass
            return None
        return super().handle_event(fileno, event)

    def on_readable(self, fileno: int) -> Any:  # noqa: ANN401
        """Read an answer. Claimed messages are delivered even when credit has gone meanwhile: they are leased."""
        channel, type_ = self._fd_to_chan.get(fileno, (None, None))
        if type_ == "BRPOP" and channel is not None and channel._in_poll:  # noqa: SLF001
            return channel.handlers[type_]()
        return super().on_readable(fileno)

    def on_poll_start(self) -> None:
        """Send what has gathered, and ask for more."""
        for channel in self._channels:
            if channel.on_turn is not None:
                channel.on_turn()
        # A claim takes acknowledgements along; what is left goes by itself.
        super().on_poll_start()
        for channel in self._channels:
            if "holder" in vars(channel):
                channel.holder.flush()

    def _update_brpop_polling(self) -> None:
        """Nothing: no answer is left unread."""

    def maybe_restore_messages(self) -> None:
        """Nothing: the keeper returns what nobody renews."""

    def on_poll_init(self, poller: Any) -> None:  # noqa: ANN401
        """Use the event loop's poller."""
        self.poller = poller

    def close(self) -> None:
        """Forget all channels."""
        super().close()
        self._wake_receiver.close()
        self._wake_sender.close()
