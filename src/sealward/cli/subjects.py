"""What `sealward user` and `sealward service` have in common: all but the path."""

from __future__ import annotations

import click

from sealward.cli.admin import AdminApi, admin_verb, segment
from sealward.cli.output import Output


def verbs(noun: click.Group, path: str) -> None:
    """Add the verbs over `path` of the admin API to `noun`."""

    @noun.command()
    @click.argument("subject_id", metavar="ID")
    @click.option("--group", "groups", multiple=True, help="A group it is in.")
    @admin_verb
    def create(api: AdminApi, out: Output, subject_id: str, groups: list[str]) -> None:
        """Create ID, without any role: assign one and grant models next."""
        out.data(api.post(path, {"id": subject_id, "groups": list(groups)}), f"created {subject_id}")

    @noun.command("list")
    @admin_verb
    def list_(api: AdminApi, out: Output) -> None:
        """All of them with groups and roles."""
        out.table(api.get(path), ("id", "groups", "roles", "disabled"))

    @noun.command()
    @click.argument("subject_id", metavar="ID")
    @admin_verb
    def disable(api: AdminApi, out: Output, subject_id: str) -> None:
        """Refuse every key of ID and cut its streams."""
        out.data(api.post(f"{path}/{segment(subject_id)}/disable"), f"disabled {subject_id}")

    @noun.command()
    @click.argument("subject_id", metavar="ID")
    @admin_verb
    def enable(api: AdminApi, out: Output, subject_id: str) -> None:
        """Let ID act again."""
        out.data(api.post(f"{path}/{segment(subject_id)}/enable"), f"enabled {subject_id}")
