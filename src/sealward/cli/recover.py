"""`sealward recover …`: the ways on from a state that refuses, without any daemon, for the deployment's owner or root.

Each act is a line of recovery.log before it is done, and an entry of the journal at the next start.
"""

from __future__ import annotations

import os
import sqlite3  # noqa: F401 - loaded lazily otherwise, when its files can no longer be read
from pathlib import Path
from typing import Any

import click
import sqlalchemy.dialects.sqlite.pysqlite  # noqa: F401 - the same

from sealward.cli.journal_archive import archived, copied
from sealward.cli.journal_custody import act as act_on_journal
from sealward.cli.journal_place import Place
from sealward.cli.output import Output, shared_options
from sealward.clock import SystemClock
from sealward.control.acts import distrust
from sealward.control.author import Author
from sealward.control.state import State
from sealward.errors import UsageError
from sealward.formats.change import Change
from sealward.formats.ids import rfc3339
from sealward.formats.snapshot import GENESIS
from sealward.host.deployment import Deployment
from sealward.host.recover_journal import Asked, Room, make_room, succeed
from sealward.journal.witness_client import WitnessClient
from sealward.process import acting_as
from sealward.settings import Settings

File = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def recover() -> None:
    """The way on from a state that refuses; processes must be down."""


@recover.command()
@click.option("--successor", is_flag=True, help="It is damaged, or behind what somebody knows: a new log goes on.")
@click.option(
    "--archive", "target", type=click.Path(path_type=Path, file_okay=False), help="Its disk is full: old entries go there."
)
@click.option("--because", required=True, help="Why: it stands in the journal for ever.")
@click.option("--origin", help="The new log's name; else the old one's next number.")
@click.option("--known-checkpoint", "known", multiple=True, type=File, help="A checkpoint of the old log that you have.")
@click.option("--danger-without-witness", "without", multiple=True, help="A witness that does not answer any more.")
@shared_options
def journal(successor: bool, target: Path | None, because: str, home: Path, out: Output, **given: Any) -> None:
    """The journal."""
    if successor == (target is not None):
        raise UsageError("name one way: --successor, or --archive DIR")
    deployment, settings = Deployment.at(home), Settings.load(home)
    if target is not None:
        _archive(deployment, settings, target, because, out)
        return
    witnesses = [WitnessClient.of(each) for each in settings.journal.witnesses if each.name not in given["without"]]
    asked = Asked(
        because,
        f"uid:{os.getuid()}",
        lambda vkey, suspend: _tell_control(deployment, vkey, suspend=suspend),
        given["origin"],
        [path.read_bytes() for path in given["known"]],
        witnesses,
    )
    done = succeed(deployment, asked, SystemClock(), os.urandom)
    told = {"origin": done.origin, "vkey": done.vkey, "ended": str(done.ended), "size": done.size, "state": done.state}
    words = [f"{done.origin} goes on from {done.size} entries; the old log is {done.ended}", done.vkey]
    if done.suspended:
        words.append("every API key is suspended until you confirm it: sealward apikey confirm ID")
    if settings.journal.witnesses:
        words.append("tell your witnesses about the new log: sealward witness add-log DIR VKEY")
    out.data(told | {"open": done.open, "suspended": done.suspended}, "\n".join(words))


def _archive(deployment: Deployment, settings: Settings, target: Path, because: str, out: Output) -> None:
    """Copy first; what is recorded needs the room that removing makes."""
    place = Place.of(None, deployment.home)
    room = Room(because, settings.journal.origin, lambda part: copied(place, part, target))
    made = make_room(deployment, room, SystemClock(), os.urandom)
    done = act_on_journal(place, archived(made, target))
    told = {"from": made.part.first, "to": made.part.end, "bytes": made.bytes, "index": done["index"], "target": str(target)}
    out.data(told, f"entries {made.part.first} to {made.part.end - 1} are in {target}")


def _tell_control(deployment: Deployment, vkey: str, *, suspend: bool) -> None:
    """A pending change: control carries it out at its next start, by an entry of the new log."""
    database, user = deployment.base / "state/control/state.db", deployment.users["control"]
    author = Author(SystemClock(), os.urandom)
    with acting_as(user), State(database) as state:
        now = rfc3339(author.clock.now())
        ops = [["put", "trust", "log", {"vkey": vkey}], *(distrust(state.sections(), now) if suspend else ())]
        event = author.event(
            "config.changed",
            {"id": f"uid:{os.getuid()}", "kind": "human", "authn": "local"},
            change={"target": "journal", "action": "successor", "after": vkey},
        )
        state.add(Change("recover", tuple(ops), GENESIS.digest, os.urandom(32).hex()), event)
