"""kombu's Redis transport, with leases.

Ready messages stay in plain lists in kombu's own encoding. In place of kombu's sets of unacknowledged messages there
are leases, which the process' `Holder` knows: what a lost connection leaves behind is acknowledged by any other.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as kombu_redis

from celeriac.broker.channel import WAIT_SECONDS, Channel
from celeriac.broker.poller import Poller


class Transport(kombu_redis.Transport):
    """What `celeriac+redis://` names."""

    Channel = Channel
    brpop_timeout = WAIT_SECONDS
    driver_name = "celeriac"

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's signature
        super().__init__(*args, **kwargs)
        self.cycle = Poller()

    @property
    def supports_batch_publish(self) -> bool:
        """Never; see `Channel`."""
        return False
