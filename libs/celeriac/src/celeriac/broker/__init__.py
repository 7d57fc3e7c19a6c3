"""The broker: Celeriac's kombu transport for Redis and Valkey, with leases.

Importing this package makes the scheme `celeriac+redis://` (`celeriac+` before any URL that `connection` names) known
to kombu. It guarantees, to whoever acknowledges late:

- A message is in exactly one place: ready, waiting until it is due, leased, or a dead letter.
- A message of a worker that was killed is back at the head of its queue within 7 s; one of a worker that lives is given
  to nobody else, however long it takes.
- A worker whose lease has ended cannot acknowledge any more: the delivery tag is a fencing token.

It does not guarantee that a task runs once: one that was killed in the middle runs again.
"""

from kombu.transport import TRANSPORT_ALIASES

from celeriac.broker.connection import Endpoint, broker_url, connect
from celeriac.broker.keys import DEFAULT_PRIORITY, MAX_PRIORITY, Keys

#: The scheme of broker URLs; kombu looks transports up by it.
SCHEME = "celeriac"

TRANSPORT_ALIASES[SCHEME] = "celeriac.broker.transport:Transport"

__all__ = [
    "DEFAULT_PRIORITY",
    "MAX_PRIORITY",
    "SCHEME",
    "Endpoint",
    "Keys",
    "broker_url",
    "connect",
]
