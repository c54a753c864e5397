"""`sealward journal erase|hold|release`: what the owner does to a whole journal, by its recorder, or by hand while none runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click

from sealward.cli.journal_place import Place, vkey_of
from sealward.cli.output import Output, shared_options
from sealward.clock import SystemClock
from sealward.errors import UsageError
from sealward.formats.fault import FormatError
from sealward.gateway.counters import Counters
from sealward.gateway.intents import Intents
from sealward.gateway.recoveries import Recoveries
from sealward.journal.client import ask_owner
from sealward.journal.cosigning import refuse_if_behind
from sealward.journal.custody import Custody
from sealward.journal.durable import OsDisk
from sealward.journal.folds import Fold
from sealward.journal.index import MANIFEST, Index
from sealward.journal.key_stores import elders_of
from sealward.journal.keys import load_keys, load_purpose_key
from sealward.journal.reader import Reader
from sealward.journal.witness_client import WitnessClient
from sealward.journal.writer import Writer
from sealward.process import User, acting_as
from sealward.settings import FILE

Directory = click.Path(path_type=Path, exists=True, file_okay=False)
directory_argument = click.argument("directory", metavar="[DIR]", type=Directory, required=False)
range_options = [
    click.option("--from", "first", type=click.IntRange(min=0), help="The first entry; without --from and --to all of them."),
    click.option("--to", "last", type=click.IntRange(min=0), help="The last entry."),
    click.option("--because", required=True, help="Why, for the journal."),
]


def in_range(verb: Any) -> Any:
    """Give a verb `first`, `last` and `because`."""
    for option in range_options:
        verb = option(verb)
    return verb


@click.command()
@directory_argument
@click.option("--subject", required=True, metavar="ID", help="Whose keys are destroyed; with --user, of the users it named.")
@click.option("--user", metavar="NAME", help="One user on whose behalf the service ID asked.")
@click.option("--reason", help="Why, for the journal. No names: it outlives the person's keys.")
@click.option("--case", help="A case number for the journal, in place of the name.")
@shared_options
def erase(directory: Path | None, home: Path, out: Output, **asked: str | None) -> None:
    """Make everything recorded of a person unreadable, for ever. Hashes and proofs stay."""
    done = act(Place.of(directory, home), {"op": "erase"} | {name: value for name, value in asked.items() if value is not None})
    if not done["keys"]:
        out.data(done, f"{done['case']}: there are no keys of {asked['subject']}")
        return
    took = f"in {done['live_us'] / 1000:.1f} ms; no copy of the key store has them after {done['everywhere_by']}"
    out.data(done, f"{done['case']}: {done['keys']} keys destroyed {took}")


@click.command()
@directory_argument
@in_range
@shared_options
def hold(directory: Path | None, first: int | None, last: int | None, because: str, home: Path, out: Output) -> None:
    """Legal hold: nothing of it is archived, and nobody is erased, until it is released."""
    done = act(Place.of(directory, home), {"op": "hold"} | _range(first, last, because))
    out.data(done, f"{done['target']} is held")


@click.command()
@directory_argument
@in_range
@shared_options
def release(directory: Path | None, first: int | None, last: int | None, because: str, home: Path, out: Output) -> None:
    """End a legal hold, named as it was set."""
    done = act(Place.of(directory, home), {"op": "release"} | _range(first, last, because))
    out.data(done, f"{done['target']} is released")


def act(place: Place, message: dict[str, Any]) -> dict[str, Any]:
    """What came of an act of custody.py. Refused; IntegrityError; UnreachableError."""
    done = ask_owner(place.socket, message)
    if done is not None:
        return {name: value for name, value in done.items() if name != "n"}
    with opened_by_hand(place) as writer:
        if (place.directory / MANIFEST).exists():
            writer.on_erased.append(index_of(place, writer).on_erased)
        try:
            return Custody(writer, SystemClock(), os.urandom).perform(message)
        except FormatError as error:
            raise UsageError(error.detail) from error


@contextmanager
def opened_by_hand(place: Place) -> Iterator[Writer]:
    """The journal's writer while nobody else has it, as the user who owns it; witnesses are asked first."""
    clock, directory = SystemClock(), place.directory
    about = directory.stat()
    folds: list[Fold] = []
    if (directory.resolve().parent / FILE).exists():  # those of the recorder, or its next start has to replay
        folds = [Counters(clock), Intents(), Recoveries()]
    with acting_as(User(about.st_uid, about.st_gid)):
        disk = OsDisk(directory)
        refuse_if_behind(Reader(disk, vkey_of(directory)), [WitnessClient.of(each) for each in place.witnesses])
        keys, elders = load_keys(directory), elders_of(directory.resolve(), clock)
        with closing(Writer.open(disk, keys, clock=clock, random=os.urandom, folds=folds, elders=elders)) as writer:
            yield writer


def index_of(place: Place, writer: Writer) -> Index:
    """The side index of a journal that is open by hand."""
    key = load_purpose_key(place.directory)
    return Index(OsDisk(place.directory), writer.reader, key, writer.reader.erased, os.urandom, writer.size)


def _range(first: int | None, last: int | None, because: str) -> dict[str, Any]:
    if (first is None) != (last is None):
        raise UsageError("--from and --to go together")
    return {"because": because} | ({} if first is None else {"from": first, "to": last})
