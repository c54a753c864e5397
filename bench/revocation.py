"""How long a key lives on after `apikey revoke`: until both doors refuse it, and until its running stream ends.

The clock starts before the revoking request is sent to control's socket and stops when the caller sees the refusal or the end,
so control's own work, its two entries and the signer are in every figure. Each round has a key of its own, and a second key
whose stream must go on.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ours
from result import Bar, Result
from rig import Mock, Rig
from subject import PATH, Subject, chat

from sealward.cli.admin import AdminApi, local
from sealward.settings import Settings


def measure(rig: Rig, mock: Mock, subject: Subject, rounds: int) -> Result:
    """`rounds` keys, one after the other."""
    home = rig.folder / "deployment"
    doors, api = Settings.load(home).doors, local(home)
    ports = {"inference door": doors.inference.listen.port, "management door": doors.management.listen.port}
    mock.pace(gap_ms=STREAM_GAP_MS, chunks=STREAM_CHUNKS)
    found: dict[str, list[float]] = {name: [] for name in (*ports, "its running stream")}
    touched = 0
    for _ in range(rounds):
        touched += _round(home, api, ports, found)
    rows = [{"until": name, **_row(times)} for name, times in found.items()]
    bars = [
        Bar(f"{row['until']} refuses or ends (p99, ms)", row["p99 ms"], limit) for row, limit in zip(rows, LIMITS, strict=True)
    ]
    note = f"{rounds} keys, each revoked while it streamed and was asked at both doors; another key's stream went on each time."
    return Result("revocation", f"From `revoke` to its effect, {subject.does}", rows, bars, notes=[note], errors=touched)


def _round(home: Path, api: AdminApi, ports: dict[str, int], found: dict[str, list[float]]) -> int:
    """1 when the other key's stream was touched."""
    key, other = (api.post("apikeys", {"owner": ours.CALLER})["key"] for _ in range(2))
    ended: dict[str, float] = {}
    with _stream(home, ports["inference door"], key) as mine, _stream(home, ports["inference door"], other) as untouched:
        mine.read(1), untouched.read(1)
        watches = [_Watch(home, port, key, PROBES[name]) for name, port in ports.items()]
        threads = [
            threading.Thread(target=_note, args=(ended, name, watch.refused)) for name, watch in zip(ports, watches, strict=True)
        ]
        threads.append(threading.Thread(target=_note, args=(ended, "its running stream", lambda: _read_out(mine))))
        for thread in threads:
            thread.start()
        start = time.monotonic()
        api.post(f"apikeys/{key.split('_')[2]}/revoke")
        for thread in threads:
            thread.join(10)
        for name, times in found.items():
            times.append((ended.get(name, float("inf")) - start) * 1e3)
        return int(not untouched.read(1))


class _Watch:
    """Asks with the key, again and again on one connection."""

    def __init__(self, home: Path, port: int, key: str, path: str) -> None:
        self._connection, self._path = http.client.HTTPSConnection("localhost", port, timeout=10, context=_tls(home)), path
        self._headers = {"Authorization": f"Bearer {key}"}
        if self._ask() == REFUSED:
            raise SystemExit("a key that was just made is refused")

    def refused(self) -> None:
        """Returns at the first 401."""
        until = time.monotonic() + 10
        while self._ask() != REFUSED and time.monotonic() < until:
            time.sleep(PAUSE_S)

    def _ask(self) -> int:
        self._connection.request("GET", self._path, headers=self._headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status


@contextmanager
def _stream(home: Path, port: int, key: str) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=_tls(home))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", PATH, chat(streamed=True), headers)
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        raise SystemExit(f"a stream was answered {answer.status}: {json.loads(answer.read())}")
    try:
        yield answer
    finally:
        connection.close()


def _read_out(answer: http.client.HTTPResponse) -> None:
    try:
        while answer.read1():
            pass
    except (OSError, http.client.HTTPException):
        return  # cut hard: an end like any other


def _note(ended: dict[str, float], name: str, wait: Callable[[], None]) -> None:
    wait()
    ended[name] = time.monotonic()


def _tls(home: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=home / "tls/ca.pem")


def _row(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {f"p{percent} ms": ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] for percent in (50, 99)} | {
        "max ms": ordered[-1]
    }


REFUSED, PAUSE_S = http.client.UNAUTHORIZED, 0.001
PROBES = {"inference door": "/v1/models", "management door": "/api/v1/status"}
LIMITS = (50.0, 50.0, 100.0)
STREAM_GAP_MS, STREAM_CHUNKS = 20, 2000
