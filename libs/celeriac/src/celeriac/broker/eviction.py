"""A Redis that may drop keys when it is full drops messages."""

from __future__ import annotations

from redis import Redis
from redis.exceptions import RedisError

from celeriac.errors import ConfigurationError


def eviction_problem(client: Redis) -> str | None:
    """What is wrong with the server's eviction policy; None for nothing.

    Raises:
        RedisError: Redis cannot be reached.
    """
    policy = str(client.info("memory").get("maxmemory_policy", ""))
    if not policy.startswith("allkeys"):
        return None
    return f"Redis has maxmemory-policy {policy}, which may drop messages when memory is full; set it to noeviction"


def refuse_eviction(client: Redis) -> None:
    """Refuse a server that may drop messages; one that is away is looked at by the keeper, when it is back.

    Raises:
        ConfigurationError: it may.
    """
    try:
        problem = eviction_problem(client)
    except (RedisError, OSError):
        return
    if problem:
        raise ConfigurationError(problem)
