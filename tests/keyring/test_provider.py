"""Providers and leases: what a wrapped key opens for, and that a lease ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sealward.errors import IntegrityError, Reason, Refused
from sealward.keyring.provider import CLOSING_S, KekFile, Lease, Standing
from sealward.keyring.secret import Secret, write_key

PURPOSE_KEY = Secret(os.urandom(32))


@pytest.fixture
def kek(tmp_path: Path) -> KekFile:
    """A provider of kind `file`."""
    write_key(tmp_path / "events.kek", Secret(os.urandom(32)))
    return KekFile(tmp_path / "events.kek")


def test_a_wrapped_key_opens(kek: KekFile) -> None:
    """Wrapping is randomised, opening exact."""
    wrapped = kek.wrap("journal-events", PURPOSE_KEY)
    assert kek.unwrap("journal-events", wrapped) == PURPOSE_KEY
    assert kek.wrap("journal-events", PURPOSE_KEY) != wrapped


def test_a_wrapped_key_opens_for_its_purpose_only(kek: KekFile) -> None:
    """Whoever exchanges two wrapped keys opens nothing."""
    wrapped = kek.wrap("journal-events", PURPOSE_KEY)
    with pytest.raises(IntegrityError, match="purpose_key"):
        kek.unwrap("journal-bodies", wrapped)


@pytest.mark.parametrize("wrapped", ["", "AA", "not base64!", "A" * 80])
def test_a_damaged_wrap_is_an_integrity_error(kek: KekFile, wrapped: str) -> None:
    """Typed, and told apart from a provider that does not answer."""
    with pytest.raises(IntegrityError):
        kek.unwrap("journal-events", wrapped)


def test_a_provider_that_is_taken_away_gives_no_key(kek: KekFile, tmp_path: Path) -> None:
    """The file is the switch."""
    wrapped = kek.wrap("journal-events", PURPOSE_KEY)
    (tmp_path / "events.kek").unlink()
    with pytest.raises(Refused) as refused:
        kek.unwrap("journal-events", wrapped)
    assert refused.value.reason is Reason.KEY_UNAVAILABLE


class Switch:
    """A provider that can be disabled."""

    on = True

    def __call__(self) -> Secret:
        if not self.on:
            raise Refused(Reason.KEY_UNAVAILABLE)
        return PURPOSE_KEY


def refused(lease: Lease, now: float) -> bool:
    """Whether new work is refused for the right reason."""
    try:
        lease.check(now)
    except Refused as error:
        return error.reason is Reason.KEY_UNAVAILABLE
    return False


def test_a_lease_that_is_not_renewed_ends_in_two_steps() -> None:
    """First admission stops while open requests are still closed, then the key is forgotten."""
    lease = Lease(Switch(), now=100.0)
    assert (lease.standing(399.9), refused(lease, 399.9)) == (Standing.HELD, False)
    assert (lease.standing(400.0), refused(lease, 400.0)) == (Standing.CLOSING, True)
    assert lease.key(400.0 + CLOSING_S - 0.1) == PURPOSE_KEY
    assert lease.standing(400.0 + CLOSING_S) is Standing.ENDED
    with pytest.raises(Refused):
        lease.key(400.0 + CLOSING_S)
    assert "secret" not in repr(vars(lease))


def test_a_lease_is_renewed_before_it_ends() -> None:
    """From half of its time on, so that a provider may be silent for a while."""
    lease = Lease(Switch(), now=0.0)
    assert not lease.due(149.0)
    assert lease.due(150.0)
    assert lease.renew(150.0)
    assert lease.standing(449.0) is Standing.HELD


def test_a_disabled_provider_ends_the_lease_at_its_time() -> None:
    """A refused renewal shortens nothing and prolongs nothing; a provider that comes back in time saves it."""
    switch = Switch()
    lease = Lease(switch, now=0.0)
    switch.on = False
    assert not lease.renew(200.0)
    assert lease.standing(299.0) is Standing.HELD
    assert lease.standing(300.0) is Standing.CLOSING
    switch.on = True
    assert lease.renew(305.0)
    assert lease.standing(305.0) is Standing.HELD


def test_an_ended_lease_stays_ended() -> None:
    """The key is forgotten for good; a new start asks for a new lease."""
    lease = Lease(Switch(), now=0.0)
    assert lease.standing(310.0) is Standing.ENDED
    assert not lease.renew(311.0)
    assert lease.standing(0.0) is Standing.ENDED


def test_the_kill_switch_stops_admission_at_once() -> None:
    """And gives the open requests their ten seconds."""
    lease = Lease(Switch(), now=0.0)
    lease.end(50.0)
    assert lease.standing(50.0) is Standing.CLOSING
    assert lease.standing(50.0 + CLOSING_S) is Standing.ENDED


def test_without_a_provider_there_is_no_lease() -> None:
    """A process that gets no key does not start."""
    switch = Switch()
    switch.on = False
    with pytest.raises(Refused):
        Lease(switch, now=0.0)
