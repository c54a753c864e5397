"""Acts of the owner without any daemon: each is a line of `recovery/recovery.log` before it is done (contracts.md section 7).

The folder is the owner's; the recorder's group may read it. The recorder makes entries of the lines; it needs none to be there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sealward.errors import ConfigurationError, IntegrityError, UsageError
from sealward.formats.event import tidy_text
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339
from sealward.formats.recovery import parse_recovery_log, recovery_line
from sealward.host.deployment import Deployment
from sealward.host.files import put
from sealward.process import User


def act(deployment: Deployment, origin: str, *, verb: str, state: str, because: str, now_us: int) -> int:
    """The number of the line that says so, durable on return. Only the owner and root may.

    `verb` without `recover`: "journal --successor", "witness drop NAME"; `state`: what is recovered from (a code). UsageError: no
    reason was given. IntegrityError: the log was changed.
    """
    words = tidy_text(" ".join(because.split()))[:MAX_WORDS]
    if not words:
        raise UsageError("say why", remedy="--because TEXT")
    file = deployment.base / FILE
    if not file.parent.is_dir():
        raise ConfigurationError(f"{file.parent} is missing", remedy="run `sealward init` again: it adds what is missing")
    line = {"time": rfc3339(now_us), "by": f"uid:{os.getuid()}", "verb": verb, "state": state, "because": words}
    owner = User(deployment.owner.uid, deployment.users["recorder"].gid)
    with _alone(file.parent):
        origin = _chain(file.parent / ORIGIN, origin, owner)
        before = file.read_bytes() if file.exists() else b""
        try:
            after = before + recovery_line(before, origin, line)
        except FormatError as error:
            remedy = "restore it from a copy; the journal holds every line that was taken in"
            raise IntegrityError("recovery_log", f"{file}: {error}", remedy=remedy) from error
        put(file, after, owner, 0o640, replace=True)
        return len(parse_recovery_log(after, origin)) - 1


def _chain(file: Path, origin: str, owner: User) -> str:
    """The origin that the first line was written under: the log is never cut, also where the journal has a successor."""
    if not file.exists():
        put(file, origin.encode() + b"\n", owner, 0o640)
    return file.read_text("utf-8").removesuffix("\n")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two acts at once would write two lines of one number."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


FILE, ORIGIN = "recovery/recovery.log", "origin"
MAX_WORDS = 1024
