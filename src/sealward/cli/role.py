"""`sealward role`: which kinds of acts somebody may do."""

from __future__ import annotations

import click

from sealward.cli.admin import AdminApi, admin_verb, segment
from sealward.cli.output import Output


@click.group()
def role() -> None:
    """Roles: model-admin, operator, consumer, auditor."""


@role.command("list")
@admin_verb
def list_(api: AdminApi, out: Output) -> None:
    """Each role with its actions and who was given it."""
    out.table(api.get("roles"), ("id", "subjects", "groups", "actions"))


@role.command()
@click.argument("role_id", metavar="ROLE")
@click.argument("subject")
@admin_verb
def assign(api: AdminApi, out: Output, role_id: str, subject: str) -> None:
    """Give ROLE to SUBJECT."""
    out.data(api.post(f"roles/{segment(role_id)}/subjects", {"subject": subject}), f"{subject} has the role {role_id}")


@role.command()
@click.argument("role_id", metavar="ROLE")
@click.argument("subject")
@admin_verb
def remove(api: AdminApi, out: Output, role_id: str, subject: str) -> None:
    """Take ROLE from SUBJECT."""
    out.data(api.delete(f"roles/{segment(role_id)}/subjects/{segment(subject)}"), f"{subject} no longer has the role {role_id}")
