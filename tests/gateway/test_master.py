"""A master and its workers, as processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SCRIPT = Path(__file__).with_name("crew_trivial.py")


class Running:
    """One run; `lines` is what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.lines = process, list[str]()

    def until(self, true: Callable[[list[str]], object]) -> None:
        """Read on until it has said enough."""
        end = time.monotonic() + 20
        while not true(self.lines):
            assert self.process.stdout is not None
            line = self.process.stdout.readline().decode().strip()
            assert line, f"it ended: {self.lines}"
            assert time.monotonic() < end
            self.lines.append(line)

    def workers(self) -> list[tuple[int, int]]:
        """Number and process id of each worker that began."""
        return [(int(number), int(pid)) for word, number, pid in (x.split() for x in self.lines if x.startswith("worker"))]


@contextlib.contextmanager
def crew(folder: Path, count: int, **environment: str) -> Iterator[Running]:
    """The script, ended afterwards whatever happened."""
    command = [sys.executable, str(SCRIPT), str(count), str(folder / "broken")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | environment) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def gone(pid: int) -> bool:
    """Whether no such process is left."""
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.005)
    return not Path(f"/proc/{pid}").exists()


def test_it_is_ready_when_all_its_workers_are(tmp_path: Path) -> None:
    """And SIGTERM lets each come to its end."""
    with crew(tmp_path, 3) as run:
        run.until(lambda lines: "ready" in lines)
        assert sorted(number for number, _ in run.workers()) == [1, 2, 3]
        run.process.send_signal(signal.SIGTERM)
        run.until(lambda lines: "over" in lines)
        assert sum(line.startswith("drained") for line in run.lines) == 3
        assert run.process.wait(10) == 0


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    """Under its number; the others are not touched."""
    with crew(tmp_path, 2) as run:
        run.until(lambda lines: "ready" in lines)
        before = dict(run.workers())
        os.kill(before[1], signal.SIGKILL)
        run.until(lambda _: len(run.workers()) == 3)
        assert run.workers()[-1][0] == 1
        assert Path(f"/proc/{before[2]}").exists()
        run.process.send_signal(signal.SIGTERM)
        run.until(lambda lines: "over" in lines)


def test_a_worker_that_cannot_begin_ends_the_whole_process(tmp_path: Path) -> None:
    """The supervisor sees a process that did not start, not one that tries for ever."""
    (tmp_path / "broken").touch()
    with crew(tmp_path, 2) as run:
        assert run.process.wait(20) == 1


def test_a_worker_that_does_not_drain_is_killed_in_time(tmp_path: Path) -> None:
    """One slow stream does not hold up the end."""
    with crew(tmp_path, 2, STUBBORN="1") as run:
        run.until(lambda lines: "ready" in lines)
        run.process.send_signal(signal.SIGTERM)
        run.until(lambda lines: "over" in lines)
        assert "drained 2" in run.lines
        assert "drained 1" not in run.lines
        assert all(gone(pid) for _, pid in run.workers())


def test_a_master_that_is_killed_takes_its_workers_along(tmp_path: Path) -> None:
    """By the parent-death signal: no worker serves on without its master."""
    with crew(tmp_path, 2) as run:
        run.until(lambda lines: "ready" in lines)
        run.process.kill()
        assert all(gone(pid) for _, pid in run.workers())
