"""Load by wrk, and what each part of a subject spent on it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

import counters
from rig import HERE, Mock, Rig
from subject import PATH, Subject, chat


@dataclass(frozen=True, slots=True)
class Round:
    """One burst of load. `cpu_us`: part → CPU microseconds per request, or per chunk of a stream."""

    units: int
    cpu_us: dict[str, float]
    per_second: float
    busy: float  # share of the proxies' core that the subject used
    p50_us: float
    p99_us: float
    errors: int
    memory_mb: dict[str, float] = field(default_factory=dict)


class Load:
    """wrk with one thread on the load's core."""

    def __init__(self, rig: Rig, mock: Mock, connections: int, seconds: int, *, streamed: bool) -> None:
        self._rig, self._mock, self._connections, self._seconds, self._streamed = rig, mock, connections, seconds, streamed
        self._body = rig.folder / ("stream.json" if streamed else "whole.json")
        self._body.write_bytes(chat(streamed=streamed))

    def warm(self, subject: Subject) -> None:
        """Pools filled, code paths compiled."""
        self._burst(subject, 1)

    def round(self, subject: Subject) -> Round:
        """One burst and its cost. Work that lags behind the last answer (a published tile) is waited for and counted."""
        self._mock.settle()
        emitted, before, start = self._mock.emitted(), counters.cpu_by_part(subject.parts), time.monotonic()
        burst = self._burst(subject, self._seconds)
        took = time.monotonic() - start
        time.sleep(LAG_SECONDS)
        after = counters.cpu_by_part(subject.parts)
        units = self._mock.emitted() - emitted if self._streamed else burst["requests"]
        spent = {part: after[part] - before[part] for part in before}
        return Round(
            units=units,
            cpu_us={part: seconds * 1e6 / max(units, 1) for part, seconds in spent.items()},
            per_second=units / took,
            busy=sum(spent.values()) / took,
            p50_us=burst["p50"],
            p99_us=burst["p99"],
            # A burst of streams ends by cutting them off, which wrk counts as read errors: a bad status always counts.
            errors=burst["not_2xx"] + (0 if self._streamed else burst["errors"]),
            memory_mb={part: counters.memory_mb(pids) for part, pids in subject.parts.items()},
        )

    def _burst(self, subject: Subject, seconds: int) -> dict[str, Any]:
        command = ["wrk", "-t1", f"-c{self._connections}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
        command += ["-s", str(HERE / "load.lua"), subject.url + PATH]
        environment = {**os.environ, "BODY": str(self._body), "AUTH": subject.authorization}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds + 60, check=False)
        found = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
        if not found:
            raise SystemExit(f"wrk failed on {subject.name}:\n{done.stdout}{done.stderr}")
        result: dict[str, Any] = json.loads(found[1])
        return result


LAG_SECONDS = 0.3
