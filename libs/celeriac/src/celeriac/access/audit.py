"""The audit log: a row and a line in the log for each administrative act.

An act is done whether or not its row can be written: while the database is away the line in the log, a warning then,
is all that is left of it. Secrets must be taken out before an act comes here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import BigInteger, Integer, String, delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, Session, mapped_column

from celeriac.database import Base, Database, Json, UtcDateTime

log = structlog.get_logger(__name__)

#: How often a process looks for rows that are too old, seconds.
PRUNE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Act:
    """Something that was done to the platform."""

    #: The name of the token, or `cli:<user>`.
    who: str
    #: Method and route, or the command.
    what: str
    #: What it was done to: the path that was asked for, or the name of a token.
    target: str
    #: What it was done with; JSON without secrets.
    parameters: dict[str, Any]
    #: The HTTP status of its answer; None where it was no request.
    status: int | None
    #: The address, or the host, that it came from.
    client: str


class Audited(Base):
    """An act that was recorded."""

    __tablename__ = "celeriac_audit"

    # SQLite numbers rows by itself only where their key is of exactly this type.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    who: Mapped[str] = mapped_column(String(100))
    what: Mapped[str] = mapped_column(String(300))
    target: Mapped[str] = mapped_column(String(500))
    parameters: Mapped[dict[str, Any]] = mapped_column(Json)
    status: Mapped[int | None]
    client: Mapped[str] = mapped_column(String(100))


class AuditLog:
    """The table `celeriac_audit`.

    Args:
        database: one whose migrations have run.
        retention_days: older rows are removed, about once an hour by a process that writes.
    """

    def __init__(self, database: Database, retention_days: float) -> None:
        self._database = database
        self._retention = timedelta(days=retention_days)
        self._prune_at = time.monotonic()

    def record(self, act: Act) -> None:
        """Log an act and write its row; a database that is away is logged, not raised."""
        try:
            with self._database.write() as session:
                self._prune(session)
                add(session, act)
        except SQLAlchemyError as error:
            log.warning("audit_unrecorded", **_described(act), error=str(getattr(error, "orig", None) or error).strip())
        else:
            log.info("audit", **_described(act))

    def page(self, *, limit: int, before: int | None = None) -> Sequence[Audited]:
        """Read acts, the newest first.

        Args:
            limit: how many at most.
            before: only those older than the act of this id.

        Raises:
            SQLAlchemyError: the database is away.
        """
        query = select(Audited).order_by(Audited.id.desc()).limit(limit)
        if before is not None:
            query = query.where(Audited.id < before)
        with self._database.read() as session:
            return session.scalars(query).all()

    def _prune(self, session: Session) -> None:
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_SECONDS
            session.execute(delete(Audited).where(Audited.at < datetime.now(UTC) - self._retention))


def add(session: Session, act: Act) -> None:
    """Write an act's row in the transaction that does the act itself, where there is one."""
    session.add(
        Audited(
            at=datetime.now(UTC),
            who=act.who[:100],
            what=act.what[:300],
            target=act.target[:500],
            parameters=act.parameters,
            status=act.status,
            client=act.client[:100],
        )
    )


def _described(act: Act) -> dict[str, Any]:
    return {
        "who": act.who,
        "what": act.what,
        "target": act.target,
        "parameters": act.parameters,
        "status": act.status,
        "client": act.client,
    }
