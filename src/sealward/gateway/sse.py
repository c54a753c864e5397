"""Server-sent events out of arbitrary pieces (WHATWG HTML, section 9.2): one read is never one event.

Lines end in LF, CRLF or CR; `data` lines of one event join with LF; comments and other fields pass. Bytes stay bytes: a code
point that a read has cut is whole again when its line is.
"""

from __future__ import annotations


class Events:
    """Feed it what arrives; it gives the data of each complete event. Holds at most one unfinished event of `limit` bytes."""

    __slots__ = ("_after_cr", "_data", "_held", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = b""
        self._data: list[bytes] = []
        self._after_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """ValueError: an event of more than `limit` bytes."""
        found: list[bytes] = []
        if not self._held and not self._data and not self._after_cr and b"\r" not in piece and piece.endswith(b"\n\n"):
            for block in piece[:-2].split(b"\n\n"):  # the usual case: whole events
                if block.startswith(b"data: ") and b"\n" not in block:
                    found.append(block[6:])
                else:
                    self._lines(block.split(b"\n"), found)
                    self._blank(found)
            return found
        text = self._held + piece
        if self._after_cr and text:
            self._after_cr = False
            text = text.removeprefix(b"\n")
        if b"\r" in text:
            # A CR at the very end may be the first half of CRLF: it ends its line now, and the LF is skipped later.
            self._after_cr = text.endswith(b"\r")
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = text.split(b"\n")
        self._held = lines.pop()
        self._lines(lines, found)
        if len(self._held) + sum(map(len, self._data)) > self._limit:
            raise ValueError("an event is too large")
        return found

    @property
    def unfinished(self) -> bool:
        """Whether something is held that no blank line has ended."""
        return bool(self._held or self._data)

    def _lines(self, lines: list[bytes], found: list[bytes]) -> None:
        for line in lines:
            if not line:
                self._blank(found)
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line == b"data":
                self._data.append(b"")

    def _blank(self, found: list[bytes]) -> None:
        if self._data:
            found.append(b"\n".join(self._data))
            self._data.clear()
