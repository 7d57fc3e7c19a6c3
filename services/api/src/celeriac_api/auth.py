"""Who may do what: bearer tokens with scopes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Thread
from typing import Final, Self

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from celeriac.access import Scope, Token, token_hash
from celeriac.access.tokens import BOOTSTRAP
from celeriac.errors import CeleriacError, ConfigurationError, Unavailable
from celeriac.platform import CeleriacApp
from celeriac_api.problems import error_response

log = structlog.get_logger(__name__)

#: A token that the database had so long ago is honoured without asking again: when a revoked one stops at the latest.
CACHE_SECONDS: Final = 60
#: When the copy is renewed while the old one still serves, so that no request waits and a short outage harms none.
REFRESH_SECONDS: Final = 30
#: The least time from one reading to the next, however many unknown tokens come.
PAUSE_SECONDS: Final = 1
#: How long a request waits for a reading; connecting to PostgreSQL is given up after 5 s.
PATIENCE_SECONDS: Final = 6

#: What is for administrators though it does not lie below `/admin`: it reaches the tasks of all tokens at once.
ADMINISTRATIVE: Final = frozenset({("POST", "/tasks/cancel")})

_UNCHECKED = "this token cannot be checked, for the database cannot be reached; try again later"


class Unauthorized(CeleriacError):
    """The request has no token, or none that is known."""

    status = 401
    title = "Unauthorized"
    code = "unauthorized"
    way_out = "Send `Authorization: Bearer <token>` with a token that has been neither revoked nor expired."


class Forbidden(CeleriacError):
    """The token is known, and has not the scope that the request needs."""

    status = 403
    title = "Forbidden"
    code = "forbidden"
    way_out = "Use a token with the scope that the detail names; `celeriac tokens create` makes one."


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The tokens as the database had them at one moment."""

    tokens: Mapping[str, Token]
    #: When the reading began, by `time.monotonic`.
    read_at: float


class Authenticator:
    """Knows tokens by their hashes, from a copy in memory of those in the database.

    A token in a copy younger than `CACHE_SECONDS` costs a look into a dict. One that is not makes the database be read
    once more, by one thread and at most once in `PAUSE_SECONDS` for all requests together, so that nobody loads the
    database or fills memory by guessing. A reading takes all tokens: about 10 ms for a thousand of them, which is
    what people make, and too long for a hundred thousand, which programs might.

    Args:
        always: tokens that are known without the database, by their hashes.
        read: reads all others by their hashes, in a thread; raises `Unavailable` when it cannot.
    """

    def __init__(self, always: Mapping[str, Token], read: Callable[[], Mapping[str, Token]]) -> None:
        self._always = dict(always)
        self._read = read
        self._snapshot = _Snapshot({}, -math.inf)
        self._begun_at = -math.inf
        self._reading: Future[None] = Future()
        self._reading.set_result(None)

    @classmethod
    def from_app(cls, app: CeleriacApp) -> Self:
        """Know the bootstrap token, which has all scopes, and those in the platform's database.

        Raises:
            ConfigurationError: there is no bootstrap token: an API that everyone may use is never meant.
        """
        given = app.settings.api_token
        if given is None or not given.get_secret_value():
            msg = "CELERIAC_API_TOKEN: not set; give the API a long random token, such as `openssl rand -hex 32` makes"
            raise ConfigurationError(msg)
        return cls({token_hash(given.get_secret_value()): Token(BOOTSTRAP, frozenset(Scope))}, app.tokens.all)

    async def token(self, secret: str) -> Token | None:
        """The token of a secret; None where there is none.

        Raises:
            Unavailable: the database is away and the secret is not known without it.
        """
        key, asked_at = token_hash(secret), time.monotonic()
        if (found := self._always.get(key)) is not None:
            return found
        while True:
            snapshot = self._snapshot
            age = asked_at - snapshot.read_at
            found = snapshot.tokens.get(key)
            if found is not None and age < CACHE_SECONDS:
                if age > REFRESH_SECONDS and self._reading.done() and self._pause() <= 0:
                    self._begin()
                return found
            # One that had begun before the question may have missed a token that was made in between.
            if snapshot.read_at >= asked_at:
                return None
            await self._next_reading(asked_at)

    async def _next_reading(self, asked_at: float) -> None:
        """Wait until a reading has ended, or until one may begin."""
        reading = self._reading
        if reading.done():
            if self._begun_at >= asked_at:
                raise Unavailable(_UNCHECKED)  # it has failed
            if (pause := self._pause()) > 0:
                await asyncio.sleep(pause)
                return  # another request may have begun meanwhile
            reading = self._begin()
        await asyncio.wait({asyncio.wrap_future(reading)}, timeout=asked_at + PATIENCE_SECONDS - time.monotonic())
        if not reading.done():
            raise Unavailable(_UNCHECKED)

    def _pause(self) -> float:
        return self._begun_at + PAUSE_SECONDS - time.monotonic()

    def _begin(self) -> Future[None]:
        self._begun_at = time.monotonic()
        self._reading = Future()
        # A thread of its own, which ends with the process even while the database does not answer.
        Thread(target=self._refresh, args=(self._reading, self._begun_at), name="tokens", daemon=True).start()
        return self._reading

    def _refresh(self, reading: Future[None], begun_at: float) -> None:
        try:
            self._snapshot = _Snapshot(self._read(), begun_at)
        except Unavailable as error:
            log.warning("tokens_unreadable", error=str(error))
        finally:
            reading.set_result(None)


def is_administrative(method: str, path: str) -> bool:
    """Whether a request is for administrators."""
    return path == "/admin" or path.startswith("/admin/") or (method, path) in ADMINISTRATIVE


def needed_scope(method: str, path: str) -> Scope:
    """The scope that a request needs."""
    if is_administrative(method, path):
        return Scope.ADMIN
    return Scope.READ if method in {"GET", "HEAD"} else Scope.SUBMIT


class Guard:
    """ASGI middleware that lets a request pass whose token has the scope, and names the token in `scope["state"]`.

    That is `admin` for everything below `/admin` and what is `ADMINISTRATIVE`; elsewhere `read` to look, and `submit`
    for all else. What comes after finds the `Token` as `request.state.token`; what goes on for long asks
    `request.state.guard` again.

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
        """Pass a request on, or answer 401, 403, or 503 where the database is away and the token is not known."""
        if scope["type"] == "http" and not self._is_open(scope["path"]):
            try:
                token = await self._check(scope)
            except (Unauthorized, Forbidden, Unavailable) as error:
                await error_response(error)(scope, receive, send)
                return
            scope.setdefault("state", {}).update(token=token, guard=self)
        await self._app(scope, receive, send)

    async def is_welcome(self, scope: ASGIScope) -> bool:
        """Whether the token of a request that goes on for long would still let it pass."""
        try:
            await self._check(scope)
        except (Unauthorized, Forbidden):
            return False
        except Unavailable:
            return True  # nobody can say that it has been revoked
        return True

    async def _check(self, scope: ASGIScope) -> Token:
        scheme, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            msg = "send the header `Authorization: Bearer <token>`"
            raise Unauthorized(msg)
        token = await self._authenticator.token(secret.strip())
        if token is None:
            msg = "this token is not known; `celeriac env` shows the one of a platform on this machine"
            raise Unauthorized(msg)
        if token.expires_at is not None and token.expires_at <= datetime.now(UTC):
            msg = f"this token expired at {token.expires_at.isoformat(timespec='seconds')}; ask for another"
            raise Unauthorized(msg)
        needed = needed_scope(scope["method"], scope["path"])
        if needed not in token.scopes:
            msg = f"this needs a token with scope {needed.value}; yours has {', '.join(sorted(token.scopes)) or 'none'}"
            raise Forbidden(msg)
        return token
