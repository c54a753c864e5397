"""The simulated world keeps its promises under every fault, and notices each rule that is taken out of the product."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import structlog

from sealward.formats import change, passes
from sealward.formats.change import assigned_epoch, parse_change
from sealward.formats.fault import FormatError
from sealward.formats.snapshot import GENESIS, open_snapshot
from sealward.gateway import admission, passgate, view
from sealward.gateway.counters import Counters
from sealward.journal.keys import SubjectKeys
from sealward.journal.writer import Writer
from sealward.keyring import signer
from world import CALM, Faults, Node
from world_people import live, village
from world_truth import Violation

SEEDS, MUTANT_SEEDS = 24, 80
STALLED = Faults(stall=0.08, kill=0, cut=0, step=0, disk_crash=0)
SLOW = Faults(slow=0.4, kill=0.05)
TAKEN = Faults(kill=0.01, cut=0, stall=0, disk_crash=0, hostile=0.7)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What the product logs about a hostile world is not this test's subject."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_served_is_admitted_is_authorised(seed: int) -> None:
    """Whatever is lost, late, dead or hostile: every promise of world_truth holds, and service comes back."""
    world = live(seed)
    assert len(world.truth.served) > 10
    assert len(world.truth.signed) > 3


def test_a_life_is_a_function_of_its_seed() -> None:
    """A run that fails can be run again."""
    first, second = live(7), live(7)
    assert first.now == second.now
    assert [one.found.admission["req"] for one in first.truth.served] == [
        one.found.admission["req"] for one in second.truth.served
    ]
    assert first.truth.durable_at == second.truth.durable_at


def test_without_faults_every_honest_request_is_completed() -> None:
    """The world is not only safe because nothing works in it."""
    world = village(1, CALM)
    world.run(30.0)
    asked = len(world.truth.honest)
    assert len(world.truth.completed) >= asked - 3 > 80


def unsynced(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """The process acknowledges before its disk has synced."""

    def mutate(patch: pytest.MonkeyPatch) -> None:
        start = Node.start

        def started(self: Node) -> None:
            self.platter.syncs = self.name != name
            start(self)

        patch.setattr(Node, "start", started)

    return mutate


def gate_believes(**members: str) -> Callable[[pytest.MonkeyPatch], None]:
    """The sidecar's gate takes the pass's word for one thing that it knows itself: member of its Place → of the admission."""

    def mutant(found: passes.Pass, place: passes.Place, body: bytes) -> None:
        told: dict[str, Any] = {name: found.admission[said] for name, said in members.items()}
        if "approved" in told:
            told["approved"] = [told["approved"]]
        passes.check_here(found, replace(place, **told), body)

    return lambda patch: patch.setattr(passgate, "check_here", mutant)


def any_body(patch: pytest.MonkeyPatch) -> None:
    """The sidecar's gate does not look at the content."""

    def mutant(found: passes.Pass, place: passes.Place, body: bytes) -> None:
        del body
        said = found.admission | {"body": passes.sha256(b"").hexdigest()}
        passes.check_here(replace(found, admission=said), place, b"")

    patch.setattr(passgate, "check_here", mutant)


def again_and_again(patch: pytest.MonkeyPatch) -> None:
    """The sidecar's gate forgets what it has served."""
    patch.setattr(passgate, "check_here", lambda found, place, body: passes.check_here(found, replace(place, used=()), body))


def set_attribute(owner: Any, name: str, value: Any) -> Callable[[pytest.MonkeyPatch], None]:
    """One function of the product is another one."""
    return lambda patch: patch.setattr(owner, name, value)


def without_promise(raw: bytes, intent: Any, *, log: Any, last: Any, unix_s: int, issued: str) -> Any:
    """carry_out that believes control."""
    meant = parse_change(raw)
    if meant.previous != last.digest:
        raise FormatError("previous")
    return last.after(meant.ops, epoch=assigned_epoch(last.epoch, unix_s), issued=issued)


def without_previous(raw: bytes, intent: Any, *, log: Any, last: Any, unix_s: int, issued: str) -> Any:
    """carry_out that lets two changes win."""
    meant = parse_change(raw)
    log.check_promise(intent.index, intent.leaf, passes.sha256(raw).digest(), intent.promise)
    return last.after(meant.ops, epoch=assigned_epoch(last.epoch, unix_s), issued=issued)


def backwards(patch: pytest.MonkeyPatch) -> None:
    """A view that takes any snapshot the signer ever signed."""
    patch.setattr(view, "open_snapshot", lambda data, public, known: open_snapshot(data, public, GENESIS.point))
    patch.setattr(view.View, "_take", lambda self, found: setattr(self, "_held", found))


def from_hearing(patch: pytest.MonkeyPatch) -> None:
    """A view whose heartbeats count from when they are heard."""
    heard = view.View.heard

    def mutant(self: view.View, nonce: bytes, beat: Any, now: float) -> None:
        if nonce in self._asked:
            self._asked[nonce] = now
        heard(self, nonce, beat, now)

    patch.setattr(view.View, "heard", mutant)


def ageless(patch: pytest.MonkeyPatch) -> None:
    """A view that goes on without heartbeats."""
    patch.setattr(view.View, "serving", lambda self, now: self._held)


def any_epoch(self: admission.Admission, doors: int, snapshot: Any) -> None:
    """The recorder does not ask what the door decided from."""
    self._rules = admission._Rules(snapshot)


@dataclass(frozen=True)
class Mutant:
    """One rule taken out, the promises that may break for it, and a weather in which it matters."""

    mutate: Callable[[pytest.MonkeyPatch], None]
    rules: tuple[str, ...]
    faults: Faults = field(default_factory=Faults)


UNSYNCED = ("acknowledged is kept", "served is admitted", "opens again", "readable", "no entry, no change")
MUTANTS = {
    "the recorder acknowledges before its sync": Mutant(unsynced("recorder"), UNSYNCED),
    "the signer names before its sync": Mutant(unsynced("signer"), ("signed is kept", "epochs", "opens again")),
    "a pass serves twice": Mutant(again_and_again, ("served once",)),
    "a pass serves another body": Mutant(any_body, ("served as admitted",)),
    "a pass serves another path": Mutant(gate_believes(path="path"), ("served as admitted",)),
    "a pass serves another sidecar or run": Mutant(gate_believes(name="sidecar"), ("served as admitted", "served once")),
    "a pass serves for ever": Mutant(gate_believes(now="exp"), ("served in time",), TAKEN),
    "a pass serves a withdrawn model": Mutant(gate_believes(approved="model"), ("served is approved",), TAKEN),
    "a pass is believed without its promise": Mutant(
        set_attribute(passgate.Log, "check_promise", lambda *_: None), ("served is admitted", "no entry, no change")
    ),
    "the door's epoch is not asked": Mutant(
        set_attribute(admission.Admission, "_check_epoch", any_epoch), ("admitted is authorised",), SLOW
    ),
    "a disabled subject is admitted": Mutant(
        set_attribute(admission._Rules, "_subject", lambda self, event: event["subject"]), ("admitted is authorised",)
    ),
    "a request is admitted again": Mutant(
        set_attribute(admission.Admission, "_first", lambda *_: False), ("admitted once", "closed once"), TAKEN
    ),
    "limits do not count": Mutant(set_attribute(Counters, "reached", lambda *_: None), ("limits",)),
    "recovery closes nothing": Mutant(
        set_attribute(Writer, "_tell_recovery", lambda self: None), ("closed once", "service comes back")
    ),
    "a dead door's requests stay open": Mutant(
        set_attribute(admission.Admission, "abandon", lambda *_: []), ("closed once", "service comes back")
    ),
    "an entry comes before its key": Mutant(set_attribute(SubjectKeys, "make_durable", lambda self: None), ("readable",)),
    "a heartbeat counts from hearing it": Mutant(from_hearing, ("fresh",), STALLED),
    "a view goes on without heartbeats": Mutant(ageless, ("fresh", "signed"), STALLED),
    "a view goes back": Mutant(backwards, ("epochs", "fresh"), SLOW),
    "the signer asks for no promise": Mutant(set_attribute(signer, "carry_out", without_promise), ("no entry, no change",)),
    "the signer lets two changes win": Mutant(set_attribute(signer, "carry_out", without_previous), ("changes follow on",)),
    "the signer's epochs follow the clock": Mutant(
        set_attribute(change, "assigned_epoch", lambda last, now: now), ("epochs", "signed is kept")
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_that_is_taken_out_is_missed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some life within the first seeds breaks exactly the promise that the rule keeps."""
    mutant = MUTANTS[name]
    mutant.mutate(monkeypatch)
    for seed in range(MUTANT_SEEDS):
        rule = broken_rule(seed, mutant.faults)
        if rule:
            assert rule in mutant.rules, seed
            return
    pytest.fail("nobody noticed")


def broken_rule(seed: int, faults: Faults) -> str:
    """The first promise that this life breaks."""
    try:
        live(seed, faults=faults)
    except Violation as violation:
        return violation.rule
    return ""
