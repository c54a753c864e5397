"""The build fails when a route or a verb leaves no event: each is named in its table or in cli/classes.py with what it leaves."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import click

from sealward.cli import NOUNS
from sealward.cli.classes import CONTROL, OFFLINE, READ
from sealward.formats.event import SCHEMA
from sealward.gateway.pipeline import COLUMNS
from sealward.gateway.routes import INFERENCE, MANAGEMENT
from sealward.identity.admin_routes import ROUTES

TYPES = set(SCHEMA["properties"]["type"]["enum"])


def _verbs(command: click.Command, name: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        for verb, inner in command.commands.items():
            yield from _verbs(inner, f"{name} {verb}")
    else:
        yield name


def test_every_verb_has_one_class() -> None:
    """A verb that nobody classed, or one that is not there any more, fails the build."""
    found = set()
    for noun, where in NOUNS.items():
        module, _, name = where.target.partition(":")
        found |= set(_verbs(getattr(importlib.import_module(module), name), noun))
    assert found == {*CONTROL, *READ, *OFFLINE}
    assert len(CONTROL) + len(READ) + len(OFFLINE) == len(found)


def test_every_control_verb_leaves_an_event() -> None:
    """By a route that does (tests/control/test_admin_api.py asks each of them), or by a type of the schema."""
    routes = {route.name: route for route in ROUTES}
    for verb, leaves in CONTROL.items():
        assert leaves, verb
        for name in leaves:
            assert name in TYPES or routes[name].changes, (verb, name)


def test_every_route_leaves_an_event() -> None:
    """Of the admin API what the table says; of doors what their column of stages writes; probes are constants and leave none."""
    for route in ROUTES:
        assert route.event in TYPES, route
    for found in (*INFERENCE.all(), *MANAGEMENT.all()):
        assert found.kind in COLUMNS, found
        assert found.operation, found
