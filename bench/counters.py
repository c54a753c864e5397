"""What a process used, as the kernel counts it: survives a busy machine better than requests per second do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, to the nanosecond: the counter behind /proc/PID/stat, read by its clock.

    The clock's number is clock_getcpuclockid(3)'s. OSError when the process is gone: its run is void then.
    """
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


def cpu_by_part(parts: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """CPU seconds of each part of a subject."""
    return {part: sum(map(cpu_seconds, pids)) for part, pids in parts.items()}


def memory_mb(pids: Iterable[int]) -> float:
    """Proportional set size: pages that processes share are counted once."""
    total = 0
    for pid in pids:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        total += int(found[1]) if found else 0
    return total / 1024


def descendants(pid: int) -> list[int]:
    """The process and everything it started, parents first."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def command_line(pid: int) -> list[str]:
    """The arguments a process was started with."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


CPUCLOCK_SCHED = 2
