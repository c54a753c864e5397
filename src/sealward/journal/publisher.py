"""The thread that publishes: inline, the many small syncs of tiles would stand between callers and their answers."""

from __future__ import annotations

import threading

from sealward.errors import IntegrityError
from sealward.journal.writer import Writer


class Publisher:
    """Publishes every `seconds` while there is something new. What fails is said by `Writer.failed`; it goes on trying."""

    def __init__(self, writer: Writer, seconds: float = 0.5) -> None:
        self._writer, self._seconds = writer, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher")
        self._thread.start()

    def stop(self) -> None:
        """Returns when nothing is being written any more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._ended.wait(self._seconds):
                try:
                    self._writer.publish()
                except IntegrityError:
                    continue  # the writer refuses from here on, until its owner has made it resume
        finally:
            if not self._ended.is_set():
                self._writer.halt("journal_io")  # nothing may be admitted that no checkpoint will ever cover
