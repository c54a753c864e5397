"""`sealward service`: programs that ask."""

from __future__ import annotations

import click

from sealward.cli.subjects import verbs


@click.group()
def service() -> None:
    """Services: create, list, disable and enable."""


verbs(service, "services")
