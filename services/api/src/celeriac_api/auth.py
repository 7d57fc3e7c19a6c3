"""Who may do what: bearer tokens with scopes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Self

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from celeriac.errors import CeleriacError, ConfigurationError
from celeriac.settings import Settings
from celeriac_api.problems import error_response

#: Says in the OpenAPI document that a route needs a token; `Guard` sees to it.
bearer = HTTPBearer(auto_error=False, description="The token that `celeriac up` prints, or CELERIAC_API_TOKEN.")


class Scope(StrEnum):
    """What a token allows."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


class Unauthorized(CeleriacError):
    """No token, or none that is known."""

    status = 401
    title = "Unauthorized"


class Forbidden(CeleriacError):
    """A known token without the scope that the request needs."""

    status = 403
    title = "Forbidden"


class Authenticator:
    """Knows tokens by their hashes.

    Args:
        tokens: the scopes of each token, by the SHA-256 of the token in hexadecimal.
    """

    def __init__(self, tokens: Mapping[str, frozenset[Scope]]) -> None:
        self._tokens = dict(tokens)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Know the bootstrap token, which has all scopes.

        Raises:
            ConfigurationError: there is none: an API that everyone may use is never meant.
        """
        if settings.api_token is None or not settings.api_token.get_secret_value():
            msg = "CELERIAC_API_TOKEN: not set; give the API a long random token, such as `openssl rand -hex 32` makes"
            raise ConfigurationError(msg)
        return cls({token_hash(settings.api_token.get_secret_value()): frozenset(Scope)})

    def scopes(self, token: str) -> frozenset[Scope] | None:
        """The scopes of a token; None for one that is not known."""
        given = token_hash(token)
        found = None
        for known, scopes in self._tokens.items():  # all of them, in the same time for each answer
            if hmac.compare_digest(known, given):
                found = scopes
        return found


def token_hash(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def needed_scope(method: str, path: str) -> Scope:
    """The scope that a request needs."""
    if path == "/admin" or path.startswith("/admin/"):
        return Scope.ADMIN
    return Scope.READ if method in {"GET", "HEAD"} else Scope.SUBMIT


class Guard:
    """ASGI middleware that lets a request pass whose token has the scope.

    That is `admin` for everything below `/admin`; elsewhere `read` to look, and `submit` for all else.

    It stands before everything that reads a body, so that nobody fills memory or disk without a token.

    Args:
        app: what it guards.
        authenticator: who knows the tokens.
        is_open: says which paths need no token.
    """

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator, is_open: Callable[[str], bool]) -> None:
        self._app = app
        self._authenticator = authenticator
        self._is_open = is_open

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401 or 403."""
        if scope["type"] == "http" and not self._is_open(scope["path"]):
            try:
                self._check(needed_scope(scope["method"], scope["path"]), Headers(scope=scope).get("authorization", ""))
            except (Unauthorized, Forbidden) as error:
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, needed: Scope, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            msg = "send the header `Authorization: Bearer <token>`"
            raise Unauthorized(msg)
        scopes = self._authenticator.scopes(token.strip())
        if scopes is None:
            msg = "this token is not known; `celeriac env` shows the one of a platform on this machine"
            raise Unauthorized(msg)
        if needed not in scopes:
            msg = f"this needs a token with scope {needed.value}; yours has {', '.join(sorted(scopes)) or 'none'}"
            raise Forbidden(msg)
