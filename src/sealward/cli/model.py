"""`sealward model`: which models may serve. A model is the digest of its weights."""

from __future__ import annotations

import click

from sealward.cli.admin import AdminApi, admin_verb, segment
from sealward.cli.output import Output


@click.group()
def model() -> None:
    """Models: list, show, approve, deploy and retire."""


@model.command("list")
@admin_verb
def list_(api: AdminApi, out: Output) -> None:
    """Every model with its stage and digest."""
    out.table(api.get("models"), ("id", "stage", "digest", "kind", "sidecars", "aliases"))


@model.command()
@click.argument("model_id", metavar="ID")
@admin_verb
def show(api: AdminApi, out: Output, model_id: str) -> None:
    """All about one model."""
    out.data(api.get(f"models/{segment(model_id)}"))


@model.command()
@click.argument("model_id", metavar="ID")
@click.option("--digest", help="sha256:… of new weights.")
@admin_verb
def approve(api: AdminApi, out: Output, model_id: str, digest: str | None) -> None:
    """Let this digest of ID be served, and no other one."""
    out.data(api.post(f"models/{segment(model_id)}/approve", {"digest": digest} if digest else {}), f"approved {model_id}")


@model.command()
@click.argument("model_id", metavar="ID")
@admin_verb
def deploy(api: AdminApi, out: Output, model_id: str) -> None:
    """Put the approved ID into service."""
    out.data(api.post(f"models/{segment(model_id)}/deploy"), f"deployed {model_id}")


@model.command()
@click.argument("model_id", metavar="ID")
@admin_verb
def retire(api: AdminApi, out: Output, model_id: str) -> None:
    """Withdraw ID: requests are refused and its streams cut."""
    out.data(api.post(f"models/{segment(model_id)}/retire"), f"retired {model_id}")
