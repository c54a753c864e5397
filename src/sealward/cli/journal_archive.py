"""`sealward journal archive`: old entries move to another place. Hashes stay, so proofs and receipts stay valid."""

from __future__ import annotations

from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from sealward.cli.journal_custody import act, directory_argument
from sealward.cli.journal_place import Place, vkey_of
from sealward.cli.output import Output, shared_options
from sealward.clock import SystemClock
from sealward.errors import UsageError
from sealward.formats.note import Verifier
from sealward.journal.archive import Made, Part, copy, older
from sealward.journal.durable import OsDisk
from sealward.journal.init import MLDSA_VKEY
from sealward.journal.verify import Trust
from sealward.process import User, acting_as
from sealward.settings import FILE, Seconds, Settings


@click.command()
@directory_argument
@click.option("--to", "target", type=click.Path(path_type=Path, file_okay=False), required=True, help="The archive's folder.")
@click.option("--older-than", metavar="90d", help="How old; else journal.retention of the settings, else all whole bundles.")
@shared_options
def archive(directory: Path | None, target: Path, older_than: str | None, home: Path, out: Output) -> None:
    """Copy old entries to TARGET, verify the copy, record it, then remove them here. A legal hold stops it."""
    place = Place.of(directory, home)
    asked = act(place, {"op": "archivable"})
    age = _seconds(older_than) if older_than else _retention(place.directory)
    part = Part(asked["from"], asked["to"])
    source = Owned(place.directory)
    if age is not None:
        part = older(source, part, SystemClock().now() - age * 1_000_000)
    if part.first == part.end:
        out.data({"from": part.first, "to": part.end, "entries": 0}, "nothing is old enough, whole and free of holds")
        return
    made = copied(place, part, target)
    done = act(place, archived(made, target))
    told = {"from": part.first, "to": part.end, "entries": part.end - part.first, "bytes": made.bytes, "index": done["index"]}
    words = f"entries {part.first} to {part.end - 1} are in {target} and no longer in {place.directory}"
    out.data(told | {"root": made.root, "manifest": made.manifest, "target": str(target)}, words)


def copied(place: Place, part: Part, target: Path) -> Made:
    """A verified copy of `part` at `target`. IntegrityError; UsageError: it would be a part of the journal itself."""
    if target.resolve().is_relative_to(place.directory.resolve()):
        raise UsageError("the archive would lie in the journal itself")
    target.mkdir(parents=True, exist_ok=True)
    mldsa = place.directory / MLDSA_VKEY
    log = Verifier.parse(place.pinned) if place.pinned else vkey_of(place.directory)
    trust = Trust(log, Verifier.parse(mldsa.read_text()) if mldsa.exists() else None)
    return copy(Owned(place.directory), OsDisk(target), part, trust)


def archived(made: Made, target: Path) -> dict[str, object]:
    """The act that says so."""
    told = {"to": made.part.end, "root": made.root, "manifest": made.manifest, "bytes": made.bytes}
    return {"op": "archived", "target": target.resolve().as_uri()} | told


class Owned:
    """The files of a journal as its own user reads them: root follows no links that it may have laid."""

    def __init__(self, directory: Path) -> None:
        about = directory.stat()
        self._disk, self._user = OsDisk(directory), User(about.st_uid, about.st_gid)

    def read(self, name: str) -> bytes:
        """FileNotFoundError."""
        with acting_as(self._user):
            return self._disk.read(name)

    def names(self, folder: str) -> list[str]:
        """Empty where there is none."""
        with acting_as(self._user):
            return self._disk.names(folder)


def _retention(directory: Path) -> int | None:
    home = directory.resolve().parent
    return Settings.load(home).journal.retention if (home / FILE).exists() else None


def _seconds(text: str) -> int:
    try:
        return TypeAdapter(Seconds).validate_python(text)
    except ValidationError as error:
        raise UsageError(f"{text!r} is no duration", remedy="write one such as 12h or 90d") from error
