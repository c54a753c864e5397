"""The process beside the recorder that reads for the owner: rows, exports, questions to the side index.

It opens entries by the thousand, which in the recorder's own process would take time from those who wait for their pass. It
is forked, not executed (after the drop its user may not be able to read the interpreter), before there are threads or a loop:
a keeper, and the reader, which the keeper forks anew when it has ended. It holds the purpose key, for the index, and asks the
recorder for each event key that it needs; the end of the lease, or of the recorder, ends both.

    jobs     recorder → reader   {size, n, op, query, at} and a descriptor on which the answer goes; {size}; {size, erased}
    keys     reader ⇄ recorder   [mark, [kid, …]] → [mark, {kid: hex}], without those that were erased
    answer   reader → recorder   packets of whole frames for the client, and `END`: without it, it is not whole
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import orjson
import structlog

from sealward.errors import IntegrityError, Reason, Refused
from sealward.formats.fault import FormatError
from sealward.formats.frames import frame
from sealward.formats.note import Verifier
from sealward.formats.subject_key import SubjectKey
from sealward.journal.durable import OsDisk
from sealward.journal.index import Index
from sealward.journal.query import Find, Read
from sealward.journal.reader import Reader
from sealward.keyring.secret import Secret
from sealward.process import die_with_parent

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The recorder's end. `keys` is readable when the reader asks; see `answer_keys`."""

    pid: int
    jobs: socket.socket
    keys: socket.socket

    @classmethod
    def start(cls, journal: Path, log: Verifier, purpose_key: Secret, not_ours: Iterable[socket.socket]) -> Catalogue:
        """Before any thread, and before the journal is locked. `not_ours`: sockets that only the recorder may hold."""
        jobs, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        keys, asking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                os.setpgid(0, 0)
                for each in (*not_ours, jobs, keys):
                    each.close()
                _keep(partial(_Desk, journal, log, purpose_key, theirs, asking), parent)
            finally:
                os._exit(1)  # never back into the recorder's code
        with suppress(OSError):  # it was faster
            os.setpgid(pid, pid)
        for each in (theirs, asking):
            each.close()
        jobs.setblocking(False)
        keys.setblocking(False)
        return cls(pid, jobs, keys)

    def ask(self, job: Message) -> socket.socket:
        """Where the answer's packets come. OSError: too much is waiting, or the keeper is gone."""
        answer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(self.jobs, [orjson.dumps(job)], [theirs.fileno()])
            except OSError:
                answer.close()
                raise
        answer.setblocking(False)
        return answer

    def tell(self, message: Message) -> None:
        """{size} or {erased}. OSError as `ask`."""
        self.jobs.send(orjson.dumps(message))

    def answer_keys(self, key: Callable[[str], SubjectKey | None]) -> None:
        """One question of the reader. Refused: the lease is over, it must not learn that as an erasure. OSError: it is gone."""
        with suppress(BlockingIOError):
            data = self.keys.recv(PACKET)
            if not data:
                raise ConnectionResetError
            mark, kids = orjson.loads(data)
            found = {kid: held.key.hex() for kid in kids if (held := key(kid)) is not None}
            self.keys.send(orjson.dumps([mark, found]))

    def end(self) -> None:
        """Both processes, at once: they have nothing to save, and nothing of the keys is left."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.jobs.close()
        self.keys.close()


def _keep(desk: Callable[[], _Desk], recorder: int) -> NoReturn:
    """A reader, as long as the recorder lives."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    die_with_parent(recorder)
    keeper = os.getpid()
    while True:
        pid = os.fork()
        if pid == 0:
            try:
                die_with_parent(keeper)
                os.nice(NICE)
                desk().serve()
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        if os.waitpid(pid, 0)[1] == 0:
            os._exit(0)
        LOG.error("the journal's reader ended")
        time.sleep(PAUSE_S)


class _Desk:
    """The reader: one thread takes jobs, one keeps the index up to date, one answers each question."""

    def __init__(self, journal: Path, log: Verifier, purpose_key: Secret, jobs: socket.socket, asking: socket.socket) -> None:
        self._disk, self._jobs, self._keys = OsDisk(journal), jobs, _Keys(asking)
        self._reader = Reader(self._disk, log, self._keys)
        self._purpose_key = purpose_key
        self._size = 0
        self._grown = threading.Condition()
        self._opening = threading.Lock()
        self._index: Index | None = None

    def serve(self) -> None:
        """Until the recorder closes the socket."""
        threading.Thread(target=self._follow, daemon=True).start()
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._jobs, PACKET, 1)
            if not data:
                return
            job = orjson.loads(data)
            with self._grown:
                self._size = max(self._size, job["size"])
                self._grown.notify_all()
            if "erased" in job:
                self._keys.drop(job["erased"])
                threading.Thread(target=self._erase, args=(job["erased"],), daemon=True).start()
            for descriptor in descriptors:
                answer = _Answer(socket.socket(fileno=descriptor))
                threading.Thread(target=self._answer, args=(job, answer), daemon=True).start()

    def _answer(self, job: Message, answer: _Answer) -> None:
        n = job["n"]
        try:
            rows = self._read if job["op"] == "read" else self._find
            for row in rows(job, answer):
                answer.say({"n": n, "row": row})
            answer.end({"n": n, "done": True})
        except FormatError as error:
            answer.end({"n": n, "refused": Reason.BODY_FIELD, "detail": error.detail})
        except Refused as refused:
            answer.end({"n": n, "refused": refused.reason})
        except IntegrityError as error:
            LOG.error("the journal cannot be read", cause=str(error))  # noqa: TRY400 - its words say it all
            answer.end({"n": n, "refused": Reason.JOURNAL_IO})
        except OSError as error:
            LOG.info("an answer ended early", cause=str(error))
        finally:
            answer.close()

    def _read(self, job: Message, answer: _Answer) -> Iterable[Message]:
        def wait(size: int) -> None:
            answer.flush()
            with self._grown:
                while self._size <= size:
                    answer.check()
                    self._grown.wait(LOOK_S)

        return Read.parse(job["query"], job["at"]).rows(self._reader, wait)

    def _find(self, job: Message, answer: _Answer) -> Iterable[Message]:
        del answer
        index = self._opened()
        index.catch_up(job["at"])
        return Find.parse(job["query"]).answer(index, self._reader)

    def _erase(self, kids: Collection[str]) -> None:
        try:
            self._opened().on_erased(kids)
        except (OSError, IntegrityError) as error:
            LOG.error("the side index was not rewritten", cause=str(error))  # noqa: TRY400 - its words say it all

    def _follow(self) -> None:
        """Keeps the index near the end of the log, without haste."""
        known = 0
        while True:
            with self._grown:
                self._grown.wait_for(lambda: self._size > known)  # noqa: B023 - waited for here
                known = self._size
            try:
                index = self._opened()
                index.catch_up(known)
                index.save(last=False)
                index.warm()
            except (OSError, IntegrityError) as error:
                LOG.warning("the side index is behind", cause=str(error))
            time.sleep(PAUSE_S)

    def _opened(self) -> Index:
        with self._opening:
            if self._index is None:
                self._index = Index(self._disk, self._reader, self._purpose_key, self._keys.gone, os.urandom, self._size)
            return self._index


class _Keys:
    """Event keys, from the recorder. Thread-safe."""

    def __init__(self, asking: socket.socket) -> None:
        self._asking, self._lock = asking, threading.Lock()
        self._held: dict[str, SubjectKey | None] = {}

    def key(self, kid: str) -> SubjectKey | None:
        if kid not in self._held:
            self._ask([kid])
        return self._held.get(kid)

    def gone(self, kids: Collection[str]) -> set[str]:
        unknown = [kid for kid in kids if kid not in self._held]
        for start in range(0, len(unknown), KIDS):
            self._ask(unknown[start : start + KIDS])
        return {kid for kid in kids if self._held.get(kid) is None}

    def drop(self, kids: Collection[str]) -> None:
        with self._lock:
            self._held |= dict.fromkeys(kids)

    def _ask(self, kids: list[str]) -> None:
        with self._lock:
            mark = os.urandom(8).hex()
            self._asking.send(orjson.dumps([mark, kids]))
            answered, found = "", {}
            while answered != mark:  # an answer to a reader before us would look like an erasure
                answered, found = orjson.loads(self._asking.recv(PACKET) or b"0")  # unless the recorder is gone
            self._held |= {kid: SubjectKey(kid, "", "", bytes.fromhex(found[kid])) if kid in found else None for kid in kids}


class _Answer:
    """Frames on their way to a client, many in a packet."""

    def __init__(self, to: socket.socket) -> None:
        self._to = to
        self._frames: list[bytes] = []
        self._held = 0

    def say(self, message: Message) -> None:
        self._frames.append(frame(message))
        self._held += len(self._frames[-1])
        if self._held >= FULL:
            self.flush()

    def flush(self) -> None:
        if self._frames:
            self._to.send(b"".join(self._frames))
            self._frames, self._held = [], 0

    def end(self, last: Message) -> None:
        with suppress(OSError):  # nobody waits for it any more
            self.say(last)
            self.flush()
            self._to.send(END)

    def check(self) -> None:
        """ConnectionResetError when the client is gone."""
        with suppress(BlockingIOError):
            if not self._to.recv(1, socket.MSG_DONTWAIT):
                raise ConnectionResetError

    def close(self) -> None:
        self._to.close()


LOG = structlog.get_logger()
END = b"."  # shorter than any frame
PACKET = 1 << 18
FULL = 1 << 15  # with one more row, of 32 KiB and as much again for quotes, it fits the kernel's packets
KIDS = 1_000  # of a question
NICE = 10
PAUSE_S = 1.0
LOOK_S = 1.0
