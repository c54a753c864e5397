"""Clocks are arguments. A state machine asks the one it was given, so a test can stop, step and rewind time.

`now` is wall time, for what people and other hosts read; `boot` never steps and counts sleep, for every age and deadline.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings of one moment."""

    def now(self) -> int:
        """Microseconds since 1970 UTC."""

    def boot(self) -> float:
        """Seconds since boot, sleep included (CLOCK_BOOTTIME): what a heartbeat's age is measured by."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
