"""Files of the machine: what is durable, who may read it, what a failed call leaves."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealward.errors import IntegrityError
from sealward.journal.durable import OsDisk


@pytest.fixture
def _tight_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("_tight_umask")
def test_public_files_are_public_and_private_ones_private(tmp_path: Path) -> None:
    """Whatever the umask: others can copy or serve the log, and nobody sees what is below private/."""
    disk = OsDisk(tmp_path)
    disk.replace([("tile/0/000.p/3", b"a"), ("private/x", b"b")])
    disk.appender("private/segments/0.seg").close()
    assert [_mode(tmp_path / name) for name in ("tile", "tile/0/000.p", "tile/0/000.p/3")] == [0o755, 0o755, 0o644]
    assert [_mode(tmp_path / name) for name in ("private", "private/segments", "private/x")] == [0o700, 0o700, 0o600]


def test_a_file_is_whole_or_as_before(tmp_path: Path) -> None:
    """A replacement that fails leaves the old file and no temporary one."""
    disk = OsDisk(tmp_path)
    disk.replace([("a", b"old")])
    (tmp_path / "b").mkdir()
    with pytest.raises(OSError, match="directory"):
        disk.replace([("b", b"new")])
    assert disk.read("a") == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert disk.names("missing") == []


def test_appends_add_up(tmp_path: Path) -> None:
    """`durable` is the length that is on disk, also after the file was opened again."""
    disk = OsDisk(tmp_path)
    for expected in (3, 6):
        appender = disk.appender("private/f")
        appender.append(b"abc")
        assert appender.durable == expected
        appender.close()
    assert disk.read("private/f") == b"abcabc"


def test_a_failed_write_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes half of it: the half is cut off and the file can be used again."""
    appender = OsDisk(tmp_path).appender("f")
    real = os.write
    full = iter([False, True])

    def half(descriptor: int, data: memoryview) -> int:
        if next(full):
            raise OSError(errno.ENOSPC, "full")
        return real(descriptor, data[:2])

    appender.append(b"good")
    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="full"):
        appender.append(b"lost")
    monkeypatch.undo()
    appender.append(b"next")
    assert (tmp_path / "f").read_bytes() == b"goodnext"
    appender.close()


def test_a_failed_sync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call on that descriptor would succeed without writing: it is never made."""

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    appender = OsDisk(tmp_path).appender("f")
    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(OSError, match="broken"):
        appender.append(b"a")
    monkeypatch.undo()
    with pytest.raises(OSError, match="earlier sync"):
        appender.append(b"b")
    assert appender.durable == 0
    appender.close()


def test_there_is_one_writer(tmp_path: Path) -> None:
    """Until it closes, or dies."""
    (tmp_path / "private").mkdir()
    first, second = OsDisk(tmp_path), OsDisk(tmp_path)
    first.lock()
    with pytest.raises(IntegrityError) as refused:
        second.lock()
    assert refused.value.code == "locked"
    first.close()
    second.lock()
    second.close()


def test_what_is_removed_takes_its_empty_folder_along(tmp_path: Path) -> None:
    """Partial tiles leave nothing behind; missing ones are fine."""
    disk = OsDisk(tmp_path)
    disk.replace([("tile/0/000.p/3", b"a"), ("tile/0/000.p/4", b"a")])
    disk.remove(["tile/0/000.p/3", "tile/0/000.p/9"])
    assert disk.names("tile/0/000.p") == ["4"]
    disk.remove(["tile/0/000.p/4"])
    assert disk.names("tile/0") == []
    assert disk.free() > 0
