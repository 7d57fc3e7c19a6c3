"""`GET /admin/redis` on a real server."""

from __future__ import annotations

from collections.abc import Callable

import redis

from celeriac import CeleriacApp
from celeriac_api.app import create_api
from tests.api import Http


def test_it_shows_version_role_and_memory_and_counts_the_keys_that_expire(
    redis_url: str, sqlite_url: str, make_app: Callable[..., CeleriacApp]
):
    url = redis_url.removesuffix("/0") + "/3"
    app = make_app(redis_url=url, database_url=sqlite_url, api_token="t", workloads=("workloads.examples",))
    http = Http(create_api(app), "t")
    with redis.Redis.from_url(url, decode_responses=True) as client, redis.Redis.from_url(redis_url) as other:
        client.flushdb()
        assert (http.get("/admin/redis").json()["keys"], http.get("/admin/redis").json()["expiring_keys"]) == (0, 0)
        other.set("of another database", 1)
        client.set("for ever", 1)
        client.set("for a while", 1, ex=60)
        info = client.info()
        shown = http.get("/admin/redis").json()
        client.flushdb()
    assert shown["server"] == info.get("server_name", "redis")
    assert shown["version"] == info[f"{shown['server']}_version"]
    assert (shown["role"], shown["append_only"]) == ("master", True)
    assert 0 <= shown["uptime_seconds"] - info["uptime_in_seconds"] <= 1
    assert 0.5 < shown["used_memory_bytes"] / info["used_memory"] < 2
    assert shown["max_memory_bytes"] == info["maxmemory"]
    assert (shown["keys"], shown["expiring_keys"]) == (2, 1)
