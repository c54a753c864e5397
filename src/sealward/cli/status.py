"""`sealward status`: what runs, and what it serves."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import click

from sealward.cli.output import Output, shared_options
from sealward.host.deployment import Deployment
from sealward.host.doctor import findings
from sealward.host.status import look, told
from sealward.settings import Settings


@click.command()
@shared_options
def status(home: Path, out: Output) -> int:
    """What runs, and what it serves; exit code 0 when everything serves, else 4."""
    seen = look(Deployment.at(home), Settings.load(home), dt.datetime.now(dt.UTC))
    warnings = [
        {"code": found.code, "text": found.text, "remedy": found.remedy} for found in findings(seen) if found.severity != "info"
    ]
    value = told(seen, warnings)
    out.data(value, _text(value))
    return 0 if value["ok"] else 4


def _text(value: dict[str, Any]) -> str:
    journal, keyring = value["journal"], value["keyring"]
    modes = {name: mode if isinstance(mode, str) else f"observe until {mode['observe']}" for name, mode in value["modes"].items()}
    lines = [
        "serving" if value["ok"] else "not serving",
        *("  {name:<9} {state:<9} pid {pid}, since {since}".format(**process) for process in value["processes"]),
        *(f"  {door} door at {address}" for door, address in value["listening"].items()),
        *("  model {id} {state} {digest:.23}".format(**model) for model in value["models"]),
        *(f"  {name}: {mode}" for name, mode in modes.items()),
    ]
    if journal["size"]:
        lines += [
            f"  epoch {value['epoch']}, keyring {keyring['provider']} ({keyring['state']})",
            f"  journal {journal['size']} entries, checkpoint {journal['checkpoint_age_ms']} ms old",
            f"  {journal['free_bytes'] >> 20} MiB free for the journal",
        ]
    lines += ["warning: {text}\n  remedy: {remedy}".format(**warning) for warning in value["warnings"]]
    return "\n".join(lines)
