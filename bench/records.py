"""What a durable, sealed record costs the recorder's writer: admissions and closings in turn, passes included, no sockets."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import disk
from disk import Syncs
from result import Result
from rig import Rig

from sealward.clock import SystemClock
from sealward.formats.ids import rfc3339, ulid
from sealward.journal.durable import OsDisk
from sealward.journal.keys import load_keys
from sealward.journal.publisher import Publisher
from sealward.journal.writer import Draft, Writer


def measure(rig: Rig, seconds: float) -> Result:
    """Batches of each size for `seconds`, in turns with the bare fdatasync."""
    rows, syncs = [], Syncs(())
    for size in SIZES:
        folder = rig.folder / f"journal-{size}"
        subprocess.run([*INIT, str(folder)], check=True, capture_output=True)
        bare = disk.bare(rig, rig.folder, 200)
        with rig.on_proxy_core():
            rows.append(_batches(folder, size, seconds, bare.row()["p50"]))
        syncs += bare
    title = "Records: the recorder's writer alone, 1 KB events, each admission with its pass"
    chart = {f"batch {row['batch']}": {"µs CPU/request": row["µs CPU/request"]} for row in rows}
    note = "A request is two records. A checkpoint and its tiles are published twice a second in a thread; its CPU is counted."
    return Result("records", title, rows, [], "µs", chart, [note], fdatasync_us=syncs.row())


def _batches(folder: Path, size: int, seconds: float, bare_us: float) -> dict[str, Any]:
    writer = Writer.open(OsDisk(folder), load_keys(folder), clock=SystemClock(), random=os.urandom)
    took, building, start_cpu = [], 0.0, time.process_time()
    publisher = Publisher(writer)
    while sum(took) < seconds:
        begin = time.thread_time()
        admitted, closed = zip(*(_request() for _ in range(size)), strict=True)
        building += time.thread_time() - begin
        for drafts in (admitted, closed):
            start = time.perf_counter()
            writer.commit(drafts)
            took.append(time.perf_counter() - start)
    publisher.stop()
    writer.close()
    records, cpu = len(took) * size, time.process_time() - start_cpu - building
    return {
        "batch": size,
        "records/s": round(records / sum(took)),
        "µs CPU/request": 2 * cpu / records * 1e6,
        "commit p50 µs": statistics.median(took) * 1e6,
        "bare fdatasync p50 µs": bare_us,
    }


def _request() -> tuple[Draft, Draft]:
    """The two records of an ordinary request, each about 1 KB, from one of 400 callers."""
    now, request = time.time_ns() // 1000, ulid(time.time_ns() // 1000, os.urandom(10))
    common = {
        "v": 1,
        "time": rfc3339(now),
        "instance": "door-1",
        "tenant": "default",
        "subject": {"id": f"u{now % 400}", "kind": "human", "key_id": "k1", "groups": ["staff"], "authn": "apikey"},
        "source": {"addr": "10.0.0.1", "port": 40000, "tls_version": "1.3", "sni": "gateway.example"},
        "decision": {"outcome": "allow", "policy_digest": "sha256:" + "a" * 64, "policy_ids": ["p1"], "epoch": now // 1_000_000},
        "operation": {"name": "chat", "route": "/v1/chat/completions", "method": "POST", "stream": False},
        "model": {"alias": "chat", "id": "chat", "digest": "sha256:" + "b" * 64},
        "link": {"request": request},
    }
    admission = {"body": "c" * 64, "input": "d" * 64, "path": "/v1/chat/completions", "sidecar": "local:5f3c9a1e77d04b26"}
    outcome = {"status": 200, "input_tokens": 123, "output_tokens": 456, "ttft_us": 41000, "total_us": 1234000}
    digests = {"input_sha256": "d" * 64, "output_sha256": "e" * 64, "text_sha256": ["f" * 64]}
    admitted = common | {"id": ulid(now, os.urandom(10)), "type": "inference.admitted", "admission": admission}
    completed = {"type": "inference.completed", "outcome": outcome, "statement": digests}
    return Draft(admitted), Draft(common | {"id": ulid(now, os.urandom(10))} | completed)


SIZES = (1, 16, 256)
INIT = (sys.executable, "-m", "sealward", "journal", "init", "--origin", "bench.test/log")
