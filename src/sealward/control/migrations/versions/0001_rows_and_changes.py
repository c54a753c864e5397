# ruff: noqa: INP001 - Alembic loads it by its path, it is no module of a package
"""Rows of the snapshot, and the changes that made them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "rows",
        sa.Column("section", sa.String, primary_key=True),
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )
    op.create_table(
        "changes",
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("status", sa.String, sa.CheckConstraint("status in ('pending', 'applied', 'failed')"), nullable=False),
        sa.Column("bytes", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.String, nullable=False, unique=True),
        sa.Column("event", sa.String, nullable=False),
        sa.Column("intent", sa.Integer),
        sa.Column("epoch", sa.Integer),
        sa.Column("error", sa.String),
    )
