# ruff: noqa: INP001 - Alembic loads it by its path, it is no module of a package
"""Alembic's entry: the connection is given by state.py, nothing is read from files."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
