"""How often each API token may submit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "celeriac_0003"
down_revision = "celeriac_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; the tokens that there are have no rate of their own."""
    op.add_column("celeriac_token", sa.Column("rate", sa.String(20), nullable=True))


def downgrade() -> None:
    """Drop the column; nobody is limited any more."""
    with op.batch_alter_table("celeriac_token") as table:
        table.drop_column("rate")
