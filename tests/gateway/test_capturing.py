"""Captured bodies in the recorder: sealed by the door to a key that control made, kept, given to control alone, erased."""

from __future__ import annotations

from typing import Any

import pytest

from recorder_desk import MODEL, Desk, Message, Peer, closing
from sealward.formats.b64 import b64url, unb64url
from sealward.formats.body import Place, body_key, open_body, public_half, public_key, seal_body
from sealward.formats.subject_key import SubjectKey, open_row, wrap_row
from sealward.gateway.capture import level

PURPOSE = {"purpose": "journal-bodies", "purpose_key": b"b" * 32}


class Control(Peer):
    """Makes the keys that are wanted, as the product's does."""

    def made(self) -> int:
        """How many."""
        wanted = [each for told in self.told if told.get("push") == "body_keys" for each in told["wanted"]]
        self.told[:] = [told for told in self.told if "push" not in told]
        rows = []
        for each in wanted:
            seed = self._desk.random.randbytes(32)
            key = SubjectKey(self._desk.random.randbytes(9).hex(), each["subject"], each["month"], seed)
            row = wrap_row(key, **PURPOSE, nonce=bytes(12))  # type: ignore[arg-type]
            rows.append(row | {"of": each["of"], "public": b64url(public_half(seed))})
        if rows:
            self.ask({"op": "body_keys", "rows": rows})
        return len(rows)

    def read(self, request: str, side: str) -> bytes:
        """The body, opened."""
        found = self.ask({"op": "bodies", "req": request})
        about, data = found["objects"][side], b""
        while True:
            part = self.ask({"op": "body_part", "kid": about["kid"], "ref": about["ref"], "at": len(data)})
            data += unb64url(part["data"])
            if len(data) == part["size"]:
                break
        seed = open_row({name: about[name] for name in ("kid", "wrapped")}, **PURPOSE).key  # type: ignore[arg-type]
        return open_body(data, body_key(seed), Place(found["origin"], about["kid"], request, side))  # type: ignore[arg-type]


class Story:
    """A door, a control and an owner at a recorder whose model captures bodies."""

    def __init__(self, **sections: Any) -> None:
        self.desk = Desk(**({"models": {"m1": MODEL | {"capture": "body"}}} | sections))
        self.door, self.control, self.owner = Peer(self.desk, "door"), Control(self.desk, "control"), Peer(self.desk, "owner")

    def key(self, subject: str = "ann", **more: Any) -> Message:
        n = self.door.send({"op": "body_key", "subject": subject} | more)
        self.desk.recording.turn()
        self.control.made()
        return self.door.answer(n)

    def store(self, key: Message, request: str, side: str, body: bytes, size: int = 1 << 17) -> Message:
        place = Place(self.desk.writer.origin, key["kid"], request, side)  # type: ignore[arg-type]
        sealed = seal_body(body, public_key(unb64url(key["public"])), place)
        cuts = range(0, len(sealed), size)
        answers = [self.part(key["kid"], request, side, sealed[at : at + size], at, last=at == cuts[-1]) for at in cuts]
        return answers[-1]

    def part(self, kid: str, request: str, side: str, data: bytes, at: int, *, last: bool) -> Message:
        message = {"op": "body", "req": request, "side": side, "kid": kid, "at": at, "data": b64url(data)}
        return self.door.ask(message | ({"last": True} if last else {}))

    def admit(self, request: str, **content: Any) -> Message:
        event = {"content": {"input": {"bytes": 3, "capture": "body"} | content}}
        return self.door.admit(request=request, event=event)

    def whole(self) -> str:
        """A request with both bodies."""
        key, request = self.key(), self.desk.ulid()
        self.admit(request, ref=self.store(key, request, "input", b"say hello")["ref"])
        ref = self.store(key, request, "output", b"hello")["ref"]
        message = closing(request)
        message["event"]["content"] = {"output": {"bytes": 5, "capture": "body", "ref": ref}}
        assert "index" in self.door.ask(message)
        return request

    def objects(self) -> list[str]:
        return [name for name in self.desk.platter.files if name.startswith("private/bodies/")]


def test_what_the_door_sealed_control_opens_and_the_recorder_cannot() -> None:
    """The entries name both objects; nothing on the recorder's disk holds a word of them, nor a key to them."""
    story = Story()
    request = story.whole()
    assert story.control.read(request, "input") == b"say hello"
    assert story.control.read(request, "output") == b"hello"
    completed = story.desk.rows("inference.completed")[-1]
    assert {side: part["capture"] for side, part in completed["content"].items()} == {"input": "body", "output": "body"}
    assert len(story.objects()) == 2
    assert not any(b"hello" in data for data in story.desk.platter.files.values())


def test_next_months_keys_are_asked_for_ahead_and_each_once() -> None:
    """Nobody waits on the first of a month; a second request of a subject has its key at once."""
    story = Story()
    story.desk.clock.pass_(86_400 * 7)
    n = story.door.send({"op": "body_key", "subject": "ann"})
    story.desk.recording.turn()
    wanted = [each["month"] for told in story.control.told for each in told.get("wanted", ())]
    assert len(wanted) == 2
    assert story.control.made() == 2
    first = story.door.answer(n)
    assert story.key() == {**first, "n": story.door._n}
    story.desk.clock.pass_(86_400 * 9)
    n = story.door.send({"op": "body_key", "subject": "ann"})
    story.desk.recording.turn()
    assert story.door.answer(n)["kid"] != first["kid"]


def test_without_control_there_is_no_key_and_no_service() -> None:
    """Refused within a second; when control is back it is told what was wanted, and then the key is there."""
    story = Story()
    story.desk.recording.gone(story.control.client)
    n = story.door.send({"op": "body_key", "subject": "ann"})
    story.desk.recording.turn()
    assert story.door.answer(n) == {}
    story.desk.clock.pass_(1)
    story.desk.recording.tick()
    assert story.door.answer(n)["refused"] == "key_unavailable"
    back = Control(story.desk, "control")
    assert back.made() >= 1
    assert "kid" in story.door.ask({"op": "body_key", "subject": "ann"})
    assert story.door.ask({"op": "body_key", "subject": "nobody"})["refused"] == "credential_unknown"


@pytest.mark.parametrize("content", [{}, {"capture": "digest"}, {"ref": "sha256:" + "0" * 64}, {"capture": "none"}])
def test_what_is_to_be_captured_is_or_nobody_is_served(content: dict[str, Any]) -> None:
    """A door that stored nothing, or says less, gets no pass."""
    story = Story()
    assert "refused" in story.admit(story.desk.ulid(), **content)
    assert story.desk.rows("inference.admitted") == []


def test_an_answer_that_is_to_be_captured_is_closed_with_it() -> None:
    """Completed needs the object; an abort may have none."""
    story = Story()
    key = story.key()
    for outcome, closed in (("completed", False), ("aborted", True)):
        request = story.desk.ulid()
        story.admit(request, ref=story.store(key, request, "input", b"x")["ref"])
        more = {"aborted_by": "client"} if outcome == "aborted" else {}
        assert ("index" in story.door.ask(closing(request, outcome, **more))) is closed


@pytest.mark.parametrize(("model", "caps", "found"), [
    ("body", {}, "body"), ("body", {"default": "digest"}, "digest"), ("digest", {"default": "body"}, "digest"),
    ("body", {"subject:ann": "none"}, "none"), ("body", {"group:staff": "digest"}, "digest"),
    ("body", {"group:other": "none"}, "body"),
    ("body", {"default": "body", "subject:ann": "digest", "group:staff": "none"}, "none"),
])  # fmt: skip
def test_the_least_cap_counts(model: str, caps: dict[str, str], found: str) -> None:
    """Of the model's own, `default`, the subject's and its groups'; the recorder's word, whatever the door says."""
    story = Story(models={"m1": MODEL | {"capture": model}}, capture=caps)
    assert level(story.desk.sections | {"capture": caps}, {"capture": model}, "ann") == found
    if found != "body":
        request = story.desk.ulid()
        assert "pass" in story.admit(request, capture="digest")
        assert story.desk.rows("inference.admitted")[-1]["content"]["input"]["capture"] == found
        story.door.close(request)
        assert "refused" in story.admit(story.desk.ulid(), ref="sha256:" + "0" * 64)  # more than policy wants


def test_an_erasure_ends_key_row_object_and_reading() -> None:
    """The kids of both keys stand in the entry; what was under way to be sealed to them is not admitted."""
    story = Story()
    request, late = story.whole(), story.desk.ulid()
    key = story.key()
    ref = story.store(key, late, "input", b"late")["ref"]
    done = story.owner.ask({"op": "erase", "subject": "ann"})
    assert key["kid"] in done["kids"]
    assert {"push": "erased", "kids": done["kids"]} in story.door.told
    assert story.control.ask({"op": "bodies", "req": request})["refused"] == "not_found"
    assert "refused" in story.admit(late, ref=ref)
    assert story.part(key["kid"], late, "input", b"x", 0, last=True)["refused"] == "key_unavailable"
    story.desk.writer.publish()
    assert story.objects() == []
    assert all(kid.encode() not in story.desk.platter.files["private/bodies.jsonl"] for kid in done["kids"])
    assert story.key()["kid"] != key["kid"]


def test_bodies_come_in_parts_in_order_and_bounded() -> None:
    """A part that is missing, of another key or without content ends the connection; what nobody finishes is forgotten."""
    story = Story()
    key, request = story.key(), story.desk.ulid()
    body = story.desk.random.randbytes(300_000)
    ref = story.store(key, request, "input", body, 100_000)["ref"]
    assert "pass" in story.admit(request, ref=ref)
    story.door.close(request, "aborted", aborted_by="client")
    assert story.control.read(request, "input") == body
    for sent in ({"at": 7}, {"data": ""}, {"side": "both"}, {"req": "x"}, {"kid": 1}):
        door = Peer(story.desk, "door")
        door.ask({"op": "body", "req": request, "side": "output", "kid": key["kid"], "at": 0, "data": "eA"} | sent)
        assert door.hung_up, sent


def test_objects_that_no_entry_names_are_removed() -> None:
    """A minute later; those that one names stay."""
    story = Story()
    key, unused = story.key(), story.desk.ulid()
    story.store(key, unused, "input", b"never admitted")
    story.whole()
    assert len(story.objects()) == 3
    story.desk.clock.pass_(61)
    story.desk.recording.tick()
    assert len(story.objects()) == 2
    story.desk.clock.pass_(61)
    story.desk.recording.tick()
    assert len(story.objects()) == 2


def test_only_control_reads_and_makes_keys() -> None:
    """Others are hung up on; rows that nobody asked for are not taken."""
    story = Story()
    request = story.whole()
    for role in ("door", "owner", "admin", "runtime", "supervisor"):
        for message in ({"op": "bodies", "req": request}, {"op": "body_part"}, {"op": "body_keys", "rows": []}):
            peer = Peer(story.desk, role)
            peer.ask(message)
            assert peer.hung_up, (role, message)
    row = {"kid": "0" * 18, "of": "1" * 18, "public": b64url(public_half(bytes(32))), "wrapped": "AA"}
    story.control.ask({"op": "body_keys", "rows": [row]})
    assert story.desk.writer.bodies.named("0" * 18) is None


def test_a_start_finds_keys_and_objects_again() -> None:
    """They are on the disk before they are used."""
    story = Story()
    request, key = story.whole(), story.key()
    story.desk.life()
    door, control = Peer(story.desk, "door"), Control(story.desk, "control")
    assert door.ask({"op": "body_key", "subject": "ann"})["kid"] == key["kid"]
    assert control.read(request, "input") == b"say hello"


def test_a_full_disk_keeps_no_bodies() -> None:
    """64 MiB stay for administration: nothing is admitted that cannot be kept."""
    story = Story()
    key, request = story.key(), story.desk.ulid()
    story.desk.writer._disk.free = lambda: 64 << 20  # type: ignore[method-assign]
    assert story.store(key, request, "input", b"x")["refused"] == "journal_full"
