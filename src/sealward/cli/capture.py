"""`sealward capture`: how much is captured of what people ask and get, at most."""

from __future__ import annotations

import click

from sealward.cli.admin import AdminApi, admin_verb, segment
from sealward.cli.output import Output


@click.group()
def capture() -> None:
    """Caps on what is captured of `default`, subject:ID and group:ID; the least of them and the model's own counts."""


@capture.command("set")
@click.argument("name")
@click.argument("level", type=click.Choice(["none", "digest", "body"]))
@admin_verb
def set_(api: AdminApi, out: Output, name: str, level: str) -> None:
    """Capture at most LEVEL of NAME."""
    out.data(api.put(f"capture/{segment(name)}", {"level": level}), f"{name}: {level}")


@capture.command()
@click.argument("name")
@admin_verb
def unset(api: AdminApi, out: Output, name: str) -> None:
    """Take the cap of NAME away."""
    out.data(api.delete(f"capture/{segment(name)}"), f"unset {name}")


@capture.command("list")
@admin_verb
def list_(api: AdminApi, out: Output) -> None:
    """Every cap."""
    out.table(api.get("capture"), ("id", "level"))
