"""The log on disk: batches in segments are the truth, tiles and checkpoint are derived from them.

    checkpoint, tile/…                    public, one state a publication
    checkpoint.witnessed                  the last one that enough witnesses cosigned
    private/segments/<first>.seg          one frame a batch; dropped when a checkpoint covers them
    private/reserve                       1 MiB that a full disk gives back for one last entry

One thread appends. Another may publish: what it needs is taken under a lock, and no file of it is written under one.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Sequence

from sealward.errors import IntegrityError
from sealward.formats.fault import FormatError
from sealward.formats.merkle import EMPTY_ROOT, leaf_hash
from sealward.formats.note import Checkpoint, LogSigner, open_checkpoint
from sealward.formats.tiles import Edge
from sealward.journal.durable import Disk
from sealward.journal.predecessor import SUCCESSOR
from sealward.journal.segments import batches, frame, needed


class Log:
    """Open for writing. Opening checks everything before it changes anything, then drops a torn last batch.

    IntegrityError: "locked", "journal_damaged" (the disk is not what was promised), "journal_full". `now`: Unix seconds,
    for the time in a checkpoint's cosignature.
    """

    def __init__(self, disk: Disk, signer: LogSigner, now: Callable[[], int]) -> None:
        self._disk, self._signer, self._now = disk, signer, now
        self._edge_lock, self._publish_lock = threading.Lock(), threading.Lock()  # the first also guards _starts
        self.failed: str | None = None
        try:
            disk.lock()
            _refuse_if_succeeded(disk)
            self._published, self._note = self._last_checkpoint()
            self._starts, last, self.dropped_bytes = self._recover()
            self._rewrite(last)
            self._restore_reserve()
        except OSError as error:
            disk.close()
            raise self.fail(error) from error
        except IntegrityError:
            disk.close()
            raise

    @property
    def size(self) -> int:
        """Durable entries."""
        return self._edge.size

    @property
    def published(self) -> int:
        """Entries that the last checkpoint covers."""
        return self._published.size if self._published else 0

    def append(self, entries: Sequence[bytes]) -> list[bytes]:
        """One batch, durable on return: its leaf hashes. OSError: nothing of it counts; `fail` comes next."""
        self._segment.append(frame(self.size, entries))
        leaves = [leaf_hash(entry) for entry in entries]
        with self._edge_lock:
            for entry, leaf in zip(entries, leaves, strict=True):
                self._edge.append(entry, leaf)
        if self._segment.durable > SEGMENT_BYTES:
            self._roll()
        return leaves

    def publish(self) -> None:
        """Tiles durable first, then the checkpoint that needs them. IntegrityError: the log has `failed`."""
        with self._publish_lock:
            if self._published is not None and self._published.size == self.size:
                return
            with self._edge_lock:
                make = self._edge.take()
            made = make()
            try:
                self._disk.replace(made.files)
                note = self._signer.checkpoint(made.size, made.root, self._now())
                self._disk.replace([(CHECKPOINT, note)])
                with self._edge_lock:
                    self._edge.settle(made)
                self._published, self._note = Checkpoint(self.origin, made.size, made.root), note
                self._tidy([name for name, _ in made.files[: made.full]])
            except OSError as error:
                raise self.fail(error) from error

    def said(self) -> tuple[Checkpoint, bytes] | None:
        """The last checkpoint and its note; None before the first. Waits for one that is being published."""
        with self._publish_lock:
            return (self._published, self._note) if self._published is not None else None

    def cosigned(self, checkpoint: Checkpoint, note: bytes, *, enough: bool) -> None:
        """`note` is that of `said`, with witnesses' lines: it takes its place unless there is a newer checkpoint.

        With `enough` lines it is kept as the last witnessed one too. IntegrityError: the log has `failed`.
        """
        with self._publish_lock:
            current = checkpoint == self._published
            names = [CHECKPOINT] * current + [WITNESSED] * enough
            if self.failed or not names:
                return
            try:
                self._disk.replace([(name, note) for name in names])
            except OSError as error:
                raise self.fail(error) from error
            self._note = note if current else self._note

    @property
    def origin(self) -> str:
        return self._signer.verifier.name

    def fail(self, error: OSError) -> IntegrityError:
        """Nothing more is admitted until `resume`."""
        self.failed = "journal_full" if error.errno in FULL else "journal_io"
        return IntegrityError(self.failed, str(error))

    def free_reserve(self) -> None:
        """Room on a full disk, for `last_words`."""
        with contextlib.suppress(OSError):
            self._disk.remove([RESERVE])

    def last_words(self, entry: bytes) -> None:
        """One more entry of a log that has failed. OSError: it is not written."""
        self._segment.append(frame(self.size, [entry]))
        with self._edge_lock:
            self._edge.append(entry, leaf_hash(entry))

    def resume(self) -> None:
        """After a failure: the durable part of the last segment goes into a new file, through a new descriptor.

        What the old descriptor failed to sync may look written and not be. OSError: still failing.
        """
        with self._publish_lock:
            old = self._segment
            self._rewrite(self._disk.read(_segment_name(self._starts[-1]))[: old.durable])
            old.close()
            self._restore_reserve()
            self.failed = None

    def close(self) -> None:
        """Gives up the lock. Publish first."""
        self._segment.close()
        self._disk.close()

    def _last_checkpoint(self) -> tuple[Checkpoint | None, bytes]:
        try:
            note = self._disk.read(CHECKPOINT)
            return open_checkpoint(note, self._signer.verifier)[0], note
        except FileNotFoundError:
            return None, b""
        except FormatError as error:
            raise _damaged(f"the checkpoint is not the log's: {error.detail}") from error

    def _recover(self) -> tuple[list[int], bytes, int]:
        """Replays the segments onto the edge: their first indices, the sound part of the last, and the torn bytes behind it.

        An intact batch that nobody saw acknowledged is kept.
        """
        promised = self._published or Checkpoint(self.origin, 0, EMPTY_ROOT)
        starts = [int(name.removesuffix(".seg")) for name in self._disk.names(SEGMENTS)] or [promised.size]
        if starts[0] > promised.size:
            raise _damaged(f"entries {promised.size} to {starts[0] - 1} are missing")
        live = needed(starts, promised.size)
        self._restore_edge(live[0], promised)
        data, good = b"", 0
        for start in live:
            if start != self._edge.size or good != len(data):
                raise _damaged(f"the segment before entry {start} does not end there")
            data, good = self._segment_data(start), 0
            for entries, good in batches(data, start):  # noqa: B007 - the last value is used below
                for entry in entries:
                    self._edge.append(entry, leaf_hash(entry))
                    self._meet(promised)
        if self._edge.size < promised.size:
            raise _damaged(f"{self._edge.size} entries, the checkpoint says {promised.size}")
        return starts, data[:good], len(data) - good

    def _restore_edge(self, start: int, promised: Checkpoint) -> None:
        try:
            self._edge = Edge.restore(start, promised.size, self._disk.read)
        except (FileNotFoundError, FormatError) as error:
            raise _damaged(f"public files of the first {start} entries: {error}") from error
        self._meet(promised)

    def _meet(self, promised: Checkpoint) -> None:
        """At the size of the checkpoint the tree must be the signed one."""
        if self._edge.size == promised.size:
            if self._edge.root() != promised.root:
                raise _damaged("the entries are not those of the checkpoint")
            self._edge.forget()

    def _segment_data(self, start: int) -> bytes:
        try:
            return self._disk.read(_segment_name(start))
        except FileNotFoundError:
            return b""

    def _rewrite(self, data: bytes) -> None:
        """A new segment of what no checkpoint covers, out of the `data` of the last one.

        After a failed sync the page cache can show bytes that are not on disk: only a fresh copy is known to be there.
        """
        index, at = self._starts[-1], 0
        for entries, end in batches(data, index):
            if index + len(entries) > self.published:
                break
            index, at = index + len(entries), end
        self._disk.replace([(_segment_name(index), data[at:])])
        self._segment = self._disk.appender(_segment_name(index))
        self._starts = [*(start for start in self._starts if start < index), index]
        self._drop_covered()

    def _roll(self) -> None:
        """The batch that filled the segment is durable already: what fails here, fails the next one."""
        try:
            segment = self._disk.appender(_segment_name(self.size))
        except OSError as error:
            self.fail(error)
            return
        self._segment.close()
        self._segment = segment
        with self._edge_lock:
            self._starts.append(self.size)

    def _restore_reserve(self) -> None:
        if RESERVE.rpartition("/")[2] not in self._disk.names("private"):
            try:
                self._disk.replace([(RESERVE, bytes(RESERVE_BYTES))])
            except OSError as error:
                raise IntegrityError(
                    "journal_full", "no room for the reserve", remedy="free space on the journal's disk"
                ) from error

    def _tidy(self, full: Sequence[str]) -> None:
        """A full file replaces its partial ones, and a covered segment is no longer the only copy."""
        self._disk.remove([f"{name}.p/{width}" for name in full for width in self._disk.names(f"{name}.p")])
        self._drop_covered()

    def _drop_covered(self) -> None:
        with self._edge_lock:
            live = needed(self._starts, self.published)
            covered = [start for start in self._starts if start not in live]
            self._starts = live
        self._disk.remove([_segment_name(start) for start in covered])


def _segment_name(start: int) -> str:
    return f"{SEGMENTS}/{start:020d}.seg"


def _refuse_if_succeeded(disk: Disk) -> None:
    try:
        heir = disk.read(SUCCESSOR).decode("utf-8", "replace").partition("+")[0]
    except FileNotFoundError:
        return
    raise IntegrityError("journal_damaged", f"this log has ended; {heir} goes on", remedy="read it; write to its successor")


def _damaged(detail: str) -> IntegrityError:
    remedy = "nothing was changed; see `sealward journal verify`, then `sealward recover journal --successor`"
    return IntegrityError("journal_damaged", detail, remedy=remedy)


FULL = {errno.ENOSPC, errno.EDQUOT}
CHECKPOINT, WITNESSED = "checkpoint", "checkpoint.witnessed"
SEGMENTS, RESERVE = "private/segments", "private/reserve"
SEGMENT_BYTES, RESERVE_BYTES = 16 << 20, 1 << 20
