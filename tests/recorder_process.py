"""A recorder as a process over one journal, run after run, and blocking connections to its sockets."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recorder_alone import EPOCH
from recorder_desk import Desk
from sealward.formats.frames import Frames, frame
from sealward.formats.ids import ulid
from sealward.formats.note import Verifier
from sealward.journal.durable import OsDisk
from sealward.journal.init import create
from sealward.journal.keys import SubjectKeys, load_purpose_key
from sealward.journal.reader import Reader

Message = dict[str, Any]
PROGRAM = Path(__file__).parent / "recorder_alone.py"


@contextlib.contextmanager
def recorder() -> Iterator[Process]:
    """One that runs; what is left of it is killed."""
    folder = Path(tempfile.mkdtemp(prefix="sealward-"))
    folder.chmod(0o755)
    process = Process(folder)
    try:
        yield process
    finally:
        process.kill()
        print(process.log())  # shown where the test failed
        shutil.rmtree(folder)


class Line:
    """One blocking connection to a socket of the recorder."""

    def __init__(self, process: Process, role: str) -> None:
        self._socket, self._frames, self._n = socket.socket(socket.AF_UNIX), Frames(), 0
        self._got: list[Message] = []
        self._socket.settimeout(20)
        until = time.monotonic() + 20
        while True:
            try:
                self._socket.connect(str(process.run / f"recorder.{role}.sock"))
            except OSError:
                assert time.monotonic() < until, process.log()
                time.sleep(0.01)  # until the process listens
                continue
            return

    def ask(self, message: Message) -> Message:
        return self.answer(self.send(message))

    def send(self, message: Message) -> int:
        self._n += 1
        self._socket.sendall(frame(message | {"n": self._n}))
        return self._n

    def answer(self, n: int) -> Message:
        """`{}` when the connection ended."""
        while True:
            for message in self._got:
                if message.get("n") == n:
                    return message
            data = self._received()
            if not data:
                return {}
            self._got += self._frames.feed(data)

    def raw(self, data: bytes) -> bytes:
        """What comes back for bytes that are no message: nothing, and the connection ends."""
        with contextlib.suppress(OSError):
            self._socket.sendall(data)
        return self._received()

    def close(self) -> None:
        self._socket.close()

    def _received(self) -> bytes:
        try:
            return self._socket.recv(1 << 16)
        except ConnectionResetError:
            return b""


class Process:
    """One run after another over one journal."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder, folder / "run"
        self._lines: list[Line] = []
        self.log_key: Verifier = create(folder / "journal", "journal.test/process").verifier
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.popen = subprocess.Popen([sys.executable, str(PROGRAM), str(self.folder)], stdout=log, stderr=log)

    def end(self, number: int) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(20)

    def line(self, role: str) -> Line:
        """A connection, closed with the test."""
        self._lines.append(Line(self, role))
        return self._lines[-1]

    def kill(self) -> None:
        """The end of the test."""
        for line in self._lines:
            line.close()
        self.popen.kill()
        self.popen.wait()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def admission(self) -> Message:
        """One that is of now."""
        desk = Desk(int.from_bytes(os.urandom(4), "big"))
        return desk.admission(request=ulid(time.time_ns() // 1000, os.urandom(10)), epoch=EPOCH)

    def admitted(self, door: Line) -> Message:
        """An admission that got its pass, once the recorder has its snapshot."""
        until = time.monotonic() + 20
        while "pass" not in door.ask(message := self.admission()):
            assert time.monotonic() < until, self.log()
            time.sleep(0.02)  # until the snapshot is there
        return message

    def events(self) -> list[Message]:
        """Every durable event, read beside the process or after it."""
        disk = OsDisk(self.folder / "journal")
        reader = Reader(disk, self.log_key, SubjectKeys(disk, load_purpose_key(self.folder / "journal")))
        return [row.event for row in reader.rows() if row.event is not None]
