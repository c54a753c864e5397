"""The signer's rules: no entry, no change; epochs only grow; durable before it is named; torn is dropped, damage is told."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealward.errors import IntegrityError
from sealward.formats import passes
from sealward.formats.b64 import b64url
from sealward.formats.change import Change
from sealward.formats.heartbeat import Heartbeat, check_heartbeat
from sealward.formats.snapshot import GENESIS, Point, Snapshot, apply, open_delta, open_snapshot
from sealward.keyring.disk import Folder
from sealward.keyring.signer import KEPT_DELTAS, Signer

LOG_KEY, KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key()
ORIGIN = "journal.test/signer"
NOW = 1_795_424_400


@dataclass
class Memory:
    """A disk of dictionaries; `fails` makes the next write fail."""

    files: dict[str, bytes] = field(default_factory=dict)
    fails: bool = False

    def read(self, name: str) -> bytes:
        return self.files.get(name, b"")

    def replace(self, name: str, data: bytes) -> None:
        self._write(name, data)

    def append(self, name: str, data: bytes) -> None:
        self._write(name, self.files[name] + data)

    def _write(self, name: str, data: bytes) -> None:
        if self.fails:
            raise OSError("no space left")
        self.files[name] = data


@dataclass
class Stopped:
    """A clock that a test sets, in seconds."""

    s: int = NOW

    def now(self) -> int:
        return self.s * 1_000_000

    def boot(self) -> float:
        return float(self.s)


class Desk:
    """A signer, and somebody who proposes to it with honest promises."""

    def __init__(self, disk: Memory | None = None) -> None:
        self.disk, self.clock = disk or Memory(), Stopped()
        self.log = passes.Log(ORIGIN, LOG_KEY.public_key())
        self.start()

    def start(self) -> None:
        self.signer = Signer(self.disk, self.clock, KEY, self.log)

    def ask(self, op: str, role: str = "door", **fields: Any) -> dict[str, Any]:
        return self.signer.handle(role, {"n": 7, "op": op} | fields).reply

    def held(self) -> Snapshot:
        text = self.ask("snapshot")["snapshot"]
        return open_snapshot(text.encode(), PUBLIC, GENESIS.point) if text else GENESIS

    def message(self, ops: list[Any], previous: str = "", index: int = 5) -> dict[str, Any]:
        raw = Change("u-1", tuple(ops), previous or self.held().digest, os.urandom(32).hex()).raw
        leaf = os.urandom(32)
        promise = passes.promises(ORIGIN, index, [(leaf, passes.sha256(raw).digest())], LOG_KEY)[0]
        return {"change": raw.decode(), "index": index, "leaf": leaf.hex(), "promise": b64url(promise)}

    def propose(self, *ops: Any, role: str = "control", **change: Any) -> dict[str, Any]:
        return self.ask("propose", role, **self.message(list(ops), **change))


def role(name: str) -> list[Any]:
    """An op."""
    return ["put", "roles", name, {"actions": ["journal:read"]}]


def test_nothing_is_named_before_the_first_change() -> None:
    """Genesis is never signed or served."""
    desk = Desk()
    assert desk.ask("heartbeat", nonce=b64url(bytes(16))) == {"n": 7, "refused": "no_snapshot"}
    assert desk.ask("snapshot") == {"n": 7, "snapshot": ""}
    assert desk.ask("intent") == {"n": 7, "epoch": 0}
    assert desk.disk.files == {}


def test_the_first_change_makes_the_first_snapshot() -> None:
    """It follows genesis and is served whole."""
    desk = Desk()
    said = desk.propose(role("a"))
    assert said == {"n": 7, "epoch": NOW, "digest": desk.held().digest, "delta": ""}
    assert desk.held().previous == GENESIS.digest


def test_a_change_becomes_a_delta_that_everybody_is_pushed() -> None:
    """The push holds what the reply holds, and leads from what was to what is."""
    desk = Desk()
    desk.propose(role("a"))
    before = desk.held()
    answer = desk.signer.handle("control", {"n": 1, "op": "propose"} | desk.message([["del", "roles", "a"]]))
    assert answer.push == {"push": "delta", "delta": answer.reply["delta"]}
    after = apply(before, open_delta(answer.reply["delta"].encode(), PUBLIC))
    assert after.point == desk.held().point == (answer.reply["epoch"], answer.reply["digest"])


def test_a_heartbeat_names_what_was_signed_last() -> None:
    """Bound to the nonce, for ten seconds."""
    desk = Desk()
    desk.propose(role("a"))
    said = desk.ask("heartbeat", nonce=b64url(b"n" * 16))
    beat = Heartbeat(Point(said["epoch"], said["digest"]), said["ttl_ms"], said["heartbeat"])
    assert check_heartbeat(b"n" * 16, beat, PUBLIC, known=desk.held().point, age_s=0)
    assert beat.ttl_ms == 10_000


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"op": "heartbeat"},
        {"op": "heartbeat", "nonce": 1},
        {"op": "heartbeat", "nonce": "AA"},
        {"op": "heartbeat", "nonce": "A" * 22 + "=="},
        {"op": "deltas", "from": "1"},
        {"op": "propose", "change": "{}", "index": 0, "leaf": "zz", "promise": ""},
        {"op": "propose", "change": "{}", "index": 0, "leaf": "00" * 32, "promise": ""},
        {"op": "sign", "data": "x"},
    ],
)
def test_what_is_no_request_is_refused(message: dict[str, Any]) -> None:
    """The signer signs nothing but its own kinds of text."""
    desk = Desk()
    desk.propose(role("a"))
    assert desk.signer.handle("control", message).reply == {"n": 0, "refused": "malformed"}


@pytest.mark.parametrize("who", ["door", "admin", "recorder", "runtime", "", "Control"])
def test_only_control_proposes(who: str) -> None:
    """A taken door cannot even hand in a change that has its entry."""
    desk = Desk()
    assert desk.propose(role("a"), role=who)["refused"] == "malformed"
    assert desk.held() is GENESIS


def test_no_entry_no_change() -> None:
    """A promise for another change, another place, or by another log is none."""
    desk = Desk()
    one, two = desk.message([role("a")]), desk.message([role("b")])
    assert desk.ask("propose", "control", **one | {"change": two["change"]})["refused"] == "promise"
    assert desk.ask("propose", "control", **one | {"index": 6})["refused"] == "promise"
    assert desk.ask("propose", "control", **one | {"promise": two["promise"]})["refused"] == "promise"
    assert desk.held() is GENESIS


def test_two_controls_cannot_both_win() -> None:
    """Of two changes upon one snapshot the second is refused, and so is the same one again."""
    desk = Desk()
    one, two = desk.message([role("a")]), desk.message([role("b")])
    assert "refused" not in desk.ask("propose", "control", **one)
    assert desk.ask("propose", "control", **two)["refused"] == "previous"
    assert desk.ask("propose", "control", **one)["refused"] == "previous"


@pytest.mark.parametrize("op", [["put", "roles", "a", {"actions": []}], ["del", "roles", "b"], ["put", "admins", "a", {}], []])
def test_an_op_outside_schema_or_snapshot_is_refused(op: list[Any]) -> None:
    """The signer never signs what the fleet would refuse."""
    desk = Desk()
    assert desk.propose(role("a"), op)["refused"] == "op"
    assert desk.held() is GENESIS


def test_epochs_grow_whatever_the_clock_does() -> None:
    """Seconds when they are ahead, else one more than before."""
    desk, epochs = Desk(), []
    for second in (NOW, NOW, NOW - 86_400, NOW + 1, NOW + 60):
        desk.clock.s = second
        epochs.append(desk.propose(role(f"r-{len(epochs)}"))["epoch"])
    assert epochs == [NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 60]


def test_a_restart_keeps_what_was_signed() -> None:
    """Snapshot, deltas and intent are those of before; the next change follows on."""
    desk = Desk()
    epochs = [desk.propose(role(name), index=n)["epoch"] for n, name in enumerate("abc")]
    held, intent, deltas = desk.held(), desk.ask("intent"), desk.ask("deltas", **{"from": epochs[0]})
    desk.start()
    assert (desk.held(), desk.ask("intent"), desk.ask("deltas", **{"from": epochs[0]})) == (held, intent, deltas)
    assert (intent["epoch"], intent["index"], len(deltas["deltas"])) == (epochs[2], 2, 2)
    assert desk.propose(role("d"))["epoch"] == epochs[2] + 1


def test_deltas_lead_from_any_kept_epoch_to_now() -> None:
    """None for who is there, `gone` for who is too far behind or ahead."""
    desk = Desk()
    desk.propose(role("a"))
    state = desk.held()
    for n in range(3):
        desk.propose(role(f"b-{n}"))
    for delta in desk.ask("deltas", **{"from": state.epoch})["deltas"]:
        state = apply(state, open_delta(delta.encode(), PUBLIC))
    assert state == desk.held()
    assert desk.ask("deltas", **{"from": state.epoch})["deltas"] == []
    for epoch in (1, state.epoch + 1, 0, -1):
        assert desk.ask("deltas", **{"from": epoch})["refused"] == "gone"


def test_the_state_stays_small() -> None:
    """The last 256 deltas are kept, at most twice as many for a while; a restart finds the same snapshot."""
    desk = Desk()
    for n in range(2 * KEPT_DELTAS + 2):
        desk.propose(["put", "limits", "default", {"concurrent": n + 1}], previous=desk.signer._last.digest)
    assert KEPT_DELTAS <= desk.disk.files["deltas"].count(b"\n") < 2 * KEPT_DELTAS
    held = desk.held()
    desk.start()
    assert desk.held() == held
    assert desk.disk.files["deltas"].count(b"\n") == KEPT_DELTAS


def test_a_failed_write_is_not_served() -> None:
    """The process ends; the next start knows what reached the disk."""
    desk = Desk()
    desk.propose(role("a"))
    held, desk.disk.fails = desk.held(), True
    with pytest.raises(OSError, match="space"):
        desk.propose(role("b"))
    assert desk.held() == held
    desk.disk.fails = False
    desk.start()
    assert desk.held() == held


def test_a_torn_last_change_was_never_acknowledged() -> None:
    """Whatever part of the last line reached the disk, the signer starts with the change before or with this one."""
    desk = Desk()
    desk.propose(role("a"))
    desk.propose(role("b"))
    before, good = desk.held(), dict(desk.disk.files)
    desk.propose(role("c"))
    after, line = desk.held(), desk.disk.files["deltas"][len(good["deltas"]) :]
    for cut in range(0, len(line) + 1, 7):
        for torn in (line[:cut], bytes(cut) + line[cut:], line[:cut] + bytes(len(line) - cut)):
            desk.disk.files = good | {"deltas": good["deltas"] + torn}
            desk.start()
            assert desk.held() == (after if torn.rstrip(b"\n") == line.rstrip(b"\n") else before)


def test_damage_is_told_and_not_used() -> None:
    """A broken line with a good one behind it, a changed snapshot, a lost one: no start."""
    desk = Desk()
    for name in "abc":
        desk.propose(role(name))
    good = dict(desk.disk.files)
    first, second, _ = good["deltas"].split(b"\n")
    for name, data in [
        ("deltas", first[:-9] + b"\n" + second + b"\n"),
        ("deltas", first.replace(b"put", b"pot") + b"\n" + second + b"\n"),
        ("snapshot", good["snapshot"].replace(b"journal:read", b"journal:edit")),
        ("snapshot", b""),
        ("snapshot", b"\n\n\n"),
        ("snapshot", good["snapshot"] + b"x"),
    ]:
        desk.disk.files = good | {name: data}
        with pytest.raises(IntegrityError, match="signer_state"):
            desk.start()
    desk.disk.files = good
    desk.start()


def test_a_crash_between_the_two_files_of_a_rewrite_loses_nothing() -> None:
    """A newer snapshot beside older deltas: what it already holds is history."""
    desk = Desk()
    for name in "abc":
        desk.propose(role(name))
    desk.start()  # the snapshot file is now that of the last change
    held = desk.held()
    assert desk.disk.files["deltas"].count(b"\n") == 2
    desk.start()
    assert desk.held() == held


def test_a_folder_keeps_what_it_is_given(tmp_path: Any) -> None:
    """Whole files and growing ones, for one user only."""
    folder = Folder(tmp_path)
    assert folder.read("a") == b""
    folder.replace("a", b"one\n")
    folder.append("a", b"two\n")
    assert folder.read("a") == b"one\ntwo\n"
    folder.replace("a", b"three")
    assert [(each.name, each.read_bytes(), each.stat().st_mode & 0o777) for each in tmp_path.iterdir()] == [
        ("a", b"three", 0o600)
    ]
