"""A process of the door's shape without a door: `crew_trivial.py COUNT` says what happens to its workers on stdout."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sealward.gateway.master import Crew


def say(*words: object) -> None:
    """One line, at once."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def work(number: int, ready: Callable[[], None]) -> None:
    """Serves until SIGTERM; worker 1 drains for ever where STUBBORN says so."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    if Path(sys.argv[2]).exists():
        raise RuntimeError("cannot serve")
    say("worker", number, os.getpid())
    ready()
    while not ended or (number == 1 and "STUBBORN" in os.environ):
        time.sleep(0.005)
    say("drained", number)


if __name__ == "__main__":
    Crew(int(sys.argv[1]), work, drain_s=0.5).run(lambda: say("ready"))
    say("over")
