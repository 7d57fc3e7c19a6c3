"""The tables of the workload: files, their syncs, the rows they hold and the rows they were refused.

Row tables have no foreign key to the file: checking one for every row of a bulk write would cost more than the write.
Nothing deletes files, so the reference holds all the same.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Enum, ForeignKey, Integer, Numeric, String, Text, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from celeriac.database import Base, Json, UtcDateTime
from workloads.data_sync.contract import FileStatus

#: SQLite counts up only a column of its own type INTEGER.
_Ident = BigInteger().with_variant(Integer(), "sqlite")


class Money(TypeDecorator[Decimal]):
    """An exact amount with four decimals: NUMERIC(18, 4) on PostgreSQL, the same digits as text on SQLite."""

    impl = Numeric(18, 4)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Use text where the database's own numbers are binary floats."""
        return dialect.type_descriptor(String(20) if dialect.name == "sqlite" else Numeric(18, 4))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:  # noqa: ANN401
        """Write all four decimals, so that equal amounts are equal texts."""
        return f"{value:.4f}" if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ANN401, ARG002
        """Give back the exact amount."""
        return None if value is None else Decimal(value)


def _now() -> datetime:
    return datetime.now(UTC)


class DataFile(Base):
    """An uploaded file, and what its newest sync did."""

    __tablename__ = "data_sync_file"

    id: Mapped[int] = mapped_column(_Ident, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(Text)
    platform: Mapped[str] = mapped_column(String(32), index=True)
    #: The columns that identify a row, as named at upload; null for the platform's own.
    key_columns: Mapped[list[str] | None] = mapped_column(Json)
    storage_key: Mapped[str] = mapped_column(String(255), unique=True)
    #: Bytes.
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    #: Newlines in the file, for progress; null for a workbook.
    lines: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[FileStatus] = mapped_column(
        Enum(FileStatus, native_enum=False, length=16, values_callable=lambda states: [str(state) for state in states]),
        default=FileStatus.REGISTERED,
    )
    rows: Mapped[int] = mapped_column(BigInteger, default=0)
    inserted: Mapped[int] = mapped_column(BigInteger, default=0)
    updated: Mapped[int] = mapped_column(BigInteger, default=0)
    unchanged: Mapped[int] = mapped_column(BigInteger, default=0)
    rejected: Mapped[int] = mapped_column(BigInteger, default=0)
    last_task_id: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=_now)
    synced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(Text)


class SyncRun(Base):
    """One task's work on a file: how far it got, and which execution of the task may go on with it."""

    __tablename__ = "data_sync_run"

    task_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    file_id: Mapped[int] = mapped_column(_Ident, ForeignKey("data_sync_file.id"), index=True)
    #: A fresh random text of each execution; a batch is committed only by the newest one.
    execution: Mapped[str] = mapped_column(String(36))
    #: Physical lines, or sheet rows, whose records are committed.
    position: Mapped[int] = mapped_column(BigInteger, default=0)
    rows: Mapped[int] = mapped_column(BigInteger, default=0)
    inserted: Mapped[int] = mapped_column(BigInteger, default=0)
    updated: Mapped[int] = mapped_column(BigInteger, default=0)
    unchanged: Mapped[int] = mapped_column(BigInteger, default=0)
    rejected: Mapped[int] = mapped_column(BigInteger, default=0)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, default=_now)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class GenericRow(Base):
    """A row of a file of any shape; every value is text."""

    __tablename__ = "data_sync_generic_row"

    #: A digest of the column names and key columns: unrelated files never overwrite one another.
    dataset: Mapped[str] = mapped_column(String(16), primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    data: Mapped[dict[str, str]] = mapped_column(Json)
    file_id: Mapped[int] = mapped_column(BigInteger, index=True)
    line: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ShopeeOrderItem(Base):
    """One product of a Shopee order, as the seller centre exports it."""

    __tablename__ = "data_sync_shopee_order_item"

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    order_sn: Mapped[str] = mapped_column(Text, index=True)
    status: Mapped[str | None] = mapped_column(Text)
    cancel_reason: Mapped[str | None] = mapped_column(Text)
    order_created_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    paid_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    shipped_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ship_by: Mapped[datetime | None] = mapped_column(UtcDateTime)
    parent_sku: Mapped[str | None] = mapped_column(Text)
    sku: Mapped[str | None] = mapped_column(Text)
    product_name: Mapped[str | None] = mapped_column(Text)
    variation_name: Mapped[str | None] = mapped_column(Text)
    quantity: Mapped[int | None] = mapped_column(Integer)
    returned_quantity: Mapped[int | None] = mapped_column(Integer)
    original_price: Mapped[Decimal | None] = mapped_column(Money)
    deal_price: Mapped[Decimal | None] = mapped_column(Money)
    product_subtotal: Mapped[Decimal | None] = mapped_column(Money)
    shipping_fee: Mapped[Decimal | None] = mapped_column(Money)
    total_amount: Mapped[Decimal | None] = mapped_column(Money)
    payment_method: Mapped[str | None] = mapped_column(Text)
    shipping_option: Mapped[str | None] = mapped_column(Text)
    tracking_number: Mapped[str | None] = mapped_column(Text)
    buyer_username: Mapped[str | None] = mapped_column(Text)
    buyer_message: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    #: The columns that have no place of their own, by the names of the file.
    extra: Mapped[dict[str, str]] = mapped_column(Json)
    file_id: Mapped[int] = mapped_column(BigInteger, index=True)
    line: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RejectedRow(Base):
    """A record that the newest sync of its file refused, and why."""

    __tablename__ = "data_sync_rejected_row"

    file_id: Mapped[int] = mapped_column(_Ident, ForeignKey("data_sync_file.id"), primary_key=True, autoincrement=False)
    line: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    column: Mapped[str | None] = mapped_column(Text)
    #: At most 500 characters; bytes that are no text are written `\\xNN`.
    value: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
