"""API tokens, and the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from celeriac.database import Json, UtcDateTime

revision = "celeriac_0002"
down_revision = "celeriac_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "celeriac_token",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("scopes", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_celeriac_token"),
        sa.UniqueConstraint("hash", name="uq_celeriac_token_hash"),
    )
    op.create_table(
        "celeriac_audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("who", sa.String(100), nullable=False),
        sa.Column("what", sa.String(300), nullable=False),
        sa.Column("target", sa.String(500), nullable=False),
        sa.Column("parameters", Json, nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("client", sa.String(100), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_celeriac_audit"),
    )
    op.create_index("ix_celeriac_audit_at", "celeriac_audit", ["at"])


def downgrade() -> None:
    """Drop the tables, all tokens and all records of acts with them."""
    op.drop_table("celeriac_audit")
    op.drop_table("celeriac_token")
