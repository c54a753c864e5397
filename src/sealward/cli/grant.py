"""`sealward grant`: who may use which model."""

from __future__ import annotations

from typing import Any

import click

from sealward.cli.admin import AdminApi, admin_verb, segment
from sealward.cli.output import Output


@click.group()
def grant() -> None:
    """Grants of models to subjects, groups and roles."""


@grant.command()
@click.argument("to", metavar="subject:ID|group:ID|role:ID")
@click.argument("model")
@click.option("--action", "actions", multiple=True, help="model:chat or model:list (default: both).")
@click.option("--until", type=click.DateTime(), help="When it ends (UTC).")
@admin_verb
def add(api: AdminApi, out: Output, to: str, model: str, actions: list[str], until: Any) -> None:
    """Grant MODEL."""
    body: dict[str, Any] = {"to": to, "model": model} | ({"actions": list(actions)} if actions else {})
    made = api.post("grants", body | ({"until": f"{until.isoformat()}Z"} if until else {}))
    out.data(made, made["id"])


@grant.command("list")
@admin_verb
def list_(api: AdminApi, out: Output) -> None:
    """Every grant."""
    out.table(api.get("grants"), ("id", "to", "model", "actions", "until"))


@grant.command()
@click.argument("grant_id", metavar="ID")
@admin_verb
def remove(api: AdminApi, out: Output, grant_id: str) -> None:
    """Take the grant ID back."""
    out.data(api.delete(f"grants/{segment(grant_id)}"), f"removed {grant_id}")
