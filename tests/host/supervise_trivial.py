"""A supervisor over trivial programs: `supervise_trivial.py HOME` supervises, `supervise_trivial.py HOME ROLE` is one of them.

Each program answers every connection with `role uid pid` and lives by files in HOME/behave: `ROLE.mute` never says READY,
`ROLE.exit` holds the status it ends with at once, `ROLE.deaf` ignores SIGTERM, `ROLE.fork` leaves a child behind.
With HOME/behave/patient the supervisor waits an hour for each to drain.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import selectors
import signal
import sys
from pathlib import Path

from sealward.cli.be import start_of
from sealward.cli.log import log_to_stderr
from sealward.clock import SystemClock
from sealward.errors import SealwardError
from sealward.host.deployment import Deployment
from sealward.host.keeper import Role
from sealward.host.supervisor import Supervisor
from sealward.settings import Settings

ROLES = (
    Role("signer", ("door", "control"), ready_s=20, drain_s=1),
    Role("recorder", ("door", "supervisor"), ready_s=20, drain_s=1),
    Role("door", door="inference", ready_s=20, drain_s=1),
)


class FileSink:
    """Events as lines of a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def record(self, event: dict[str, object]) -> None:
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    async def drain(self) -> None:
        self._file.write(json.dumps({"type": "drained"}) + "\n")
        self._file.flush()


def supervise(home: Path) -> None:
    """Until SIGTERM."""
    log_to_stderr("supervisor")
    settings = Settings.load(home)
    sink = FileSink(home / "events")

    async def main() -> None:
        deployment = Deployment.at(home)
        command = [sys.executable, "-P", __file__, str(home)]
        patient = (home / "behave/patient").exists()
        roles = [dataclasses.replace(role, drain_s=3600) for role in ROLES] if patient else ROLES
        await Supervisor(
            deployment, settings.doors, clock=SystemClock(), sink=sink, roles=roles, command=lambda role, base: [*command, role]
        ).run()

    asyncio.run(main())


def play(home: Path, role: str) -> None:
    """One trivial process."""
    behave = home / "behave"
    if (behave / f"{role}.exit").exists():
        sys.exit(int((behave / f"{role}.exit").read_text()))
    if (behave / f"{role}.deaf").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    start = start_of(role, home, os.environ)
    mute, fork = (behave / f"{role}.mute").exists(), (behave / f"{role}.fork").exists()
    start.drop()
    if fork and os.fork() == 0:
        signal.pause()
    if not mute:
        start.ready()
    selector = selectors.DefaultSelector()
    for listener in start.listeners.values():
        selector.register(listener, selectors.EVENT_READ)
    if not start.listeners:
        signal.pause()
    while True:
        for key, _ in selector.select():
            with key.fileobj.accept()[0] as connection:
                connection.sendall(f"{role} {os.getuid()} {os.getpid()}".encode())


if __name__ == "__main__":
    try:
        supervise(Path(sys.argv[1])) if len(sys.argv) == 2 else play(Path(sys.argv[1]), sys.argv[2])
    except SealwardError as error:
        print(error.detail, file=sys.stderr)
        sys.exit(error.exit_code)
