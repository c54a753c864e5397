"""The journal's public files at the management door: whoever may verify reads them, and nothing else has a name there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from doors import ANN_BEARER, EVE_BEARER, House, house, run, until
from journals import KEYS, MemoryDisk, acks, note, opened
from sealward.gateway.logfiles import PUBLIC
from sealward.gateway.routes import MANAGEMENT
from sealward.journal.verify import Trust, verify

AUDITOR = {
    "subjects": {
        "ann": {"kind": "human", "groups": [], "roles": ["auditor"]},
        "eve": {"kind": "human", "groups": [], "roles": ["consumer"]},
    }
}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A log of 300 entries, as it lies on a disk."""
    disk = MemoryDisk()
    writer = opened(disk)
    for _ in range(3):
        acks(writer, *[note()] * 100)
        writer.publish()
    writer.close()
    folder = tmp_path / "journal"
    for name, data in {**disk.files, "vkey": KEYS.signer.verifier.vkey.encode() + b"\n", "private/log.key": b"secret"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def serving(folder: Path, journal: Path, scenario: Any) -> None:
    """A scenario at a management door."""

    async def whole() -> None:
        async with house(folder, table=MANAGEMENT, sidecar=None, control=folder / "control.sock", journal=journal) as h:
            h.change(_later(h))
            await scenario(h)

    run(whole)


def _later(h: House) -> Any:
    from doors import later

    return later(h.snapshots.held, **AUDITOR)


def test_an_auditor_can_copy_the_log_and_verify_it(tmp_path: Path, journal: Path) -> None:
    """Every public file byte for byte, with the content types of the specification; what was copied verifies."""
    copied = MemoryDisk()
    names = [path.relative_to(journal).as_posix() for path in journal.rglob("*") if path.is_file()]

    async def scenario(h: House) -> None:
        caller = await h.connect()
        public = [name for name in names if not name.startswith("private/")]
        assert len(public) > 6
        for name in public:
            got = await caller.ask("GET", f"/api/v1/log/{name}")
            kind = "application/octet-stream" if name.startswith("tile/") else "text/plain; charset=utf-8"
            assert (got.status, got.headers["content-type"]) == (200, kind)
            copied.files[name] = got.content
        await until(lambda: len(h.recorder.events) == len(public))
        assert {event["type"] for event in h.recorder.events} == {"access.read"}
        assert {event["operation"]["name"] for event in h.recorder.events} == {"log.read"}
        assert {event["subject"]["id"] for event in h.recorder.events} == {"ann"}

    serving(tmp_path, journal, scenario)
    report = verify(copied, Trust(KEYS.signer.verifier, KEYS.signer.mldsa_verifier))
    assert (report.ok, report.size) == (True, 300)


def test_who_may_not_verify_reads_nothing(tmp_path: Path, journal: Path) -> None:
    """403 and an `admin.denied` for a consumer, also for a file that is not there; 401 without a credential."""

    async def scenario(h: House) -> None:
        for name in ("checkpoint", "tile/0/999"):
            got = await h.ask("GET", f"/api/v1/log/{name}", bearer=EVE_BEARER)
            assert (got.status, got.headers["content-type"]) == (403, "application/problem+json")
        assert (await h.ask("GET", "/api/v1/log/checkpoint", bearer=None)).status == 401
        await until(lambda: len(h.recorder.events) == 3)
        assert h.recorder.reasons("admin.denied") == ["action_not_granted"] * 2
        assert h.recorder.reasons("request.refused") == ["credential_missing"]

    serving(tmp_path, journal, scenario)


NO_NAMES = [
    "private/log.key", "private/segments/00000000000000000000.seg", "tile", "tile/", "tile/0", "tile/64/000", "tile/00/000",
    "tile/0/0", "tile/0/x000/000/", "tile/0/000.p/0", "tile/0/000.p", "tile/entries/000.p/1000", "checkpoint/", "vkey.other",
    ".lock", "tile/0/001", "checkpoint.tmp",
]  # fmt: skip


def test_nothing_else_has_a_name(tmp_path: Path, journal: Path) -> None:
    """404 for what is private, missing or a folder; no link is followed; a path with two readings is none."""
    (journal / "tile/0/001").symlink_to(journal / "private/log.key")

    async def scenario(h: House) -> None:
        caller = await h.connect()
        for name in NO_NAMES:
            assert (await caller.ask("GET", f"/api/v1/log/{name}", bearer=ANN_BEARER)).status in {400, 404}, name
        for name in ("../private/log.key", "tile/../private/log.key", "%70rivate/log.key", "/private/log.key", "checkpoint?x=1"):
            assert (await h.ask("GET", f"/api/v1/log/{name}")).status == 400, name

    serving(tmp_path, journal, scenario)


def test_the_pattern_holds_every_file_that_a_log_can_have() -> None:
    """Levels 0 to 63, numbers of any size, widths 1 to 255."""
    from sealward.formats.tiles import tile_path

    for level in (0, 9, 10, 63, "entries"):
        for n in (0, 999, 1000, 1_234_067, 10**12):
            for width in (1, 255, 256):
                assert PUBLIC.fullmatch(tile_path(level, n, width))
    assert os.sep == "/"
