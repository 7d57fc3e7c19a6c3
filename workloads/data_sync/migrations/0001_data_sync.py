"""The tables of data_sync."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "data_sync_0001"
down_revision = None
branch_labels = ("data_sync",)
depends_on = None

_IDENT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_MOMENT = sa.DateTime(timezone=True)
_MONEY = sa.Numeric(18, 4).with_variant(sa.String(20), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "data_sync_file",
        sa.Column("id", _IDENT, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("key_columns", _JSON, nullable=True),
        sa.Column("storage_key", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("inserted", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("unchanged", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("last_task_id", sa.String(length=255), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("synced_at", _MOMENT, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_sync_file")),
        sa.UniqueConstraint("storage_key", name=op.f("uq_data_sync_file_storage_key")),
    )
    op.create_index(op.f("ix_data_sync_file_platform"), "data_sync_file", ["platform"], unique=False)
    op.create_table(
        "data_sync_generic_row",
        sa.Column("dataset", sa.String(length=16), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("data", _JSON, nullable=False),
        sa.Column("file_id", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("dataset", "key", name=op.f("pk_data_sync_generic_row")),
    )
    op.create_index(op.f("ix_data_sync_generic_row_file_id"), "data_sync_generic_row", ["file_id"], unique=False)
    op.create_table(
        "data_sync_shopee_order_item",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("order_sn", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column("order_created_at", _MOMENT, nullable=True),
        sa.Column("paid_at", _MOMENT, nullable=True),
        sa.Column("shipped_at", _MOMENT, nullable=True),
        sa.Column("completed_at", _MOMENT, nullable=True),
        sa.Column("ship_by", _MOMENT, nullable=True),
        sa.Column("parent_sku", sa.Text(), nullable=True),
        sa.Column("sku", sa.Text(), nullable=True),
        sa.Column("product_name", sa.Text(), nullable=True),
        sa.Column("variation_name", sa.Text(), nullable=True),
        sa.Column("quantity", sa.Integer(), nullable=True),
        sa.Column("returned_quantity", sa.Integer(), nullable=True),
        sa.Column("original_price", _MONEY, nullable=True),
        sa.Column("deal_price", _MONEY, nullable=True),
        sa.Column("product_subtotal", _MONEY, nullable=True),
        sa.Column("shipping_fee", _MONEY, nullable=True),
        sa.Column("total_amount", _MONEY, nullable=True),
        sa.Column("payment_method", sa.Text(), nullable=True),
        sa.Column("shipping_option", sa.Text(), nullable=True),
        sa.Column("tracking_number", sa.Text(), nullable=True),
        sa.Column("buyer_username", sa.Text(), nullable=True),
        sa.Column("buyer_message", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("extra", _JSON, nullable=False),
        sa.Column("file_id", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_data_sync_shopee_order_item")),
    )
    op.create_index(
        op.f("ix_data_sync_shopee_order_item_file_id"), "data_sync_shopee_order_item", ["file_id"], unique=False
    )
    op.create_index(
        op.f("ix_data_sync_shopee_order_item_order_sn"), "data_sync_shopee_order_item", ["order_sn"], unique=False
    )
    op.create_table(
        "data_sync_rejected_row",
        sa.Column("file_id", _IDENT, autoincrement=False, nullable=False),
        sa.Column("line", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("column", sa.Text(), nullable=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["file_id"], ["data_sync_file.id"], name=op.f("fk_data_sync_rejected_row_file_id_data_sync_file")
        ),
        sa.PrimaryKeyConstraint("file_id", "line", name=op.f("pk_data_sync_rejected_row")),
    )
    op.create_table(
        "data_sync_run",
        sa.Column("task_id", sa.String(length=255), nullable=False),
        sa.Column("file_id", _IDENT, nullable=False),
        sa.Column("execution", sa.String(length=36), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("inserted", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("unchanged", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["file_id"], ["data_sync_file.id"], name=op.f("fk_data_sync_run_file_id_data_sync_file")
        ),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_data_sync_run")),
    )
    op.create_index(op.f("ix_data_sync_run_file_id"), "data_sync_run", ["file_id"], unique=False)


def downgrade() -> None:
    """Drop the tables, with all rows that were synced."""
    op.drop_table("data_sync_run")
    op.drop_table("data_sync_rejected_row")
    op.drop_table("data_sync_shopee_order_item")
    op.drop_table("data_sync_generic_row")
    op.drop_table("data_sync_file")
