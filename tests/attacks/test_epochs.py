"""Attack: decide from yesterday's rights: old snapshots, replayed heartbeats, a silent signer, a frozen door (row 101)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sealward.errors import Reason, Refused
from sealward.formats.b64 import b64url, unb64url
from sealward.formats.fault import FormatError
from sealward.formats.frames import Frames, frame
from sealward.formats.heartbeat import Heartbeat
from sealward.formats.snapshot import Point
from sealward.gateway.view import View
from siege import Siege
from siege_wire import Answer


class Signer:
    """The real signer, asked as a door asks it."""

    def __init__(self, siege: Siege) -> None:
        self._siege = siege
        self.public = Ed25519PublicKey.from_public_bytes(unb64url((siege.home / "trust/signer.pub").read_text().strip()))

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(5)
            raw.connect(str(self._siege.home / "run/signer.door.sock"))
            raw.sendall(frame(message | {"n": 1}))
            frames = Frames(1 << 24)
            while True:
                for answer in frames.feed(raw.recv(1 << 20)):
                    if answer.get("n") == 1:
                        return answer

    def beat(self, nonce: bytes) -> Heartbeat:
        said = self.ask({"op": "heartbeat", "nonce": b64url(nonce)})
        return Heartbeat(Point(said["epoch"], said["digest"]), said["ttl_ms"], said["heartbeat"])

    def snapshot(self) -> bytes:
        text: str = self.ask({"op": "snapshot"})["snapshot"]
        return text.encode()


A, B = b"a" * 16, b"b" * 16


@pytest.fixture
def signer(siege: Siege) -> Signer:
    """The session's own."""
    return Signer(siege)


@pytest.fixture
def view(signer: Signer) -> View:
    """A door's view that was fresh at second 100."""
    view = View(signer.public)
    view.ask(A, 100.0)
    view.heard(A, signer.beat(A), 100.0)
    view.whole(signer.snapshot())
    view.serving(100.0)
    return view


def stale(view: View, now: float) -> bool:
    """Whether it refuses everything for want of a heartbeat."""
    try:
        view.serving(now)
    except Refused as refused:
        return refused.reason is Reason.NO_HEARTBEAT
    return False


def test_the_answer_to_another_nonce_is_no_heartbeat(signer: Signer, view: View) -> None:
    """Somebody between door and signer has a signature of yesterday."""
    view.ask(B, 111.0)
    with pytest.raises(FormatError, match="signature"):
        view.heard(B, signer.beat(A), 111.0)
    assert stale(view, 111.0)


def test_an_answer_counts_once_and_only_to_who_asked(signer: Signer, view: View) -> None:
    """Replayed, or to a nonce that this door never drew."""
    view.ask(B, 111.0)
    beat = signer.beat(B)
    view.heard(B, beat, 111.0)
    for nonce, again in ((B, beat), (b"c" * 16, signer.beat(b"c" * 16))):
        with pytest.raises(FormatError, match="nonce"):
            view.heard(nonce, again, 125.0)
    assert stale(view, 125.0)


def test_an_answer_counts_from_its_question(signer: Signer, view: View) -> None:
    """Held back by whoever carries it, it is as old as its nonce."""
    view.ask(B, 105.0)
    beat = signer.beat(B)
    view.heard(B, beat, 114.0)
    assert not stale(view, 114.9)
    assert stale(view, 115.0)


@pytest.mark.parametrize("part", ["signature", "epoch", "digest", "ttl", "key"])
def test_a_heartbeat_of_other_words_is_refused(signer: Signer, view: View, part: str) -> None:
    """Each word is under the signature, and the signature is the pinned key's."""
    view.ask(B, 101.0)
    beat = signer.beat(B)
    named, ttl, sign = beat.named, beat.ttl_ms, bytearray(unb64url(beat.signature))
    if part == "signature":
        sign[0] ^= 1
    elif part == "epoch":
        named = Point(named.epoch + 1, named.digest)
    elif part == "digest":
        named = Point(named.epoch, "sha256:" + "0" * 64)
    elif part == "ttl":
        ttl -= 1
    else:
        sign[:] = Ed25519PrivateKey.generate().sign(b"x")
    with pytest.raises(FormatError):
        view.heard(B, Heartbeat(named, ttl, b64url(bytes(sign))), 101.0)
    assert stale(view, 111.0)


def test_an_older_snapshot_revives_nothing(siege: Siege, signer: Signer, view: View) -> None:
    """Signed once, and true then: what came after it stays."""
    before = signer.snapshot()
    key = siege.new_key("app")
    siege.admin("POST", f"apikeys/{key[9:20]}/revoke")
    view.ask(B, 101.0)
    view.heard(B, signer.beat(B), 101.0)
    with pytest.raises(Refused, match="being fetched"):
        view.serving(101.0)
    view.whole(before)
    with pytest.raises(Refused, match="being fetched"):
        view.serving(101.0)
    view.whole(signer.snapshot())
    now = view.serving(101.0)
    with contextlib.suppress(FormatError):
        view.whole(before)
    assert view.serving(101.0) is now
    assert key[9:20] not in now.sections["keys"]


def test_a_snapshot_of_another_key_is_refused(signer: Signer) -> None:
    """The pin decides, not the sender."""
    view = View(Ed25519PrivateKey.generate().public_key())
    with pytest.raises(FormatError, match="signature"):
        view.whole(signer.snapshot())
    with pytest.raises(Refused) as caught:
        view.serving(0.0)
    assert caught.value.reason is Reason.NO_SNAPSHOT


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_snapshot_with_a_changed_byte_is_refused(signer: Signer, at: float) -> None:
    """Wherever it is."""
    data = bytearray(signer.snapshot())
    data[int(len(data) * at)] ^= 1
    with pytest.raises(FormatError):
        View(signer.public).whole(bytes(data))


def test_an_epoch_below_the_journals_is_refused(signer: Signer) -> None:
    """The recorder's floor: a restored signer is behind what the log has seen."""
    beat = signer.beat(A)
    view = View(signer.public, floor=beat.named.epoch + 1)
    view.ask(A, 100.0)
    with pytest.raises(FormatError, match="epoch"):
        view.heard(A, beat, 100.0)


@dataclass
class Silence:
    """What was seen around eleven seconds in which the signer said nothing."""

    stream_ended: bytes = b""
    chat: Answer = field(default_factory=lambda: Answer(0))
    models: Answer = field(default_factory=lambda: Answer(0))
    admin: Answer = field(default_factory=lambda: Answer(0))
    ready: list[int] = field(default_factory=list)
    alive: int = 0
    at_the_model: int = 0
    aborted: dict[str, Any] = field(default_factory=dict)
    thawed: Answer = field(default_factory=lambda: Answer(0))
    seconds: float = 0.0


@pytest.fixture(scope="module")
def silence(ruin: Siege) -> Silence:
    """The management door's worker is frozen, an administrator's key revoked, then the signer stops for longer than its ttl."""
    ruin.well()
    ruin.arrive()
    seen = Silence()
    key = ruin.new_key("adm")
    assert ruin.ask_raw(ruin.get("/api/v1/users", key), "management").status == 200
    line = ruin.line()
    line.send(ruin.chat("hold", stream=True).raw)
    assert b" 200 " in next(line.lines())
    frozen, signer = ruin.workers("admin"), ruin.pid("signer")
    _send(frozen, signal.SIGSTOP)
    ruin.admin("POST", f"apikeys/{key[9:20]}/revoke")
    os.kill(signer, signal.SIGSTOP)
    began = time.monotonic()
    try:
        ruin.until(lambda: ruin.ask_raw(ruin.get("/v1/models")).status == 503, 20)
        seen.seconds = time.monotonic() - began
        line.sock.settimeout(10)
        seen.stream_ended = _rest(line.lines())
        before = ruin.model.bytes
        seen.chat, seen.models = ruin.ask_raw(ruin.chat()), ruin.ask_raw(ruin.get("/v1/models"))
        seen.ready = [ruin.ask_raw(ruin.get("/readyz")).status]
        seen.alive = ruin.ask_raw(ruin.get("/livez")).status
        seen.at_the_model = ruin.model.bytes - before
    finally:
        os.kill(signer, signal.SIGCONT)
        _send(frozen, signal.SIGCONT)
    seen.thawed = ruin.ask_raw(ruin.get("/api/v1/users", key), "management")
    ruin.well()
    seen.ready.append(ruin.ask_raw(ruin.get("/readyz")).status)
    seen.aborted = ruin.event(lambda e: e["type"] == "inference.aborted" and e["source"].get("port") == line.port)
    ruin.hang_up()
    return seen


def test_a_silent_signer_ends_service_within_its_ttl(silence: Silence) -> None:
    """Not much before (a hiccup hurts nobody) and not after: 10 s from the last question, no byte at the model."""
    assert silence.seconds < 12.5
    assert [silence.chat.status, silence.models.status] == [503, 503]
    assert silence.chat.json["error"]["code"] == "service_unavailable"
    assert silence.at_the_model == 0


def test_a_silent_signer_ends_running_streams(silence: Silence) -> None:
    """A door that hears no revocation may not go on either."""
    assert b"[DONE]" not in silence.stream_ended
    assert silence.aborted["decision"]["reason"] == "no_heartbeat"


def test_the_probes_say_so(silence: Silence) -> None:
    """Not ready, but alive: a balancer turns to another door; afterwards it is ready again."""
    assert silence.ready == [503, 200]
    assert silence.alive == 200


def test_a_frozen_door_wakes_up_without_its_old_rights(silence: Silence) -> None:
    """Its time ran on: the first request after it, by a key that was revoked meanwhile, is refused."""
    assert silence.thawed.status in {401, 503}


def test_a_killed_signer_is_not_missed(broken: Siege) -> None:
    """It is back before anybody's heartbeat is too old, and names no less than before."""
    before = broken.admin("GET", "status")["epoch"]
    pid = broken.pid("signer")
    os.kill(pid, signal.SIGKILL)
    for _ in range(20):
        assert broken.ask_raw(broken.chat()).status == 200
    broken.until(lambda: broken.report()["signer"]["state"] == "ready" and broken.pid("signer") != pid)
    broken.new_key("app")
    assert broken.admin("GET", "status")["epoch"] > before


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


def _rest(lines: Iterator[bytes]) -> bytes:
    data = b""
    try:
        for piece in lines:
            data += piece
    except ConnectionError:
        pass
    return data
