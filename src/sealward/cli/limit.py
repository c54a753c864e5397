"""`sealward limit`: how much one subject, key, group or model may use."""

from __future__ import annotations

import click

from sealward.cli.admin import AdminApi, admin_verb, segment
from sealward.cli.output import Output
from sealward.errors import UsageError


@click.group()
def limit() -> None:
    """Limits of `default`, subject:ID, key:ID, group:ID and model:ID."""


@limit.command("set")
@click.argument("name")
@click.option("--requests-per-minute", type=click.IntRange(1))
@click.option("--tokens-per-minute", type=click.IntRange(1))
@click.option("--tokens-per-day", type=click.IntRange(1))
@click.option("--concurrent", type=click.IntRange(1))
@admin_verb
def set_(api: AdminApi, out: Output, name: str, **values: int | None) -> None:
    """Set all limits of NAME; what is not named has none."""
    given = {key: value for key, value in values.items() if value is not None}
    if not given:
        raise UsageError("name at least one limit", remedy=f"to take them away: sealward limit unset {name}")
    out.data(api.put(f"limits/{segment(name)}", given), f"set {name}")


@limit.command()
@click.argument("name")
@admin_verb
def unset(api: AdminApi, out: Output, name: str) -> None:
    """Let `default` count for NAME."""
    out.data(api.delete(f"limits/{segment(name)}"), f"unset {name}")


@limit.command("list")
@admin_verb
def list_(api: AdminApi, out: Output) -> None:
    """Every limit."""
    out.table(api.get("limits"), ("id", "requests_per_minute", "tokens_per_minute", "tokens_per_day", "concurrent"))
