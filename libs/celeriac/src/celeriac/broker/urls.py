"""One Redis URL for people, as the two that kombu and Celery want."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from celeriac.errors import ConfigurationError


def broker_url(redis_url: str) -> str:
    """The broker URL for kombu: the same server through Celeriac's transport."""
    scheme, rest = _split(redis_url)
    if scheme == "unix":
        return f"celeriac+socket://{_socket(rest)}"
    return f"celeriac://{rest}"


def backend_url(redis_url: str) -> str:
    """The URL of the result backend for Celery."""
    scheme, rest = _split(redis_url)
    backend = "celeriac.results.backend:Backend"
    if scheme == "unix":
        return f"{backend}+socket://{_socket(rest)}"
    return f"{backend}+{scheme}://{rest}"


def uses_tls(redis_url: str) -> bool:
    """Whether the server is spoken to through TLS."""
    return redis_url.startswith("rediss://")


def _split(redis_url: str) -> tuple[str, str]:
    scheme, _, rest = redis_url.partition("://")
    if scheme not in {"redis", "rediss", "unix"}:
        msg = f"REDIS_URL: scheme {scheme!r} is not supported; use redis://, rediss:// or unix:///path/to/socket"
        raise ConfigurationError(msg)
    return scheme, rest


def _socket(rest: str) -> str:
    parts = urlsplit(f"unix://{rest}")
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"{parts.path}?virtual_host={database}"
