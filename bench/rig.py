"""Two cores: what is measured runs on the first, the load generator, the mock model server and this program on the second."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Rig:
    """Starts programs pinned to a core, keeps their output in `folder`, ends all of them when the run ends."""

    def __init__(self, folder: Path) -> None:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise SystemExit("the bench needs two cores: one for the proxies, one for the load")
        self.folder, self.proxy_core, self.load_core = folder, cores[0], cores[1]
        self._running: list[subprocess.Popen[bytes]] = []
        os.sched_setaffinity(0, {self.load_core})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in reversed(self._running):
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def proxy(self, name: str, command: Sequence[str], environment: Mapping[str, str] = {}) -> subprocess.Popen[bytes]:
        """A program under measurement, on the proxies' core."""
        return self._spawn(name, command, environment, self.proxy_core)

    def mock(self) -> Mock:
        """The model server of `mock.c`, compiled and listening."""
        program, port = self.folder / "mock", free_port()
        subprocess.run(["cc", "-O2", "-o", str(program), str(HERE / "mock.c")], check=True)
        process = self._spawn("mock", [str(program), str(port)], {}, self.load_core)
        self.wait(process, "mock", port)
        return Mock(port, process.pid)

    def wait(self, process: subprocess.Popen[bytes], name: str, port: int, seconds: float = 15) -> None:
        """Until `port` answers. SystemExit with the program's own words when it does not."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit(f"{name} did not start:\n{self.output(name)}")

    @contextmanager
    def on_proxy_core(self) -> Iterator[None]:
        """This program itself on the proxies' core, for as long as the block lasts."""
        os.sched_setaffinity(0, {self.proxy_core})
        try:
            yield
        finally:
            os.sched_setaffinity(0, {self.load_core})

    def output(self, name: str) -> str:
        """The last words of a program."""
        return (self.folder / f"{name}.out").read_text(errors="replace")[-2000:]

    def _spawn(self, name: str, command: Sequence[str], environment: Mapping[str, str], core: int) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.out").open("wb") as out:
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                start_new_session=True,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
            )
        self._running.append(process)
        return process


@dataclass(frozen=True, slots=True)
class Mock:
    """The model server: answers at once, streams at any pace, counts what it sent."""

    port: int
    pid: int

    def pace(self, gap_ms: int, chunks: int) -> None:
        """From now on a stream has `chunks` chunks, one each `gap_ms` (0: as fast as the socket takes them)."""
        self._get(f"/ctl?gap={gap_ms}&n={chunks}")

    def emitted(self) -> int:
        """Chunks sent so far."""
        return int(self._get("/stat")["emitted"])

    def served(self) -> int:
        """Answers completed so far."""
        return int(self._get("/stat")["served"])

    def settle(self) -> None:
        """Until no stream runs: what a proxy did not cut when its clients left would be counted for the next one."""
        before = -1
        while (now := self.emitted()) != before:
            before = now
            time.sleep(0.3)

    def _get(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


HERE = Path(__file__).resolve().parent
END_SECONDS = 20  # a deployment drains, in its own order
