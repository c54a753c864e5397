"""The command line's promises as shell sessions: every file in tests/sessions is run as a person would type it.

    $ command            run in an empty folder; `sealward` is this package
    text                 the exact lines of stdout and stderr together; `…` stands for anything
    (exit 3)             the exit code where it is not 0

Blank lines and lines that start with # are for the reader.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uids import open_folder

SESSIONS = sorted(Path(__file__).parents[1].joinpath("sessions").glob("*.txt"))


@pytest.mark.parametrize("session", SESSIONS, ids=lambda path: path.stem)
def test_a_session_runs_as_written(session: Path) -> None:
    """What the documentation shows is what happens, word for word; nothing it started is left running."""
    with open_folder() as root:
        program, folder = root / "bin/sealward", root / "work"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\necho $$ >> "{root}/pids"\nexec "{sys.executable}" -P -m sealward "$@"\n')
        program.chmod(0o755)
        folder.mkdir()
        try:
            run(session, folder, {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(folder), "LC_ALL": "C.UTF-8"})
        finally:
            left = end(root / "pids")
    assert left == []


def run(session: Path, folder: Path, environment: dict[str, str]) -> None:
    """Every command of `session`, with its output and exit code as written."""
    for line, command, expected, code in steps(session.read_text()):
        shell = ["bash", "-c", f"exec 2>&1; {command}"]
        done = subprocess.run(shell, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        where = f"{session.name}:{line}: $ {command}\n{done.stdout}"
        assert done.returncode == code, where
        assert re.fullmatch(".*?".join(map(re.escape, expected.split("…"))), done.stdout.strip(), re.DOTALL), where


def end(pids: Path) -> list[str]:
    """Ends what still runs of the commands that the session started; their command lines."""
    left = []
    for pid in pids.read_text().split() if pids.exists() else []:
        line = Path(f"/proc/{pid}/cmdline")
        if line.exists() and b"sealward" in line.read_bytes():
            left.append(line.read_bytes().decode().replace("\0", " "))
            os.kill(int(pid), signal.SIGTERM)
            deadline = time.monotonic() + 60
            while line.exists() and line.read_bytes() and time.monotonic() < deadline:
                time.sleep(0.02)
    return left


def steps(text: str) -> list[tuple[int, str, str, int]]:
    """(line, command, expected output, exit code) of each command."""
    found: list[tuple[int, str, list[str], int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("$ "):
            found.append((number, line[2:], [], 0))
        elif match := re.fullmatch(r"\(exit (\d+)\)", line):
            at, command, lines, _ = found[-1]
            found[-1] = (at, command, lines, int(match[1]))
        elif line.strip() and not line.startswith("#"):
            found[-1][2].append(line)
    return [(number, command, "\n".join(lines), code) for number, command, lines, code in found]
