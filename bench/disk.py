"""The bare fdatasync of this disk at this minute: what every durable figure is to be read beside."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from rig import Rig


@dataclass(frozen=True, slots=True)
class Syncs:
    """Durations of append + fdatasync, microseconds."""

    took_us: tuple[float, ...]

    def row(self) -> dict[str, float]:
        """Median and 99th percentile."""
        return {"p50": statistics.median(self.took_us), "p99": statistics.quantiles(self.took_us, n=100)[98]}

    def __add__(self, other: Syncs) -> Syncs:
        return Syncs(self.took_us + other.took_us)


def bare(rig: Rig, folder: Path, count: int) -> Syncs:
    """Appends of 2 KB, the size of one entry, each made durable; on the proxies' core, in the folder of the journal's disk."""
    path, block, took = folder / "bare", os.urandom(2048), []
    with rig.on_proxy_core():
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        for _ in range(count):
            start = time.perf_counter()
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            took.append((time.perf_counter() - start) * 1e6)
        os.close(descriptor)
    path.unlink()
    return Syncs(tuple(took))
