"""Authentication by API key: what proves a caller, and the exact reason of each refusal."""

from __future__ import annotations

from typing import Any

import pytest

from people import DAY, KEY, NOW, PEPPER, access, header, key_row
from sealward.errors import Reason, Refused
from sealward.formats.ids import rfc3339
from sealward.identity.access import Access
from sealward.identity.apikey import issue, stored_digest
from sealward.identity.certificate import ClientCertificate
from sealward.identity.principal import Principal

OLD = issue("live", KEY.id)


def ask(
    found: Access, headers: list[bytes], *, addr: str = "10.0.0.7", now: int = NOW, certificate: str | None = None
) -> Principal:
    """Authenticate, by default from inside at nine o'clock."""
    shown = ClientCertificate(certificate, NOW + DAY, ()) if certificate else None
    return found.authenticate(headers, source_addr=addr, now_us=now, certificate=shown)


def reason(found: Access, headers: list[bytes], **more: Any) -> Reason:
    """Why it is refused."""
    with pytest.raises(Refused) as refused:
        ask(found, headers, **more)
    return refused.value.reason


def with_key(owner: str = "ann", **more: Any) -> Access:
    """KEY is one of the owner's keys."""
    return access(keys={KEY.id: key_row(KEY, owner, **more)})


def with_old_secret(retires_us: int) -> Access:
    """KEY is the new secret, OLD the one before."""
    old = {"hmac": stored_digest(PEPPER, OLD.secret.reveal()).hex(), "retires_at": rfc3339(retires_us)}
    return with_key(old=old)


def test_a_key_proves_its_owner() -> None:
    """The principal is the owner's row with the key's id and end."""
    found = ask(with_key(), header(KEY))
    assert (found.id, found.kind, found.groups, found.roles) == ("ann", "human", ("staff",), ("consumer",))
    assert (found.authn, found.key_id, found.key_state, found.expires_us) == ("apikey", KEY.id, "current", NOW + 50 * DAY)
    assert found.subject() == {
        "id": "ann",
        "kind": "human",
        "authn": "apikey",
        "groups": ["staff"],
        "roles": ["consumer"],
        "key_id": KEY.id,
        "key_state": "current",
    }


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER "])
def test_the_scheme_is_taken_in_any_case(scheme: bytes) -> None:
    """RFC 9110 section 11.1."""
    assert ask(with_key(), [scheme + KEY.secret.reveal()]).id == "ann"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Reason.CREDENTIAL_MISSING),
        ([b""], Reason.CREDENTIAL_MALFORMED),
        ([b"Bearer"], Reason.CREDENTIAL_MALFORMED),
        ([b"Bearer "], Reason.CREDENTIAL_MALFORMED),
        ([b"Basic dXNlcjpwYXNz"], Reason.CREDENTIAL_MALFORMED),
        ([KEY.secret.reveal()], Reason.CREDENTIAL_MALFORMED),
        ([b"Bearer " + KEY.secret.reveal() + b" "], Reason.CREDENTIAL_MALFORMED),
        ([b"Bearer\t" + KEY.secret.reveal()], Reason.CREDENTIAL_MALFORMED),
        ([b"Bearer " + KEY.secret.reveal() + b"\x00"], Reason.CREDENTIAL_MALFORMED),
        ([b"Bearer " + b"a" * 10_000], Reason.CREDENTIAL_MALFORMED),
        ([b"Bearer " + bytes(range(128, 256))], Reason.CREDENTIAL_MALFORMED),
        (header(KEY) * 2, Reason.CREDENTIAL_MULTIPLE),
        ([b", ".join(header(KEY) * 2)], Reason.CREDENTIAL_MULTIPLE),
        (header(issue("live")), Reason.CREDENTIAL_UNKNOWN),
        (header(issue("test", KEY.id)), Reason.CREDENTIAL_MALFORMED),
        (header(OLD), Reason.CREDENTIAL_UNKNOWN),
        ([b"Bearer " + stored_digest(PEPPER, KEY.secret.reveal()).hex().encode()], Reason.CREDENTIAL_MALFORMED),
    ],
)
def test_what_is_not_one_known_key_is_refused(headers: list[bytes], expected: Reason) -> None:
    """Attack rows 71, 72, 75, 78: each differs from the sound header in one way."""
    found = with_key()
    assert ask(found, header(KEY)).id == "ann"  # what was proven before does not help the others
    assert reason(found, headers) is expected


def test_a_revoked_key_is_unknown() -> None:
    """Its row is gone from the snapshot."""
    assert reason(access(), header(KEY)) is Reason.CREDENTIAL_UNKNOWN


@pytest.mark.parametrize("owner", ["bob", "nobody"])
def test_a_key_of_a_disabled_or_removed_owner_is_revoked(owner: str) -> None:
    """Attack row 73: the owner's end is the key's end."""
    assert reason(with_key(owner), header(KEY)) is Reason.CREDENTIAL_REVOKED


def test_a_suspended_key_is_revoked() -> None:
    """Attack row 73."""
    assert reason(with_key(suspended=True), header(KEY)) is Reason.CREDENTIAL_REVOKED


def test_a_key_ends_at_its_expiry_even_when_it_was_proven_before() -> None:
    """The cache of proven keys never outlives the key."""
    found = with_key()
    assert ask(found, header(KEY), now=NOW + 50 * DAY - 1).id == "ann"
    assert reason(found, header(KEY), now=NOW + 50 * DAY) is Reason.CREDENTIAL_EXPIRED


def test_a_key_of_another_environment_is_unknown_even_with_the_right_secret() -> None:
    """Row and door must agree on the environment, not only the key's own words."""
    assert reason(with_key(environment="test"), header(KEY)) is Reason.CREDENTIAL_UNKNOWN


def test_the_old_secret_lives_until_it_retires() -> None:
    """Two live secrets during a rotation; the use of the old one shows in the event, and its end is the caller's end."""
    found = with_old_secret(NOW + DAY)
    assert ask(found, header(KEY)).key_state == "current"
    old = ask(found, header(OLD))
    assert (old.id, old.key_state, old.expires_us) == ("ann", "retiring", NOW + DAY)
    assert reason(found, header(OLD), now=NOW + DAY) is Reason.CREDENTIAL_RETIRED
    assert ask(found, header(KEY), now=NOW + DAY).id == "ann"


@pytest.mark.parametrize(
    ("bindings", "inside", "outside"),
    [
        ({"cidrs": ["10.0.0.0/8"]}, {"addr": "10.1.2.3"}, {"addr": "192.0.2.1"}),
        ({"cidrs": ["10.0.0.0/8"]}, {"addr": "::ffff:10.1.2.3"}, {"addr": "not an address"}),
        ({"cidrs": ["fd00::/8", "10.0.0.0/8"]}, {"addr": "fd00::1"}, {"addr": "::1"}),
        ({"certificate": "sha256:" + "c" * 64}, {"certificate": "sha256:" + "c" * 64}, {"certificate": None}),
        ({"hours": {"from": "08:00", "to": "10:00"}}, {"now": NOW}, {"now": NOW + 3_600_000_000}),
        ({"hours": {"from": "22:00", "to": "09:01"}}, {"now": NOW}, {"now": NOW + 60_000_000}),
        ({"hours": {"from": "00:00", "to": "23:59", "days": [1]}}, {"now": NOW}, {"now": NOW + DAY}),
    ],
)
def test_use_outside_a_binding_is_refused(bindings: dict[str, Any], inside: dict[str, Any], outside: dict[str, Any]) -> None:
    """Attack row 74; also for a key that was just proven inside."""
    found = with_key(bindings=bindings)
    assert ask(found, header(KEY), **inside).id == "ann"
    assert reason(found, header(KEY), **outside) is Reason.CREDENTIAL_BINDING


def test_a_binding_that_cannot_be_read_closes_the_key() -> None:
    """The schema's pattern allows networks that do not exist."""
    assert reason(with_key(bindings={"cidrs": ["999.0.0.0/99"]}), header(KEY)) is Reason.CREDENTIAL_REVOKED


def test_a_running_caller_is_renewed_only_while_the_key_stands() -> None:
    """What a door asks for each stream when the epoch changes."""
    before = ask(with_key(), header(KEY))
    assert with_key().renew(before, now_us=NOW) == before
    for changed in (access(), with_key("bob"), with_key(suspended=True)):
        with pytest.raises(Refused) as refused:
            changed.renew(before, now_us=NOW)
        assert refused.value.reason is Reason.CREDENTIAL_REVOKED


def test_a_stream_of_a_secret_that_was_rotated_away_ends_with_the_overlap() -> None:
    """Also when it began while that secret was the current one."""
    before = ask(with_key(), header(KEY))
    fresh = issue("live", KEY.id)
    old = {"hmac": stored_digest(PEPPER, KEY.secret.reveal()).hex(), "retires_at": rfc3339(NOW + 60)}
    rotated = access(keys={KEY.id: key_row(fresh, "ann", created=rfc3339(NOW), old=old)})
    assert rotated.renew(before, now_us=NOW + 59).key_state == "retiring"
    with pytest.raises(Refused) as refused:
        rotated.renew(before, now_us=NOW + 60)
    assert refused.value.reason is Reason.CREDENTIAL_RETIRED
