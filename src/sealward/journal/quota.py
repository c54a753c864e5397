"""Who may still write when space gets short (contracts.md section 5).

Anonymous callers fill at most 5 % of the room there was, and 64 MiB stay for administration. Closing entries need no quota:
their bytes are set aside while their requests are open.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Kind(StrEnum):
    """For whom an entry is written."""

    ADMIN = "admin"  # administration, our own processes, closings
    TRAFFIC = "traffic"  # admissions, and refusals of proven callers
    ANONYMOUS = "anonymous"  # refusals before anybody was proven


class Quota:
    """Room by class. `free` says how many bytes the disk still has; it is asked once a second (`boot` seconds)."""

    def __init__(self, free: Callable[[], int], boot: Callable[[], float]) -> None:
        self._free, self._boot = free, boot
        self._asked, self._room = boot(), free()
        self._anonymous = 0  # KNOWN: counted since this process started

    def allows(self, kind: Kind, *, open_requests: int = 0) -> bool:
        """Whether an entry of this class may be written now."""
        if kind is Kind.ADMIN:
            return True
        if self._boot() - self._asked >= ASK_EVERY:
            self._asked, self._room = self._boot(), self._free()
        if kind is Kind.ANONYMOUS and self._anonymous > ANONYMOUS_SHARE * (self._room + self._anonymous):
            return False
        return self._room >= ADMIN_BYTES + open_requests * ENTRY_BYTES

    def wrote(self, kind: Kind, size: int) -> None:
        """Counts what anonymous callers have filled."""
        if kind is Kind.ANONYMOUS:
            self._anonymous += size


ADMIN_BYTES = 64 << 20
ANONYMOUS_SHARE = 0.05
ENTRY_BYTES = 32 << 10
ASK_EVERY = 1.0
