"""Who may do what: bearer tokens with scopes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from celeriac.errors import CeleriacError, ConfigurationError
from celeriac.settings import Settings

_bearer = HTTPBearer(auto_error=False, description="The token that `celeriac up` prints, or CELERIAC_API_TOKEN.")


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


async def authorize(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """Let a request pass whose token has the scope: `read` to look, `submit` for all else.

    Raises:
        Unauthorized: there is no token, or an unknown one.
        Forbidden: its scopes do not suffice.
    """
    if credentials is None:
        msg = "send the header `Authorization: Bearer <token>`"
        raise Unauthorized(msg)
    authenticator: Authenticator = request.app.state.authenticator
    scopes = authenticator.scopes(credentials.credentials)
    if scopes is None:
        msg = "this token is not known; `celeriac env` shows the one of a platform on this machine"
        raise Unauthorized(msg)
    needed = Scope.READ if request.method in {"GET", "HEAD"} else Scope.SUBMIT
    if needed not in scopes:
        msg = f"this needs a token with scope {needed.value}; yours has {', '.join(sorted(scopes)) or 'none'}"
        raise Forbidden(msg)
