"""The bars of latency: first and last byte of one caller, beside the bare fdatasync taken in the same turns."""

from __future__ import annotations

from collections.abc import Sequence

import disk
import latency
from latency import Times
from result import Bar, Result
from rig import Mock, Rig
from subject import Subject


def measure(rig: Rig, mock: Mock, subjects: Sequence[Subject], rounds: int) -> Result:
    """Whole answers and short streams in turns with the bare fdatasync and with the mock asked directly."""
    mock.pace(gap_ms=0, chunks=STREAM_CHUNKS)
    direct = Subject("mock alone", "no proxy, no TLS", f"http://127.0.0.1:{mock.port}", "none", {})
    found = {(one.name, shape): Times() for one in [direct, *subjects] for shape in SHAPES}
    syncs = disk.bare(rig, rig.folder, BLOCK)
    for _ in range(rounds):
        for one in [direct, *subjects]:
            for shape in SHAPES:
                latency.ask(one, BLOCK, found[one.name, shape], streamed=shape == "stream")
            syncs += disk.bare(rig, rig.folder, BLOCK)
    rows = [{"subject": name, "answer": shape, **times.row()} for (name, shape), times in found.items()]
    hop = {shape: found["sealward", shape].cpu_us("sidecar") for shape in SHAPES}
    bars = [bar for shape in SHAPES for bar in _bars(shape, found["sealward", shape], syncs.row()["p50"], hop[shape])]
    whole = "A whole answer leaves in one piece after its closing entry (a failing journal is still a 503): first byte = last."
    note = (
        f"The sidecar's hop, taken off in the bars: its CPU a request at one connection, {hop['whole']:.0f} µs (whole), "
        f"{hop['stream']:.0f} µs (stream of {STREAM_CHUNKS} chunks). Nothing is taken off for the mock, the client or TLS."
    )
    return Result("latency", "Latency at one connection, µs", rows, bars, notes=[whole, note], fdatasync_us=syncs.row())


def _bars(shape: str, times: Times, sync_us: float, hop_us: float) -> list[Bar]:
    row, what = times.row(), f"p50, {shape} answer, without the sidecar's hop, µs"
    return [
        Bar(f"first byte ≤ one fdatasync + 500 = {sync_us + 500:.0f} ({what})", row["first_p50"] - hop_us, sync_us + 500),
        Bar(f"last byte ≤ two fdatasync + 500 = {2 * sync_us + 500:.0f} ({what})", row["last_p50"] - hop_us, 2 * sync_us + 500),
    ]


SHAPES = ("whole", "stream")
STREAM_CHUNKS = 16
BLOCK = 100
