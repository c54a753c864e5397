"""The ways on from a journal that refuses (contracts.md section 7): without any daemon, for the owner or root.

A successor is made beside the old journal and takes its place at the end, so that a crash in between leaves the old one or
the new one, and the same command goes on:

    recovery.log has the line → journal.new is whole → journal/successor → journal becomes journal.N → journal.new becomes journal
    → sealward.yaml → trust/log.vkey
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sealward.clock import Clock
from sealward.errors import ConfigurationError, IntegrityError, Refused, SealwardError
from sealward.formats.fault import FormatError
from sealward.formats.note import Verifier
from sealward.formats.tiles import WIDTH
from sealward.host.deployment import Deployment
from sealward.host.files import put, sync_folder
from sealward.host.recovery_log import act
from sealward.host.supervisor import only_one
from sealward.journal.archive import Made, Part
from sealward.journal.archived import NAME as ARCHIVED
from sealward.journal.archived import archived_text, bundles
from sealward.journal.chronicle import Chronicle
from sealward.journal.durable import Disk, OsDisk
from sealward.journal.init import create
from sealward.journal.keys import SubjectKeys, load_keys, load_purpose_key, verifier_of
from sealward.journal.log import CHECKPOINT, FULL, RESERVE, WITNESSED
from sealward.journal.predecessor import PREDECESSOR, SUCCESSOR, Predecessor, predecessor
from sealward.journal.reader import Reader
from sealward.journal.state_copy import StateCopy
from sealward.journal.successor import Beginning, begin, open_admissions
from sealward.journal.witness_client import WitnessClient
from sealward.journal.writer import Writer
from sealward.process import User, acting_as
from sealward.settings import FILE


@dataclass(frozen=True, slots=True)
class Asked:
    """`origin`: the new log's; else the old one's next number. `known`: signed notes of the old log that the owner has.

    `tell_control(vkey, suspend)` leaves control a pending change: the snapshot's log key, and every API key suspended.
    """

    because: str
    by: str
    tell_control: Callable[[str, bool], None]
    origin: str | None = None
    known: Sequence[bytes] = ()
    witnesses: Sequence[WitnessClient] = ()


@dataclass(frozen=True, slots=True)
class Room:
    """`origin`: the log's; `copy`: makes a verified copy elsewhere."""

    because: str
    origin: str
    copy: Callable[[Part], Made]


@dataclass(frozen=True, slots=True)
class Succeeded:
    """`state`: what was recovered from. `suspended`: it was over a rollback, and API keys wait for an administrator."""

    origin: str
    vkey: str
    ended: Path
    size: int
    state: str
    open: int
    suspended: bool


def succeed(deployment: Deployment, asked: Asked, clock: Clock, random: Callable[[int], bytes]) -> Succeeded:
    """A new log in the place of the old one, committed to the most that is known of it.

    SealwardError: the journal is sound, or processes run. UnreachableError: a witness that may know more does not answer.
    """
    base, user = deployment.base, deployment.users["recorder"]
    with only_one(base):
        journal = base / "journal"
        if _finish(deployment):
            return _interrupted(base)
        log = verifier_of(journal)
        before, state = _known(journal, log, asked, user, clock, random)
        act(deployment, log.name, verb="journal --successor", state=state, because=asked.because, now_us=clock.now())
        origin = asked.origin or next_origin(log.name)
        with acting_as(user):
            opened = _open_admissions(journal, log)
        said = Beginning(opened, asked.because, {"id": asked.by, "kind": "human", "authn": "local"})
        vkey = _make(base / NEW, origin, user, before, said, clock, random)
        asked.tell_control(vkey, state == BEHIND)
        put(journal / SUCCESSOR, vkey.encode() + b"\n", user, 0o644, replace=True)
        _finish(deployment)
    return Succeeded(origin, vkey, _ended(base), before.checkpoint.size, state, len(opened), state == BEHIND)


def make_room(deployment: Deployment, asked: Room, clock: Clock, random: Callable[[int], bytes]) -> Made:
    """Old entries leave a full disk. What is left to do is to record it. SealwardError: nothing may leave, or processes run."""
    user, journal = deployment.users["recorder"], deployment.base / "journal"
    disk = OsDisk(journal)
    with only_one(deployment.base):
        with acting_as(user):
            part = _archivable(journal, disk, random)
        if part.first == part.end:
            raise SealwardError(
                "no whole bundle may leave", remedy="free space on the journal's disk; a hold may stand in the way"
            )

        def say() -> None:
            now_us, verb = clock.now(), "journal --archive"
            act(deployment, asked.origin, verb=verb, state="journal_full", because=asked.because, now_us=now_us)

        _with_room(disk, [RESERVE], say)
        made = asked.copy(part)
        with acting_as(user), closing(disk):
            disk.lock()
            text = archived_text(part.end, verifier_of(journal).name)
            _with_room(disk, bundles(part.first, part.end), lambda: disk.replace([(ARCHIVED, text)]))
            disk.remove(bundles(part.first, part.end))
    return made


def _archivable(journal: Path, disk: Disk, random: Callable[[int], bytes]) -> Part:
    """As Custody would say, from the files alone: a writer cannot be opened on a full disk."""
    log = verifier_of(journal)
    reader = Reader(disk, log)
    copy = StateCopy(disk, log.name, load_purpose_key(journal), random).read([])
    first, end = reader.archived(), min(reader.checkpoint()[0].size, copy.at, *copy.open.values())
    chronicle = Chronicle()
    chronicle.load(copy.chronicle)
    end = min([end, *(hold.first for hold in chronicle.held if hold.covers(first, end))]) // WIDTH * WIDTH
    return Part(first, max(first, end))


def _with_room(disk: Disk, expendable: Iterable[str], what: Callable[[], None]) -> None:
    """Does it; where there is no room, something goes first."""
    left = iter(expendable)
    while True:
        try:
            what()
        except OSError as error:
            name = next(left, None)
            if error.errno not in FULL or name is None:
                raise
            disk.remove([name])
        else:
            return


def next_origin(origin: str) -> str:
    """journal.example.org/1 → journal.example.org/2; without a number at its end the first successor is /2."""
    name, slash, number = origin.rpartition("/")
    return f"{name}/{int(number) + 1}" if slash and number.isascii() and number.isdecimal() else f"{origin}/2"


def _known(
    journal: Path, log: Verifier, asked: Asked, user: User, clock: Clock, random: Callable[[int], bytes]
) -> tuple[Predecessor, str]:
    """The note with the most entries, and what is wrong with the disk. What a witness holds outweighs a disk that differs."""
    outside = [_predecessor(log, note) for note in asked.known]
    for witness in asked.witnesses:
        held = witness.held(log)
        outside += [Predecessor.of(log, held[1])] if held else []
    with acting_as(user):
        inside = _notes(journal, log)
        reader = Reader(OsDisk(journal), log)
        differ = [one for one in outside if not inside or not _extends(reader, inside[-1], one)]
        if differ:
            return max(differ, key=lambda one: one.checkpoint.size), BEHIND
        state = _fault(journal, clock, random)
    if not inside:
        raise IntegrityError("journal_damaged", "no checkpoint of the old log is left", remedy="--known-checkpoint FILE")
    return max([*inside, *outside], key=lambda one: one.checkpoint.size), state


def _fault(journal: Path, clock: Clock, random: Callable[[int], bytes]) -> str:
    """Why the journal refuses to be opened. SealwardError: it does not, or something else helps."""
    try:
        Writer.open(OsDisk(journal), load_keys(journal), clock=clock, random=random).close()
    except IntegrityError as error:
        if error.code not in SUCCEEDED:
            raise
        return error.code
    raise SealwardError("the journal is sound: there is nothing to recover from", remedy="sealward up")


def _extends(reader: Reader, inside: Predecessor, outside: Predecessor) -> bool:
    """Whether what the disk says extends what somebody else knows."""
    if outside.checkpoint.size > inside.checkpoint.size:
        return False
    try:
        return reader.root(outside.checkpoint.size, inside.checkpoint) == outside.checkpoint.root
    except IntegrityError:  # tiles are damaged: nothing speaks against it
        return True


def _notes(journal: Path, log: Verifier) -> list[Predecessor]:
    """The signed notes on the disk, the one with the most entries last."""
    found = []
    for name in (WITNESSED, CHECKPOINT):
        try:
            found.append(Predecessor.of(log, (journal / name).read_bytes()))
        except (OSError, FormatError):
            continue
    return sorted(found, key=lambda one: one.checkpoint.size)


def _predecessor(log: Verifier, note: bytes) -> Predecessor:
    try:
        return Predecessor.of(log, note)
    except FormatError as error:
        raise ConfigurationError(f"a known checkpoint is not one of {log.name}: {error}") from error


def _open_admissions(journal: Path, log: Verifier) -> list[int]:
    """None where the keys are gone: then nobody can tell them."""
    disk = OsDisk(journal)
    try:
        return open_admissions(Reader(disk, log, SubjectKeys(disk, load_purpose_key(journal))))
    except (Refused, IntegrityError, ConfigurationError, OSError):
        return []


def _make(
    fresh: Path, origin: str, user: User, before: Predecessor, said: Beginning, clock: Clock, random: Callable[[int], bytes]
) -> str:
    if fresh.exists():
        shutil.rmtree(fresh)  # an earlier run was interrupted: nothing has taken its place
    fresh.mkdir(mode=0o755)
    vkey = create(fresh, origin, user).verifier.vkey
    with acting_as(user):
        disk = OsDisk(fresh)
        with closing(Writer.open(disk, load_keys(fresh), clock=clock, random=random)) as writer:
            begin(writer, disk, before, said, clock, random)
    return vkey


def _finish(deployment: Deployment) -> bool:
    """Does what is left to do once the old journal names its successor; also of an interrupted run. Whether there was any."""
    base = deployment.base
    journal, fresh, pin = base / "journal", base / NEW, base / "trust/log.vkey"
    if (journal / SUCCESSOR).exists() and (fresh / PREDECESSOR).exists():
        journal.rename(next(path for n in range(1, MOST_ENDED) if not (path := base / f"journal.{n}").exists()))
        sync_folder(base)
    if not journal.exists() and (fresh / PREDECESSOR).exists():
        fresh.rename(journal)
        sync_folder(base)
    log, pinned = verifier_of(journal), Verifier.parse(pin.read_text("ascii"))
    if pinned == log or not (journal / PREDECESSOR).exists():
        return False
    _rename_origin((deployment.home / FILE).resolve(), pinned.name, log.name)
    about = pin.stat()
    put(pin, log.vkey.encode() + b"\n", User(about.st_uid, about.st_gid), 0o644, replace=True)
    return True


def _interrupted(base: Path) -> Succeeded:
    """What an earlier run had done."""
    disk, log = OsDisk(base / "journal"), verifier_of(base / "journal")
    before = predecessor(disk.read, log, Reader(disk, log).checkpoint()[0].size)
    return Succeeded(log.name, log.vkey, _ended(base), before.checkpoint.size if before else 0, "interrupted", 0, suspended=False)


def _ended(base: Path) -> Path:
    """The last log that has ended."""
    return max(base.glob("journal.[0-9]*"), key=lambda path: int(path.suffix[1:]))


def _rename_origin(file: Path, old: str, new: str) -> None:
    """The line `origin:` of the settings, unless it is the new one. ConfigurationError: it is not there as a line of its own."""
    text = file.read_text("utf-8")
    if len(_origin_line(new).findall(text)) == 1:
        return
    text, count = _origin_line(old).subn(lambda found: f"{found[1]}{found[2]}{new}{found[2]}", text)
    if count != 1:
        remedy = f"write `origin: {new}` there, then the same command again"
        raise ConfigurationError(f"{file.name} does not say `origin: {old}` once", remedy=remedy)
    about = file.stat()
    put(file, text.encode(), User(about.st_uid, about.st_gid), about.st_mode & 0o777, replace=True)


def _origin_line(origin: str) -> re.Pattern[str]:
    return re.compile(rf"""^(\s*origin:\s*)(["']?){re.escape(origin)}\2(?=\s*(?:#.*)?$)""", re.MULTILINE)


NEW = "journal.new"
BEHIND = "journal_behind"
MOST_ENDED = 1000
SUCCEEDED = frozenset({"journal_damaged", "key_store"})
