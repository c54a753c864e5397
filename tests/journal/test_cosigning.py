"""A log and its witnesses over real sockets: cosignatures join the published checkpoint, and a disk that is behind is refused."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from journals import KEYS, ORIGIN, MemoryDisk, StepClock, acks, admitted, completed, note, opened, request_id, verified
from sealward.errors import ConfigurationError, IntegrityError, UnreachableError
from sealward.formats.note import LogSigner, open_cosigned, split_note
from sealward.formats.receipt import verify_receipt
from sealward.host import certificates
from sealward.journal.cosigning import Cosigning, Told, Witnesses, refuse_if_behind
from sealward.journal.verify import Trust, verify
from sealward.journal.witness import folder_of
from sealward.journal.witness_client import Conflict, WitnessClient
from sealward.journal.writer import Writer
from witnesses import NOW, Serving, Tree, Watching, witness_signer

LOG = KEYS.signer.verifier


@pytest.fixture
def serving() -> Iterator[Callable[..., Serving]]:
    """Witness servers, closed at the end."""
    with contextlib.ExitStack() as stack:

        def start(*given: Any, number: int = 1) -> Serving:
            found = Serving(Watching(number=number), *given)
            stack.callback(found.close)
            return found

        yield start


@dataclass
class Running:
    """A journal in memory whose checkpoints are cosigned."""

    writer: Writer
    cosigning: Cosigning
    disk: MemoryDisk
    clock: StepClock
    told: list[Told]

    def publish(self, *drafts: Any) -> int:
        """The new size."""
        acks(self.writer, *(drafts or [note()]))
        self.writer.publish()
        return self.writer.size

    def cosigned_by(self, *watching: Watching) -> bool:
        """Whether the published checkpoint is, by both keys of each."""
        keys = [key for each in watching for key in (each.signer.verifier, each.signer.mldsa_verifier)]
        checkpoint, found = open_cosigned(self.disk.files["checkpoint"], LOG, keys)
        return checkpoint.size == self.writer.size and set(found) == set(keys)

    def tells(self, kind: str) -> bool:
        self.told += self.cosigning.take()
        return any(told.kind == kind for told in self.told)


@contextlib.contextmanager
def running(
    *clients: WitnessClient, quorum: int = 1, freshness: int | None = None, disk: MemoryDisk | None = None
) -> Iterator[Running]:
    """A new one, or that of `disk`; closed at the end unless it has failed."""
    disk, clock = disk or MemoryDisk(), StepClock()
    writer = opened(disk, clock)
    cosigning = Cosigning(writer, Witnesses(clients, quorum, freshness), clock)
    cosigning.start()
    try:
        yield Running(writer, cosigning, disk, clock, [])
    finally:
        cosigning.stop()
        if writer.failed is None:
            writer.close()


def until(true: Callable[[], object], seconds: float = 10) -> None:
    """Waits for it."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_published_checkpoint_is_cosigned_as_soon_as_the_witness_answers(serving: Any, tmp_path: Path) -> None:
    """Over loopback HTTP and a unix socket; `checkpoint.witnessed` is the same note; the log's own lines stay."""
    for server in (serving(), serving(f"unix:{tmp_path}/w.sock", number=2)):
        with running(server.client()) as log:
            for _ in range(3):
                log.publish()
                until(lambda log=log, server=server: log.cosigned_by(server.watching))
                assert log.disk.files["checkpoint.witnessed"] == log.disk.files["checkpoint"]
            verified(log.disk)
            assert server.watching.size == log.writer.size
            assert log.cosigning.status()[0]["state"] == "ok"
            assert log.cosigning.take() == []


def test_a_receipt_carries_the_witness(serving: Any) -> None:
    """Also while the newest checkpoint waits for its cosignatures: one that covers the entry and has them is used."""
    server = serving()
    with running(server.client()) as log:
        request = request_id()
        log.publish(admitted(request), completed(request))
        until(lambda: log.cosigned_by(server.watching))
        log.cosigning.drop(frozenset({"w1"}))
        log.publish()
        assert not log.cosigned_by(server.watching)
        subject = log.writer.reader.row(1, log.writer.reader.entry(1)).event["subject"]["id"]  # type: ignore[index]
        text = log.writer.receipt(request, subject)
        assert text is not None
        found = verify_receipt(text, log=LOG, witnesses=[server.watching.signer.verifier], threshold=1)
        assert (found.witnesses, found.checkpoint.size) == (1, 2)
        assert log.writer.reader.proof(2).verify(_leaf(log, 2), LOG)[0].size == 3


def test_a_witness_that_is_gone_delays_nobody(serving: Any) -> None:
    """Two of three are enough; the third is told lost after ten seconds, and restored when it is back."""
    first, second, third = (serving(number=number) for number in (1, 2, 3))
    client, port = third.client(), third.listener.getsockname()[1]
    third.close()
    with running(first.client(), second.client(), client, quorum=2) as log:
        for _ in range(2):
            log.publish()
            until(lambda: log.cosigned_by(first.watching, second.watching))
        assert not log.tells("lost")
        log.clock.step(11)
        until(lambda: log.tells("lost"))
        assert [(told.name, told.since_us > 0) for told in log.told] == [("w3", True)]
        assert [each["state"] for each in log.cosigning.status()] == ["ok", "ok", "lost"]
        with contextlib.closing(Serving(third.watching, f"127.0.0.1:{port}")):
            log.clock.step(6)
            until(lambda: log.tells("restored"))
            until(lambda: log.cosigned_by(first.watching, second.watching, third.watching))
            log.cosigning.stop()


def test_without_a_quorum_nothing_is_called_witnessed(serving: Any) -> None:
    """One of two cosigned: its line is in the checkpoint, but the last witnessed one is an older one or none."""
    server = serving()
    silent = replace(server.client(), name="silent", url="http://127.0.0.1:1")
    with running(server.client(), silent, quorum=2) as log:
        log.publish()
        until(lambda: log.cosigned_by(server.watching))
        assert "checkpoint.witnessed" not in log.disk.files


def test_freshness_is_lost_with_the_quorum(serving: Any) -> None:
    """Not fresh before the first cosignature, fresh after it, not when its time is over; without the setting always fresh."""
    server = serving()
    with running(server.client(), freshness=60) as log:
        assert not log.cosigning.fresh
        log.publish()
        until(lambda: log.cosigning.fresh)
        log.cosigning._asking[0].over = True
        log.clock.step(61)
        assert not log.cosigning.fresh
    with running(replace(server.client(), url="http://127.0.0.1:1")) as log:
        assert log.cosigning.fresh


def test_an_idle_log_is_shown_again(serving: Any) -> None:
    """Every thirty seconds, or three times as often as freshness wants: the same checkpoint with a newer cosignature."""
    server = serving()
    with running(server.client(), freshness=60) as log:
        log.publish()
        until(lambda: log.cosigned_by(server.watching))
        before = log.disk.files["checkpoint"]
        server.watching.witness._now = lambda: NOW + 100
        log.clock.step(21)
        until(lambda: log.disk.files["checkpoint"] != before)
        assert log.cosigned_by(server.watching)
        assert len(split_note(log.disk.files["checkpoint"])[1]) == 4


def test_the_last_checkpoint_is_shown_before_the_end(serving: Any) -> None:
    """What is published last does not wait unwitnessed for the next start."""
    server = serving()
    with running(server.client()) as log:
        log.publish()
        until(lambda: log.cosigned_by(server.watching))
        log.publish()
    assert server.watching.size == 2


def test_a_witness_of_an_earlier_run_is_met_where_it_is(serving: Any) -> None:
    """The log's next run knows nothing of it: it asks, proves and goes on; also when another asked in between (409)."""
    server = serving()
    with running(server.client()) as log:
        for _ in range(3):
            log.publish()
        until(lambda: log.cosigned_by(server.watching))
    with running(server.client(), disk=log.disk) as again:
        again.publish()
        until(lambda: again.cosigned_by(server.watching))
        again.cosigning._asking[0].known = 2
        again.publish()
        until(lambda: again.cosigned_by(server.watching))
        assert again.cosigning.take() == []


# -- rollback and the stolen key --


@pytest.fixture
def history(serving: Any) -> tuple[Serving, MemoryDisk, MemoryDisk]:
    """A witness, the disk whose five entries it saw, and a copy of that disk from when there were three."""
    server, disk = serving(), MemoryDisk()
    with running(server.client(), disk=disk) as log:
        for size in range(1, 6):
            log.publish()
            until(lambda: log.cosigned_by(server.watching))
            if size == 3:
                old = MemoryDisk(dict(disk.files))
    return server, disk, old


def test_a_disk_behind_its_witness_is_refused_before_anything_is_written(history: tuple[Serving, MemoryDisk, MemoryDisk]) -> None:
    """An old copy is sound in itself: only the witness knows more. The disk as it was is let through."""
    server, disk, old = history
    before = dict(old.files)
    verified(old)
    with pytest.raises(IntegrityError) as refused:
        refuse_if_behind(opened_reader(old), [server.client()])
    assert (refused.value.code, refused.value.exit_code) == ("journal_behind", 5)
    assert "5 entries, this disk has one of 3" in refused.value.detail
    assert old.files == before
    assert refuse_if_behind(opened_reader(disk), [server.client()]) == []


def test_an_old_copy_is_found_with_what_the_witness_serves(history: tuple[Serving, MemoryDisk, MemoryDisk]) -> None:
    """`verify` with the witness's checkpoint: a rollback; with the log's own files alone it would be sound."""
    server, disk, old = history
    known = server.watching.witness.latest(folder_of(ORIGIN)).body
    assert [fault["code"] for fault in verify(old, Trust(LOG, known=[known])).errors] == ["rollback"]
    assert verify(disk, Trust(LOG, known=[known])).ok


def test_a_log_rewritten_with_the_stolen_key_is_found(history: tuple[Serving, MemoryDisk, MemoryDisk]) -> None:
    """Entry 3 on are others, every tile and signature made anew: no witness cosigned it, and it forks from what one holds."""
    server, _, old = history
    forged = opened(old, seed=99)
    acks(forged, *[note()] * 4)
    forged.close()
    witnesses = [server.watching.signer.verifier]
    assert verify(old, Trust(LOG)).ok
    asked = Trust(LOG, witnesses=witnesses, quorum=lambda cosigned: len(cosigned) >= 1)
    assert [fault["code"] for fault in verify(old, asked).errors] == ["witnesses"]
    known = server.watching.witness.latest(folder_of(ORIGIN)).body
    assert [fault["code"] for fault in verify(old, Trust(LOG, known=[known])).errors] == ["fork"]
    with pytest.raises(IntegrityError, match="are not those of this disk"):
        refuse_if_behind(opened_reader(old), [server.client()])


def test_who_continues_an_old_copy_is_told_to_stop(history: tuple[Serving, MemoryDisk, MemoryDisk]) -> None:
    """The witness could not be asked at the start: the first time it answers, it says `behind`, once; nothing is cosigned."""
    server, _, old = history
    with running(server.client(), disk=old) as log:
        log.publish()
        until(lambda: log.tells("behind"))
        assert not log.cosigned_by(server.watching)
        assert log.cosigning.status()[0]["state"] == "behind"
    assert server.watching.size == 5


def test_a_liar_cannot_talk_a_log_into_stopping(history: tuple[Serving, MemoryDisk, MemoryDisk]) -> None:
    """A size without the log's signature is no evidence: the witness counts as lost, and the log goes on."""
    server, disk, _ = history
    answers = {
        "a large size": (409, "text/x.tlog.size", b"1000000\n"),
        "no number": (409, "text/x.tlog.size", b"many\n"),
        "nothing": (200, "text/plain", b""),
        "no cosignature of its key": (200, "text/plain", KEYS.signer.verifier.line(bytes(64)).encode()),
        "another witness's": (200, "text/plain", "".join(witness_signer(9).cosign(split_note(Tree().note(5))[0], 1)).encode()),
        "a megabyte": (200, "text/plain", bytes(1 << 20)),
        "an error": (500, "text/plain", b"x"),
        "no HTTP": (0, "", b"\x16\x03\x01"),
    }
    published = opened_reader(disk).checkpoint()
    for answer in answers.values():
        with canned(*answer) as url:
            client = replace(server.client(), url=url)
            with pytest.raises((UnreachableError, Conflict)):
                client.add(0, (), *published)
            if answer[0] != 409:
                with pytest.raises(UnreachableError):
                    client.latest(LOG)
            assert refuse_if_behind(opened_reader(disk), [client]) == ["w1"]


def test_evidence_needs_the_logs_own_signature(history: tuple[Serving, MemoryDisk, MemoryDisk]) -> None:
    """A checkpoint of a million entries that somebody else signed is nothing; one by the log's key refuses the start."""
    server, disk, _ = history
    other = LogSigner(ORIGIN, _ed(7), _mldsa(7))
    for signer, refused in ((other, False), (KEYS.signer, True)):
        with canned(200, "text/plain", signer.checkpoint(1_000_000, bytes(32), NOW)) as url:
            client = replace(server.client(), url=url)
            if refused:
                with pytest.raises(IntegrityError):
                    refuse_if_behind(opened_reader(disk), [client])
            else:
                assert refuse_if_behind(opened_reader(disk), [client]) == ["w1"]


# -- TLS, and what a server must bear --


def test_tls_needs_a_certificate_that_the_settings_trust(serving: Any, tmp_path: Path) -> None:
    """TLS 1.3 with the CA of the settings; another CA is no witness. Plaintext off loopback is refused by both sides."""
    now = dt.datetime.now(dt.UTC)
    keys = certificates.new_key(), certificates.new_key()
    ca = certificates.authority(keys[0], "witness", now)
    files = {"ca": certificates.pem(ca), "key": certificates.key_pem(keys[1])}
    files["certificate"] = certificates.pem(certificates.server(keys[1], ["localhost"], ca, keys[0], now))
    files["other"] = certificates.pem(certificates.authority(keys[1], "other", now))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    server = serving("127.0.0.1:0", tmp_path / "certificate", tmp_path / "key")
    with running(server.client(tmp_path / "ca")) as log:
        log.publish()
        until(lambda: log.cosigned_by(server.watching))
    with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        server.client(tmp_path / "other").latest(LOG)
    with pytest.raises(UnreachableError):
        replace(server.client(tmp_path / "ca"), url=server.url.replace("https", "http"), tls=None).latest(LOG)
    with pytest.raises(ConfigurationError):
        server.client(tmp_path / "missing")


def test_a_server_answers_nobody_who_does_not_ask_properly(serving: Any) -> None:
    """Garbage, other routes and methods, too much, half a request: an answer or none, and then the end; it goes on serving."""
    server = serving()
    port = server.listener.getsockname()[1]
    cases = {
        b"\x16\x03\x01\r\n\r\n": b"400",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n": b"404",
        b"GET /add-checkpoint HTTP/1.1\r\nhost: x\r\n\r\n": b"405",
        b"POST /add-checkpoint HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx": b"400",
        b"GET /../private/ed25519.key HTTP/1.1\r\nhost: x\r\n\r\n": b"404",
        b"GET /%s/checkpoint HTTP/1.1\r\nhost: x\r\n\r\n" % folder_of(ORIGIN).encode(): b"404",
        b"PUT /%s/checkpoint HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" % folder_of(ORIGIN).encode(): b"405",
        b"POST /add-checkpoint HTTP/1.1\r\nhost: x\r\ncontent-length: 999999\r\n\r\n" + bytes(200_000): b"413",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n": b"400",
    }
    for request, status in cases.items():
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(request)
            got = b""
            with contextlib.suppress(ConnectionError):
                while data := connection.recv(1 << 16):
                    got += data
        assert got.split(b" ")[1:2] == [status], request
    assert server.client().latest(LOG) is None


def opened_reader(disk: MemoryDisk) -> Any:
    """A reader without keys, as the start asks with."""
    from sealward.journal.reader import Reader

    return Reader(disk, LOG)


@contextlib.contextmanager
def canned(status: int, content_type: str, body: bytes) -> Iterator[str]:
    """A server that always answers so; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    answer = head.encode() + body if status else body

    def answer_all() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 20)
                connection.sendall(answer)

    thread = threading.Thread(target=answer_all)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _leaf(log: Running, index: int) -> bytes:
    from sealward.formats.merkle import leaf_hash

    return leaf_hash(log.writer.reader.entry(index))


def _ed(number: int) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def _mldsa(number: int) -> Any:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

    return MLDSA44PrivateKey.from_seed_bytes(bytes([number]) * 32)
