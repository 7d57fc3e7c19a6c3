"""The broker: Celeriac's kombu transport for Redis and Valkey.

Importing this package makes the scheme `celeriac://` known to kombu. Guarantees: ready messages are plain lists in
kombu's own encoding, `<queue>` for the default priority 5 and `<queue>:<priority>` for the others, 9 first; the
messages of a worker that was killed come back to their queue `VISIBILITY_SECONDS` after its last renewal, while those
of a living one never do, however long they run.
"""

from kombu.transport import TRANSPORT_ALIASES

from celeriac.broker.keys import DEFAULT_PRIORITY, MAX_PRIORITY, ready_keys
from celeriac.broker.urls import backend_url, broker_url

#: The scheme of broker URLs; kombu looks transports up by it.
SCHEME = "celeriac"

TRANSPORT_ALIASES[SCHEME] = "celeriac.broker.transport:Transport"

#: How long a message stays with a worker that has stopped renewing, seconds.
VISIBILITY_SECONDS = 10

TRANSPORT_OPTIONS = {
    "priority_steps": list(range(MAX_PRIORITY + 1)),
    "visibility_timeout": VISIBILITY_SECONDS,
    # kombu's own default looks for lost messages every 100 s.
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 25,
}

__all__ = [
    "DEFAULT_PRIORITY",
    "MAX_PRIORITY",
    "SCHEME",
    "TRANSPORT_OPTIONS",
    "VISIBILITY_SECONDS",
    "backend_url",
    "broker_url",
    "ready_keys",
]
