"""`sealward config`: the settings file and its schema."""

from __future__ import annotations

from pathlib import Path

import click

from sealward.cli.output import Output, shared_options
from sealward.settings import FILE, Settings, SettingsError


@click.group()
def config() -> None:
    """Check sealward.yaml; print its JSON Schema."""


@config.command()
@shared_options
def check(home: Path, out: Output) -> int:
    """Name every fault of sealward.yaml; exit code 3 when there is one."""
    try:
        Settings.load(home)
    except SettingsError as error:
        if not out.as_json:
            raise
        out.data({"ok": False, "faults": [fault._asdict() for fault in error.faults]})
        return error.exit_code
    out.data({"ok": True, "faults": []}, f"{FILE} is well formed")
    return 0


@config.command()
@shared_options
def schema(home: Path, out: Output) -> None:
    """Print the JSON Schema of sealward.yaml, for editors."""
    del home
    out.data(Settings.schema_of_file())
