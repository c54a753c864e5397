"""Every refusing state of the journal has a way back (contracts.md section 7): one test a row, without any daemon."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from journals import acks, admitted, note, request_id
from sealward.cli import run
from sealward.clock import SystemClock
from sealward.control.state import State
from sealward.errors import IntegrityError, SealwardError
from sealward.formats.ids import rfc3339
from sealward.formats.note import Verifier
from sealward.formats.recovery import parse_recovery_log
from sealward.gateway.entries import Author
from sealward.gateway.recoveries import Recoveries
from sealward.host import recover_journal
from sealward.host.deployment import Deployment
from sealward.host.recover_journal import Asked, next_origin, succeed
from sealward.journal.durable import OsDisk
from sealward.journal.keys import load_keys
from sealward.journal.verify import Trust, verify
from sealward.journal.writer import Writer
from sealward.settings import Settings
from uids import open_folder

CLOCK = SystemClock()


class Home:
    """A deployment that is down."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self._capsys = home, capsys
        self.ours("init", home, "--runtime", "m=http://127.0.0.1:1", "--origin", "journal.test/1")

    def ours(self, *arguments: object, code: int = 0) -> Any:
        """What a command says."""
        capsys = self._capsys
        done = run(["--home", str(self.home), *map(str, arguments), "--json"])
        said = capsys.readouterr()
        assert done == code, said.err
        lines = [orjson.loads(line) for line in said.out.splitlines()]
        return said.err if not lines else lines[0] if len(lines) == 1 else lines

    def writer(self) -> Writer:
        keys = load_keys(self.journal)
        return Writer.open(OsDisk(self.journal), keys, clock=CLOCK, random=Random(1).randbytes)

    def filled(self, count: int = 20) -> None:
        writer = self.writer()
        acks(writer, *[note() for _ in range(count)])
        writer.close()

    @property
    def journal(self) -> Path:
        return self.home / "journal"

    @property
    def events(self) -> list[Any]:
        writer = self.writer()
        try:
            return [row.event for row in writer.reader.rows()]
        finally:
            writer.close()

    def verified(self, *known: bytes) -> Any:
        log = Verifier.parse((self.journal / "vkey").read_text())
        return verify(OsDisk(self.journal), Trust(log, known=known))

    def pending(self) -> list[Any]:
        with State(self.home / "state/control/state.db") as state:
            return [stored.change for stored in state.pending()]


@pytest.fixture
def home(capsys: pytest.CaptureFixture[str]) -> Iterator[Home]:
    """In a folder that every user may pass through."""
    with open_folder() as folder:
        yield Home(folder / "ai", capsys)


def _damage(home: Home, writer: Writer | None = None) -> None:
    """Killed, with a bad batch and a good one behind it."""
    writer = writer or home.writer()
    acks(writer, note())
    acks(writer, note())
    writer._close_files()
    segment = max((home.journal / "private/segments").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[data.rfind(b"SWB1", 0, data.rfind(b"SWB1")) + 60] ^= 1
    segment.write_bytes(data)


def test_a_torn_tail_needs_nobody(home: Home) -> None:
    """Dropped and told at the next start; a successor is refused, for there is nothing to recover from."""
    home.filled()
    segment = max((home.journal / "private/segments").glob("*.seg"))
    segment.write_bytes(segment.read_bytes() + b"SWB1 torn")
    assert home.events[-1]["type"] == "journal.recovered"
    assert "sound" in home.ours("recover", "journal", "--successor", "--because", "I like it", code=1)
    assert not (home.home / "recovery/recovery.log").exists()


def test_a_damaged_segment_has_a_successor(home: Home) -> None:
    """Reading and verifying the old log go on; the new one commits to it, names its open admissions, and is the deployment's."""
    home.filled()
    writer = home.writer()
    acks(writer, admitted(request_id()))
    writer.publish()
    size, old = writer.size, (home.journal / "checkpoint").read_bytes()
    _damage(home, writer)
    with pytest.raises(IntegrityError):
        home.writer()
    done = home.ours("recover", "journal", "--successor", "--because", "a batch is bad")
    assert (done["origin"], done["size"], done["state"], done["suspended"]) == ("journal.test/2", size, "journal_damaged", False)
    first = home.events[0]
    assert first["type"] == "journal.successor"
    assert first["successor"]["open"] == [size - 1]
    assert home.verified(old).ok
    ended = Path(done["ended"])
    assert (ended / "successor").read_text().strip() == done["vkey"]
    assert verify(OsDisk(ended), Trust(Verifier.parse((ended / "vkey").read_text()))).ok
    with pytest.raises(IntegrityError, match="goes on"):
        Writer.open(OsDisk(ended), load_keys(ended), clock=CLOCK, random=Random(1).randbytes)
    assert (home.home / "trust/log.vkey").read_text().strip() == done["vkey"]
    assert Settings.load(home.home).journal.origin == "journal.test/2"
    assert home.pending()[-1].ops == (["put", "trust", "log", {"vkey": done["vkey"]}],)
    home.ours("init", home.home)  # the pins fit
    assert len(home.ours("journal", "export", ended, code=5)) == size  # what can be read, and that it is not all

    log = (home.home / "recovery/recovery.log").read_bytes()
    line, reading = parse_recovery_log(log, "journal.test/1")
    assert (line["verb"], line["state"], line["because"]) == ("journal --successor", "journal_damaged", "a batch is bad")
    assert reading["verb"] == "journal read journal.1"
    events = Recoveries().due(log, "journal.test/1", Author("recorder", CLOCK, Random(1).randbytes))
    assert {event["type"] for event in events} == {"recovery.performed"}
    assert "sound" in home.ours("recover", "journal", "--successor", "--because", "again", code=1)


def test_a_disk_behind_a_known_checkpoint_has_a_successor_and_keys_wait(home: Home) -> None:
    """It commits to what was known, not to what is left; whoever holds that checkpoint accepts no less; keys are suspended."""
    home.filled()
    shutil.copytree(home.journal, home.home / "backup")
    home.filled()
    known = (home.journal / "checkpoint").read_bytes()
    shutil.rmtree(home.journal)
    (home.home / "backup").rename(home.journal)
    with State(home.home / "state/control/state.db") as state:
        row = {"owner": "app", "environment": "live", "hmac": "0" * 64, "created": rfc3339(0), "expires": rfc3339(1)}
        state.replace({"keys": {"K1": row, "K2": row | {"suspended": True}}})
    (home.home / "known").write_bytes(known)
    done = home.ours("recover", "journal", "--successor", "--because", "restored", "--known-checkpoint", home.home / "known")
    assert (done["size"], done["state"], done["suspended"]) == (40, "journal_behind", True)
    assert home.verified(known).ok
    ops = home.pending()[-1].ops
    assert [op[:3] for op in ops] == [["put", "trust", "log"], ["put", "keys", "K1"]]
    assert ops[1][3]["suspended"] is True


def test_a_witness_that_differs_outweighs_the_disk(home: Home) -> None:
    """Not more entries, but others: the disk was rewritten, and what the witness holds is what counts."""
    home.filled()
    shutil.copytree(home.journal, home.home / "other")
    home.filled(5)
    writer = Writer.open(OsDisk(home.home / "other"), load_keys(home.home / "other"), clock=CLOCK, random=Random(7).randbytes)
    acks(writer, *[note() for _ in range(3)])
    writer.close()
    witnessed = (home.home / "other/checkpoint").read_bytes()
    (home.home / "known").write_bytes(witnessed)
    done = home.ours("recover", "journal", "--successor", "--because", "x", "--known-checkpoint", home.home / "known")
    assert (done["size"], done["state"]) == (23, "journal_behind")
    assert home.verified(witnessed).ok


@pytest.mark.parametrize("step", range(6))
def test_an_interrupted_recovery_goes_on(home: Home, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was done before power was lost, the same command brings it to its end, and the line stands."""
    home.filled()
    _damage(home)
    deployment = Deployment.at(home.home)
    calls = iter(range(100))

    def counted(what: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if next(calls) == step:
                raise OSError(errno.EIO, "power")
            return what(*arguments, **named)

        return call

    for name in ("put", "sync_folder", "_make", "_rename_origin"):
        monkeypatch.setattr(recover_journal, name, counted(getattr(recover_journal, name)))
    asked = Asked("why", "uid:0", lambda vkey, suspend: None)
    with pytest.raises(OSError, match="power"):
        succeed(deployment, asked, CLOCK, Random(3).randbytes)
    monkeypatch.undo()
    done = succeed(Deployment.at(home.home), asked, CLOCK, Random(4).randbytes)
    assert done.origin == "journal.test/2"
    assert home.events[0]["type"] == "journal.successor"
    assert (home.home / "trust/log.vkey").read_text().strip() == done.vkey
    assert Settings.load(home.home).journal.origin == "journal.test/2"
    assert not (home.home / "journal.new").exists()
    assert (home.home / "journal.1").exists()


def test_a_full_disk_is_freed_by_an_archive(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written: first the reserve goes, then what was copied and verified; then it is recorded."""
    home.filled(600)
    full = {"left": 2}
    write = OsDisk._replace_some

    def replace(self: OsDisk, files: Any) -> None:
        if self._root == home.journal.resolve() and full["left"]:
            full["left"] -= 1
            raise OSError(errno.ENOSPC, "full")
        write(self, files)

    monkeypatch.setattr(OsDisk, "_replace_some", replace)
    target = tmp_path / "archive"
    done = home.ours("recover", "journal", "--archive", target, "--because", "the disk is full")
    assert (done["from"], done["to"]) == (0, 512)
    assert full["left"] == 0
    types = [event["type"] for event in home.events]
    assert types[-1] == "journal.archived"
    assert home.verified().unseen == 512
    (line,) = parse_recovery_log((home.home / "recovery/recovery.log").read_bytes(), "journal.test/1")
    assert line["verb"] == "journal --archive"


def test_origins_count_up() -> None:
    """The next one is another log's name."""
    assert [next_origin(name) for name in ("a/1", "a/09", "a", "a/b", "1")] == ["a/2", "a/10", "a/2", "a/b/2", "1/2"]


def test_it_says_which_way(home: Home) -> None:
    """One of two; while processes run, none."""
    home.filled(1)
    home.ours("recover", "journal", "--because", "x", code=2)
    home.ours("recover", "journal", "--because", "x", "--successor", "--archive", "y", code=2)
    with recover_journal.only_one(Deployment.at(home.home).base):
        assert "already up" in home.ours("recover", "journal", "--because", "x", "--successor", code=1)
    with pytest.raises(SealwardError):
        succeed(Deployment.at(home.home), Asked("x", "uid:0", lambda vkey, suspend: None), CLOCK, Random(1).randbytes)
