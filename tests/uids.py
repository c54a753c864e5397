"""Trying something as another user: in a forked child, since Python itself may lie in a folder that only root can enter."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def attempt(uid: int, action: Callable[[], object]) -> str:
    """`ok`, or the name of the OSError (`EACCES`) that `action` met as user `uid` with no other rights."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        result = "crashed"
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            action()
            result = "ok"
        except OSError as error:
            result = errno.errorcode.get(error.errno or 0, "OSError")
        finally:
            os.write(writing, result.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        result = answer.read()
    os.waitpid(child, 0)
    return result


def connect(path: Path) -> Callable[[], object]:
    """The attempt to connect to a unix socket."""

    def action() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))

    return action


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may pass through: any other run of pytest closes the parent of pytest's own again."""
    with tempfile.TemporaryDirectory(prefix="sealward-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def processes_of(folder: Path) -> list[int]:
    """The processes whose command line names `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and os.fsencode(folder) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def root_here() -> bool:
    """Whether users can be told apart here; without root it says loudly what is left out."""
    if os.geteuid() == 0:
        return True
    print("LEFT OUT: separation of users, which only root can set up")
    return False
