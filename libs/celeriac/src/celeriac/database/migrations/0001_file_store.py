"""The file store `db:`: objects and their chunks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from celeriac.database import UtcDateTime

revision = "celeriac_0001"
down_revision = None
branch_labels = ("celeriac",)
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "celeriac_file",
        sa.Column("key", sa.String(512), nullable=False),
        sa.Column("upload_id", sa.Uuid(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_celeriac_file"),
        sa.UniqueConstraint("upload_id", name="uq_celeriac_file_upload_id"),
    )
    op.create_table(
        "celeriac_file_chunk",
        sa.Column("upload_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("upload_id", "number", name="pk_celeriac_file_chunk"),
    )
    op.create_index("ix_celeriac_file_chunk_created_at_upload_id", "celeriac_file_chunk", ["created_at", "upload_id"])


def downgrade() -> None:
    """Drop the tables, and every file in them."""
    op.drop_table("celeriac_file_chunk")
    op.drop_table("celeriac_file")
