"""The publishing thread."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

import pytest

from journals import MemoryDisk, acks, failing, note, opened
from sealward.errors import IntegrityError
from sealward.journal.publisher import Publisher


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_what_is_appended_gets_under_a_checkpoint_by_itself() -> None:
    """Again and again; after `stop` nothing is written any more."""
    disk = MemoryDisk()
    writer = opened(disk)
    publisher = Publisher(writer, 0.001)
    for size in (1, 2):
        acks(writer, note())
        _until(lambda size=size: writer.published == size)
    publisher.stop()
    acks(writer, note())
    assert writer.published == 2


def test_a_failure_is_tried_again_but_stops_admission() -> None:
    """The thread lives on; its owner decides when to resume."""
    disk = MemoryDisk()
    writer = opened(disk)
    acks(writer, note())
    disk.fail = failing("replace", errno.EIO)
    publisher = Publisher(writer, 0.001)
    _until(lambda: writer.failed == "journal_io")
    with pytest.raises(IntegrityError):
        writer.commit([note()])
    disk.fail = MemoryDisk().fail
    writer.resume()
    acks(writer, note())
    _until(lambda: writer.published == 2)
    publisher.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_takes_admission_with_it() -> None:
    """No entry is acknowledged that no checkpoint would ever cover."""
    disk = MemoryDisk()
    writer = opened(disk)
    acks(writer, note())

    def crash(call: str, name: str) -> None:
        raise RuntimeError("a fault of ours")

    disk.fail = crash
    publisher = Publisher(writer, 0.001)
    _until(lambda: writer.failed == "journal_io")
    publisher.stop()
    disk.fail = MemoryDisk().fail
    with pytest.raises(IntegrityError):
        writer.commit([note()])
