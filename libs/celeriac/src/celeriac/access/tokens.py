"""API tokens: random secrets of which the database holds SHA-256 hashes, each with a name and scopes.

A plain hash is enough, and cheap enough for every request: a token has 256 random bits, so nobody finds it by trying.
A token that is revoked is deleted, and its name is free again; the audit log remembers both.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import structlog
from sqlalchemy import String, delete, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Mapped, Session, mapped_column

from celeriac.access.audit import Act, add
from celeriac.database import Base, Database, Json, UtcDateTime
from celeriac.errors import Conflict, InvalidInput, NotFound, Unavailable
from celeriac.rate import Rate

log = structlog.get_logger(__name__)

#: What tokens start with, so that people and scanners for leaked secrets know one when they see it.
PREFIX = "cel_"

#: The name under which the token of the settings acts; it is in no database.
BOOTSTRAP = "bootstrap"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Scope(StrEnum):
    """What a token allows."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


_SCOPES = {scope.value: scope for scope in Scope}


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is known: all but its secret."""

    name: str
    scopes: frozenset[Scope]
    #: When it was made; None for the bootstrap token.
    created_at: datetime | None = None
    #: When it stops working; None for never.
    expires_at: datetime | None = None
    #: How often it may submit tasks; None for no limit.
    rate: Rate | None = None


class StoredToken(Base):
    """A token in the database."""

    __tablename__ = "celeriac_token"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    rate: Mapped[str | None] = mapped_column(String(20))


class Tokens:
    """The table `celeriac_token`.

    Args:
        database: one whose migrations have run.
        rate: how often tokens may submit that have no rate of their own, such as `100/s`; None for no limit.
    """

    def __init__(self, database: Database, rate: str | None = None) -> None:
        self._database = database
        self._rate = rate

    def create(
        self,
        name: str,
        scopes: Iterable[Scope],
        *,
        by: str,
        client: str,
        expires_at: datetime | None = None,
        rate: Rate | None = None,
    ) -> str:
        """Make a token.

        Args:
            name: its name: letters, digits, `.`, `_` and `-`, at most 100.
            scopes: what it allows.
            by: who makes it, for the audit log.
            client: from where, for the audit log.
            expires_at: when it stops working; None for never.
            rate: how often it may submit tasks; None for what tokens may that have no rate of their own.

        Returns:
            The secret, which nobody can read again.

        Raises:
            InvalidInput: the name cannot be one, or there are no scopes.
            Conflict: there is a token of that name.
            Unavailable: the database is away, or its migrations have not run.
        """
        if not _NAME.fullmatch(name) or name == BOOTSTRAP:
            reason = f"letters, digits, '.', '_' and '-', a letter or digit first, at most 100, and not {BOOTSTRAP!r}"
            raise InvalidInput("name", name, reason)
        granted = sorted({scope.value for scope in scopes})
        if not granted:
            raise InvalidInput("scopes", granted, f"at least one of {', '.join(Scope)}")
        secret = PREFIX + secrets.token_urlsafe(32)
        expires = expires_at.isoformat() if expires_at else None
        limit = str(rate) if rate else None
        act = Act(by, "tokens create", name, {"scopes": granted, "expires_at": expires, "rate": limit}, None, client)
        try:
            with self._change(act) as session:
                session.add(
                    StoredToken(
                        name=name,
                        hash=token_hash(secret),
                        scopes=granted,
                        created_at=datetime.now(UTC),
                        expires_at=expires_at,
                        rate=limit,
                    )
                )
        except IntegrityError:
            msg = f"there is a token {name!r} already; revoke it first, or take another name"
            raise Conflict(msg) from None
        return secret

    def revoke(self, name: str, *, by: str, client: str) -> None:
        """Delete a token; processes that have read it honour it for up to a minute more.

        Args:
            name: its name.
            by: who revokes it, for the audit log.
            client: from where, for the audit log.

        Raises:
            NotFound: there is no token of that name.
            Unavailable: the database is away, or its migrations have not run.
        """
        with self._change(Act(by, "tokens revoke", name, {}, None, client)) as session:
            if not session.scalar(delete(StoredToken).where(StoredToken.name == name).returning(StoredToken.name)):
                raise NotFound("token", name, "`celeriac tokens list` shows all")

    def all(self) -> Mapping[str, Token]:
        """Read all tokens by their hashes, in the order of their names, those that have expired among them.

        Raises:
            Unavailable: the database is away, or its migrations have not run.
        """
        columns = (
            StoredToken.hash,
            StoredToken.name,
            StoredToken.scopes,
            StoredToken.created_at,
            StoredToken.expires_at,
            StoredToken.rate,
        )
        with _translated(), self._database.read() as session:
            found = session.execute(select(*columns).order_by(StoredToken.name)).all()
        return {
            row.hash: Token(row.name, _scopes(row.scopes), row.created_at, row.expires_at, self._rate_of(row.rate))
            for row in found
        }

    def _rate_of(self, own: str | None) -> Rate | None:
        text = own or self._rate
        return Rate.parse(text) if text else None

    @contextmanager
    def _change(self, act: Act) -> Iterator[Session]:
        """A transaction that holds an act and its row in the audit log: both are there, or neither."""
        with _translated(), self._database.write() as session:
            yield session
            add(session, act)
        log.info("audit", who=act.who, what=act.what, target=act.target, parameters=act.parameters, client=act.client)


def token_hash(secret: str) -> str:
    """What is kept of a token: its SHA-256 in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _scopes(values: Iterable[str]) -> frozenset[Scope]:
    # One that a newer release has given allows nothing here.
    return frozenset(_SCOPES[value] for value in values if value in _SCOPES)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        msg = f"tokens cannot be read or changed, for the database is away or `celeriac migrate` has not run: {reason}"
        raise Unavailable(msg) from error
