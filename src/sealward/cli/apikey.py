"""`sealward apikey`: create, list, rotate, suspend, confirm and revoke API keys."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from sealward.cli.admin import AdminApi, admin_verb, segment
from sealward.cli.output import Output


@click.group()
def apikey() -> None:
    """API keys: shown once, kept as a digest."""


@apikey.command()
@click.argument("owner")
@click.option("--days", type=click.IntRange(1, 3650), help="How long it lives (default: as long as the settings allow).")
@click.option("--model", "models", multiple=True, help="Only for this model.")
@click.option("--action", "actions", multiple=True, help="Only for this action, such as model:chat.")
@click.option("--cidr", "cidrs", multiple=True, help="Only from this network, such as 10.0.0.0/8.")
@admin_verb
def create(
    api: AdminApi, out: Output, owner: str, days: int | None, models: list[str], actions: list[str], cidrs: list[str]
) -> None:
    """Make a key for OWNER. It is printed once, alone on stdout."""
    body: dict[str, Any] = {"owner": owner}
    if days:
        body["expires"] = (dt.datetime.now(dt.UTC) + dt.timedelta(days=days)).isoformat()
    bindings = {name: list(given) for name, given in (("models", models), ("actions", actions), ("cidrs", cidrs)) if given}
    _shown(out, api.post("apikeys", body | ({"bindings": bindings} if bindings else {})))


@apikey.command("list")
@admin_verb
def list_(api: AdminApi, out: Output) -> None:
    """Every key with its owner, state and end."""
    out.table(api.get("apikeys"), ("id", "owner", "state", "expires", "expires_soon", "old_retires_at"))


@apikey.command()
@click.argument("key_id")
@click.option(
    "--overlap", type=click.IntRange(0, 30 * 24), default=7 * 24, show_default=True, help="Hours the old secret lives on."
)
@admin_verb
def rotate(api: AdminApi, out: Output, key_id: str, overlap: int) -> None:
    """Make the next secret of KEY_ID. It is printed once, alone on stdout."""
    _shown(out, api.post(f"apikeys/{segment(key_id)}/rotate", {"overlap_s": overlap * 3600}))


@apikey.command()
@click.argument("key_id")
@admin_verb
def suspend(api: AdminApi, out: Output, key_id: str) -> None:
    """Refuse KEY_ID, and keep its row."""
    out.data(api.post(f"apikeys/{segment(key_id)}/suspend"), f"suspended {key_id}")


@apikey.command()
@click.argument("key_id", metavar="ID")
@admin_verb
def confirm(api: AdminApi, out: Output, key_id: str) -> None:
    """Let the suspended key ID prove its owner again."""
    out.data(api.post(f"apikeys/{segment(key_id)}/confirm"), f"confirmed {key_id}")


@apikey.command()
@click.argument("key_id")
@admin_verb
def revoke(api: AdminApi, out: Output, key_id: str) -> None:
    """End KEY_ID for ever: new requests are refused and its streams cut."""
    out.data(api.post(f"apikeys/{segment(key_id)}/revoke"), f"revoked {key_id}")


def _shown(out: Output, made: dict[str, Any]) -> None:
    out.data(made, made["key"])
    out.words(f"key {made['id']}, until {made['expires'][:10]}; it is not shown again")
