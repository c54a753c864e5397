"""`sealward user`: people. Their ids are opaque: they stand in the journal for ever."""

from __future__ import annotations

import click

from sealward.cli.subjects import verbs


@click.group()
def user() -> None:
    """People: create, list, disable and enable."""


verbs(user, "users")
