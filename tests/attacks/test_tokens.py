"""Attack: get more out of token exchange than one has, or use a token of ours where it does not belong (rows 35 to 37).

The exchange runs as control runs it, with the real signer and a journal that gives real promises; what it refuses is
compared with a control request that is served just before.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from control_world import TOKEN_KEY, World, ask
from forge import (
    KEY,
    NOW_S,
    OTHER_DOOR,
    OURS,
    PROVIDER,
    certificate,
    client,
    issuers,
    p256,
    proven,
    refused,
    rules,
    usual,
)
from people import NOW
from sealward.control.call import Heard
from sealward.control.exchange import BURST, Exchange
from sealward.control.office import Office
from sealward.errors import Refused
from sealward.events import Event
from sealward.formats.b64 import b64url
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339
from sealward.formats.token import TokenRequest, parse_token_request
from sealward.identity.certificate import ClientCertificate
from sealward.identity.principal import Principal
from sealward.identity.scope import Scope

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
HERE = "https://localhost:8443"
FORM = {"grant_type": GRANT}


@dataclass
class Desk:
    """An exchange with one service, `app`, that holds a key."""

    world: World
    office: Office
    exchange: Exchange
    key: str

    async def ask(
        self, form: Mapping[str, str] | bytes = FORM, *, token: str = "", certificate: ClientCertificate | None = None
    ) -> Any:
        """(status, JSON) of one exchange."""
        source = {"addr": "203.0.113.9", "port": 4, "tls_version": "1.3"}
        authorization = (b"Bearer " + (token or self.key).encode(),)
        heard = Heard(self.office.author.ulid(), source, authorization, certificate)
        body = form if isinstance(form, bytes) else urlencode(form).encode()
        answer = await self.exchange.answer(heard, body)
        return answer.status_code, json.loads(bytes(answer.body))

    async def minted(self, **form: str) -> str:
        """A token of the control request."""
        status, said = await self.ask(FORM | form)
        assert status == 200, said
        return str(said["access_token"])

    async def refused(self, status: int, error: str, reason: str, form: Mapping[str, str] | bytes, **more: Any) -> None:
        """No token, one entry with the reason, and the answer is a word."""
        await self.minted()
        before = len(self.world.journal.events)
        assert await self.ask(form, **more) == (status, {"error": error})
        written = self.world.journal.events[before:]
        assert [event["decision"]["reason"] for event in written] == [reason]
        assert "token" not in json.dumps([event.get("change", {}) for event in written])

    def proven(self, token: str, **more: Any) -> Principal:
        """Whom a token proves at the inference door now."""
        more = {"source_addr": "203.0.113.9", "now_us": self.world.clock.us, "audience": HERE} | more
        return self.office.decided_by().authenticate([b"Bearer " + token.encode()], **more)

    def reason(self, token: str, **more: Any) -> str:
        """Why it proves nobody."""
        with pytest.raises(Refused) as caught:
            self.proven(token, **more)
        return caught.value.reason.value

    async def admin(self, path: str, body: Any, status: int = 200) -> Any:
        """A call by the owner."""
        reply = await ask(self.office, "POST", f"/api/v1/{path}", body)
        assert reply.status == status, reply
        return reply.body

    @property
    def last(self) -> Event:
        return self.world.journal.events[-1]


Story = Callable[[Desk], Awaitable[None]]
Tell = Callable[..., None]


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    """Runs a story at a desk; `bindings` of the key."""
    world = World(tmp_path)

    def run(story: Story, **bindings: Any) -> None:
        async def whole(office: Office) -> None:
            await office.publisher.settle()
            desk = Desk(world, office, Exchange(office), "")
            await desk.admin("services", {"id": "app"})
            await desk.admin("roles/consumer/subjects", {"subject": "app"})
            await desk.admin("grants", {"to": "subject:app", "model": "m1"})
            made = await desk.admin("apikeys", {"owner": "app"} | ({"bindings": bindings} if bindings else {}))
            desk.key = made["key"]
            await story(desk)

        world.run(whole)

    return run


# -- the exchange --


def test_a_proven_caller_gets_a_token_that_says_what_he_is_and_no_more(tell: Tell) -> None:
    """The control: 300 s, its entry commits to the claims, it names the key it was made of."""

    async def story(desk: Desk) -> None:
        status, said = await desk.ask()
        assert (status, said["token_type"], said["expires_in"], said["issued_token_type"]) == (200, "Bearer", 300, ACCESS_TOKEN)
        entry = desk.last
        assert (entry["type"], entry["subject"]["id"], entry["change"]["action"]) == ("token.exchanged", "app", "exchanged")
        found = desk.proven(said["access_token"])
        assert (found.id, found.authn, found.key_id, found.token_id) == (
            "app",
            "token",
            desk.key[9:20],
            entry["change"]["target"][6:],
        )

    tell(story)


def test_a_wider_scope_than_the_token_that_is_exchanged_is_refused(tell: Tell) -> None:
    """Row 37."""

    async def story(desk: Desk) -> None:
        narrow = await desk.minted(scope="model:list token:exchange model=m1")
        await desk.refused(400, "invalid_scope", "body_field", FORM | {"scope": "model:chat"}, token=narrow)

    tell(story)


def test_another_model_than_the_token_is_for_is_refused(tell: Tell) -> None:
    """Row 37."""

    async def story(desk: Desk) -> None:
        narrow = await desk.minted(scope="model=m1")
        await desk.refused(400, "invalid_scope", "body_field", FORM | {"scope": "model=m2"}, token=narrow)

    tell(story)


def test_saying_nothing_does_not_widen(tell: Tell) -> None:
    """Row 37: a second exchange without a scope keeps the first one's."""

    async def story(desk: Desk) -> None:
        narrow = await desk.minted(scope="model:list token:exchange model=m1")
        _, said = await desk.ask(token=narrow)
        assert said["scope"] == "model:list token:exchange model=m1"

    tell(story)


def test_a_wider_scope_than_the_keys_bindings_is_refused(tell: Tell) -> None:
    """Row 37."""

    async def story(desk: Desk) -> None:
        await desk.refused(400, "invalid_scope", "body_field", FORM | {"scope": "model=m2"})

    tell(story, models=["m1"])


def test_an_unknown_word_in_a_scope_is_refused(tell: Tell) -> None:
    """Dropped in silence it would leave a wider token than was asked for."""

    async def story(desk: Desk) -> None:
        await desk.refused(400, "invalid_scope", "body_field", FORM | {"scope": "model:chta"})

    tell(story)


def test_an_administrators_act_in_a_scope_is_refused(tell: Tell) -> None:
    """A token for the inference door administers nothing."""

    async def story(desk: Desk) -> None:
        await desk.refused(400, "invalid_scope", "body_field", FORM | {"scope": "apikey:create"})

    tell(story)


def test_another_audience_is_refused(tell: Tell) -> None:
    """Row 37: a token for the management door."""

    async def story(desk: Desk) -> None:
        await desk.refused(400, "invalid_target", "body_field", FORM | {"audience": "https://localhost:9443"})

    tell(story)


def test_another_resource_is_refused(tell: Tell) -> None:
    """Row 37: and ours beside it does not help."""

    async def story(desk: Desk) -> None:
        form = FORM | {"audience": HERE, "resource": "https://other.example"}
        await desk.refused(400, "invalid_target", "body_field", form)

    tell(story)


def test_an_actor_is_refused(tell: Tell) -> None:
    """Row 37: nobody acts for another, so there is no loop of actors."""

    async def story(desk: Desk) -> None:
        form = FORM | {"actor_token": "a.b.c", "actor_token_type": ACCESS_TOKEN}
        await desk.refused(400, "invalid_request", "body_field", form)

    tell(story)


def test_a_chain_of_exchanges_ends(tell: Tell) -> None:
    """Row 37: a token of a token of a token of a key; the next would outgrow what the signer signs."""

    async def story(desk: Desk) -> None:
        token = await desk.minted()
        for _ in range(3):
            _, said = await desk.ask(token=token)
            token = said["access_token"]
        await desk.refused(400, "invalid_request", "body_field", FORM, token=token)

    tell(story)


def test_a_chain_of_exchanges_never_lives_longer(tell: Tell) -> None:
    """Row 37: refreshing oneself for ever."""

    async def story(desk: Desk) -> None:
        token = await desk.minted()
        desk.world.clock.us += 200_000_000
        _, said = await desk.ask(token=token)
        assert said["expires_in"] == 100

    tell(story)


def test_a_revoked_token_is_not_exchanged(tell: Tell) -> None:
    """Row 37: the subject token is the request's own credential, so it is 401."""

    async def story(desk: Desk) -> None:
        token = await desk.minted()
        await desk.admin("tokens/revoke", {"token": desk.last["change"]["target"][6:]})
        await desk.refused(401, "invalid_token", "credential_revoked", FORM, token=token)

    tell(story)


def test_a_stranger_is_not_exchanged(tell: Tell) -> None:
    """What a taken door asks in nobody's name."""

    async def story(desk: Desk) -> None:
        await desk.refused(401, "invalid_token", "credential_malformed", FORM, token="x")

    tell(story)


def test_a_token_in_the_form_that_is_not_the_requests_own_is_refused(tell: Tell) -> None:
    """Somebody else's token, exchanged under one's own name."""

    async def story(desk: Desk) -> None:
        mine, other = await desk.minted(), await desk.minted()
        form = FORM | {"subject_token": other, "subject_token_type": ACCESS_TOKEN}
        await desk.refused(400, "invalid_request", "body_field", form, token=mine)
        status, _ = await desk.ask(form | {"subject_token": mine}, token=mine)
        assert status == 200

    tell(story)


def test_a_subject_token_of_another_type_is_refused(tell: Tell) -> None:
    """SAML, an ID token."""

    async def story(desk: Desk) -> None:
        form = FORM | {"subject_token_type": "urn:ietf:params:oauth:token-type:id_token"}
        await desk.refused(400, "invalid_request", "body_field", form)

    tell(story)


def test_a_refresh_token_is_not_given(tell: Tell) -> None:
    """Nothing that lives for days."""

    async def story(desk: Desk) -> None:
        form = FORM | {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}
        await desk.refused(400, "invalid_request", "body_field", form)

    tell(story)


def test_another_grant_is_refused(tell: Tell) -> None:
    """Password, client credentials."""

    async def story(desk: Desk) -> None:
        await desk.refused(400, "unsupported_grant_type", "body_field", {"grant_type": "password"})

    tell(story)


def test_a_form_without_a_grant_is_refused(tell: Tell) -> None:
    """An empty one too."""

    async def story(desk: Desk) -> None:
        await desk.refused(400, "invalid_request", "body_field", {"scope": "model=m1"})
        await desk.refused(400, "invalid_request", "body_field", b"")

    tell(story)


def test_a_parameter_twice_is_refused(tell: Tell) -> None:
    """RFC 6749 section 3.2: the first narrows, the last counts."""

    async def story(desk: Desk) -> None:
        body = urlencode(FORM).encode() + b"&scope=model%3Dm1&scope=model%3Achat"
        await desk.refused(400, "invalid_request", "body_field", body)

    tell(story)


def test_a_form_of_many_parameters_is_refused(tell: Tell) -> None:
    """A hash table to be filled."""

    async def story(desk: Desk) -> None:
        await desk.refused(400, "invalid_request", "body_field", b"&".join(b"p%d=1" % n for n in range(200)))

    tell(story)


def test_json_in_the_place_of_a_form_is_refused(tell: Tell) -> None:
    """Whatever its media type said at the door."""

    async def story(desk: Desk) -> None:
        await desk.refused(400, "invalid_request", "body_field", json.dumps(FORM).encode())

    tell(story)


def test_a_form_in_latin_1_is_refused(tell: Tell) -> None:
    """Bytes with two readings."""

    async def story(desk: Desk) -> None:
        await desk.refused(400, "invalid_request", "body_field", b"grant_type=\xe9")

    tell(story)


def test_a_token_for_an_hour_is_refused(tell: Tell) -> None:
    """At most 900 s, and 900 is given."""

    async def story(desk: Desk) -> None:
        _, said = await desk.ask(FORM | {"expires_in": "900"})
        assert said["expires_in"] == 900
        await desk.refused(400, "invalid_request", "body_field", FORM | {"expires_in": "901"})

    tell(story)


def test_a_token_for_no_time_is_refused(tell: Tell) -> None:
    """Zero, negative, a fraction, another script's digits."""

    async def story(desk: Desk) -> None:
        for text in ("0", "-300", "3e2", "\u0663\u0660\u0660"):
            await desk.refused(400, "invalid_request", "body_field", FORM | {"expires_in": text})

    tell(story)


def test_a_caller_without_the_right_gets_no_token(tell: Tell) -> None:
    """`token:exchange` is decided like every other act."""

    async def story(desk: Desk) -> None:
        await desk.minted()
        reply = await ask(desk.office, "DELETE", "/api/v1/roles/consumer/subjects/app")
        assert reply.status == 200
        assert await desk.ask() == (403, {"error": "access_denied"})
        assert desk.last["decision"]["reason"] == "action_not_granted"

    tell(story)


def test_a_flood_of_exchanges_is_bounded(tell: Tell) -> None:
    """Each is an entry that is synced: nobody fills the journal with tokens."""

    async def story(desk: Desk) -> None:
        for _ in range(BURST):
            assert (await desk.ask())[0] == 200
        before = len(desk.world.journal.events)
        assert await desk.ask() == (429, {"error": "slow_down"})
        assert [event["decision"]["reason"] for event in desk.world.journal.events[before:]] == ["limit_requests"]
        desk.world.clock.us += 2_000_000
        assert (await desk.ask())[0] == 200

    tell(story)


def test_without_an_entry_there_is_no_token(tell: Tell) -> None:
    """The journal refuses: the signer was never asked."""

    async def story(desk: Desk) -> None:
        await desk.minted()
        desk.world.switch.set(0, "refuses")
        status, said = await desk.ask()
        assert (status, said) == (503, {"error": "temporarily_unavailable"})

    tell(story)


# -- what a token is worth --


def test_a_token_dies_with_the_key_it_was_made_of(tell: Tell) -> None:
    """A stolen key's tokens are revoked by revoking the key."""

    async def story(desk: Desk) -> None:
        token = await desk.minted()
        assert desk.proven(token).id == "app"
        await desk.admin(f"apikeys/{desk.key[9:20]}/revoke", {})
        assert desk.reason(token) == "credential_revoked"

    tell(story)


def test_a_token_dies_with_its_keys_suspension(tell: Tell) -> None:
    """Quarantine reaches what was made of it."""

    async def story(desk: Desk) -> None:
        token = await desk.minted()
        await desk.admin(f"apikeys/{desk.key[9:20]}/suspend", {})
        assert desk.reason(token) == "credential_revoked"

    tell(story)


def test_a_token_dies_with_the_token_it_was_made_of(tell: Tell) -> None:
    """A chain is revoked at any of its links."""

    async def story(desk: Desk) -> None:
        parent = await desk.minted()
        ident = desk.last["change"]["target"][6:]
        _, said = await desk.ask(token=parent)
        await desk.admin("tokens/revoke", {"token": ident})
        assert desk.reason(said["access_token"]) == "credential_revoked"

    tell(story)


def test_a_token_dies_with_everything_before_now(tell: Tell) -> None:
    """`not_before`; what is minted afterwards lives."""

    async def story(desk: Desk) -> None:
        token = await desk.minted()
        desk.world.clock.us += 1_500_000
        await desk.admin("tokens/revoke", {"everything": True})
        assert desk.reason(token) == "credential_revoked"
        desk.world.clock.us += 1_000_000
        assert desk.proven(await desk.minted()).id == "app"

    tell(story)


def test_a_token_dies_with_its_subject(tell: Tell) -> None:
    """Disabled."""

    async def story(desk: Desk) -> None:
        token = await desk.minted()
        await desk.admin("services/app/disable", {})
        assert desk.reason(token) == "credential_revoked"

    tell(story)


def test_a_token_keeps_the_network_of_its_key(tell: Tell) -> None:
    """Exchanging inside and using outside does not shed a binding."""

    async def story(desk: Desk) -> None:
        token = await desk.minted()
        assert desk.proven(token).id == "app"
        assert desk.reason(token, source_addr="198.51.100.7") == "credential_binding"

    tell(story, cidrs=["203.0.113.0/24"])


def test_a_token_keeps_the_models_of_its_key(tell: Tell) -> None:
    """At the decision."""

    async def story(desk: Desk) -> None:
        found = desk.proven(await desk.minted())
        desk.office.decided_by().decide(found, "model:chat", "m1", now_us=desk.world.clock.us)
        with pytest.raises(Refused) as caught:
            desk.office.decided_by().decide(found, "model:chat", "later", now_us=desk.world.clock.us)
        assert caught.value.reason == "credential_binding"

    tell(story, models=["m1"])


def test_a_token_for_one_act_does_no_other(tell: Tell) -> None:
    """403, as if it was not granted."""

    async def story(desk: Desk) -> None:
        found = desk.proven(await desk.minted(scope="model:list"))
        desk.office.decided_by().decide(found, "model:list", "m1", now_us=desk.world.clock.us)
        with pytest.raises(Refused) as caught:
            desk.office.decided_by().decide(found, "model:chat", "m1", now_us=desk.world.clock.us)
        assert (caught.value.reason, caught.value.status) == ("action_not_granted", 403)

    tell(story)


def test_a_token_for_one_model_sees_no_other(tell: Tell) -> None:
    """Neither to ask nor to list; unknown and out of scope read the same."""

    async def story(desk: Desk) -> None:
        access, now = desk.office.decided_by(), desk.world.clock.us
        found = desk.proven(await desk.minted(scope="model=later"))
        assert access.visible_models(found, now_us=now) == []
        for model in ("m1", None):
            with pytest.raises(Refused) as caught:
                access.decide(found, "model:chat", model, now_us=now)
            assert caught.value.reason == "model_not_granted"

    tell(story)


def test_a_token_is_nothing_at_the_management_door(tell: Tell) -> None:
    """Its audience is the inference door, whoever its subject is."""

    async def story(desk: Desk) -> None:
        token = await desk.minted()
        reply = await ask(desk.office, "GET", "/api/v1/status", key=token.encode(), role="admin")
        assert reply.status == 401
        assert desk.last["decision"]["reason"] == "token_audience"

    tell(story)


def test_a_token_ends_within_a_stream() -> None:
    """`expires_us` is when whatever runs on it is cut."""
    assert proven(OURS.token()).expires_us == NOW + 300_000_000


# -- bound tokens (rows 35, 36) --


def thumb(name: str) -> dict[str, str]:
    """A confirmation of the certificate of that name."""
    return {"x5t#S256": client(certificate(name)).x5t}


def test_a_bound_token_with_its_certificate_proves_its_holder_until_the_first_of_both_ends() -> None:
    """The control of the rows below."""
    token = OURS.token(cnf=thumb("leaf"), exp=NOW_S + 900)
    found = proven(token, certificate=client(certificate("leaf")))
    assert (found.id, found.expires_us) == ("ann", NOW + 900_000_000)


def test_a_bound_token_without_a_certificate_is_no_bearer_token() -> None:
    """Row 36."""
    refused(OURS.token(cnf=thumb("leaf")), "token_binding", by=OURS)


def test_a_bound_token_with_another_certificate_is_refused() -> None:
    """Row 36: a sound one, of the same trust domain."""
    refused(OURS.token(cnf=thumb("leaf")), "token_binding", by=OURS, certificate=client(certificate("other")))


def test_a_bound_token_with_its_authoritys_certificate_first_is_refused() -> None:
    """Row 36: the chain holds the right one, but not as the client's own."""
    shown = client(certificate("other"), certificate("leaf"))
    refused(OURS.token(cnf=thumb("leaf")), "token_binding", by=OURS, certificate=shown)


def test_a_proven_bound_token_is_looked_at_again_with_every_request() -> None:
    """Row 36: the cache of one connection does not excuse the next."""
    found, token = rules(), OURS.token(cnf=thumb("leaf"))
    assert proven(token, found, certificate=client(certificate("leaf"))).id == "ann"
    refused(token, "token_binding", found, by=OURS)


def test_a_bound_token_ends_with_its_certificate() -> None:
    """The certificate's end cuts the stream when it is the first."""
    short = certificate("brief", life=(-3600, 60))
    token = OURS.token(cnf={"x5t#S256": client(short).x5t})
    assert proven(token, certificate=client(short)).expires_us == NOW + 60_000_000


def test_a_token_bound_to_a_key_of_dpop_is_no_bearer_token() -> None:
    """Row 35: `jkt`; proofs are not built, so nothing shows it."""
    refused(OURS.token(cnf={"jkt": "A" * 43}), "token_binding", by=OURS)


def test_a_confirmation_with_two_members_is_refused() -> None:
    """Row 35: one of them is shown, the other is not."""
    cnf = thumb("leaf") | {"jkt": "A" * 43}
    refused(OURS.token(cnf=cnf), "token_binding", by=OURS, certificate=client(certificate("leaf")))


def test_an_empty_confirmation_is_refused() -> None:
    """Row 35: it is not a bearer token's."""
    refused(OURS.token(cnf={}), "token_binding", by=OURS, certificate=client(certificate("leaf")))


def test_a_confirmation_that_is_null_is_refused() -> None:
    """Row 35: `null` is not absent."""
    refused(OURS.token(cnf=None), "token_binding", by=OURS)


def test_an_empty_thumbprint_is_refused() -> None:
    """Row 35: it would equal the absence of a certificate in a careless comparison."""
    refused(OURS.token(cnf={"x5t#S256": ""}), "token_binding", by=OURS)


def test_who_shows_a_certificate_gets_a_token_that_is_bound_to_it(tell: Tell) -> None:
    """So what a taken door asks for in a workload's name is worth nothing without that workload's key."""

    async def story(desk: Desk) -> None:
        shown = client(certificate("leaf"))
        _, said = await desk.ask(certificate=shown)
        assert desk.reason(said["access_token"]) == "token_binding"
        assert desk.proven(said["access_token"], certificate=shown).id == "app"

    tell(story)


# -- names that only look like ours --


def test_a_token_of_ours_for_a_subject_that_is_gone_is_refused() -> None:
    """`sub` is the subject itself, so it must be there."""
    refused(OURS.token(sub="nobody"), "credential_revoked", by=OURS)


def test_a_token_of_ours_for_a_disabled_subject_is_refused() -> None:
    """Bob is disabled."""
    refused(OURS.token(sub="bob"), "credential_revoked", by=OURS)


def test_a_token_of_ours_for_the_local_administrator_is_refused() -> None:
    """Nobody of that name is in the snapshot."""
    refused(OURS.token(sub="local-admin"), "credential_revoked", by=OURS)


def test_a_token_of_ours_signed_by_a_stranger_is_refused() -> None:
    """The right kid."""
    refused(OURS.token(key=p256("stranger")), "token_invalid", by=OURS)


def test_a_token_of_ours_for_another_door_is_refused() -> None:
    """Exactly one."""
    refused(OURS.token(aud=OTHER_DOOR), "token_audience", by=OURS)


def test_a_token_at_a_door_that_takes_none_is_refused() -> None:
    """A process that was not told how it is called."""
    refused(OURS.token(), "token_audience", by=OURS, audience=None)


def test_a_token_of_ours_with_an_unknown_scope_is_refused() -> None:
    """What a word means that nobody knows is not guessed."""
    refused(OURS.token(scope="root"), "token_invalid", by=OURS)


def test_somebody_elses_scope_gives_nothing_here() -> None:
    """An identity provider's `scope` is about its own resources."""
    assert proven(PROVIDER.token(scope="openid admin")).scope is None


def test_somebody_elses_token_cannot_name_what_it_was_made_of() -> None:
    """`via` is read in our own tokens alone: nobody else's can attach itself to a key's bindings."""
    assert proven(PROVIDER.token(via=[{"key": KEY.id}])).key_id is None


def test_a_token_made_of_a_key_that_is_gone_is_refused() -> None:
    """`via` names one that is not in the snapshot."""
    refused(OURS.token(via=[{"key": "0" * 11}]), "credential_revoked", by=OURS)


def test_a_token_made_of_an_issuers_token_that_was_revoked_is_refused() -> None:
    """The provider's `jti` stands in its row."""
    pin = usual().issuers.by_id["idp"].principals[0].digest
    token = OURS.token(via=[{"row": "idp", "pin": pin, "jti": "j-9", "iat": NOW_S}])
    assert proven(token).id == "ann"
    refused(token, "credential_revoked", rules(issuers(idp={"revoked": {"j-9": rfc3339(NOW)}})), by=OURS)


def test_a_token_made_of_an_issuer_that_is_no_longer_believed_is_refused() -> None:
    """The row is gone."""
    token = OURS.token(via=[{"row": "idp"}])
    refused(token, "credential_revoked", rules(issuers(idp=None)), by=OURS)


def test_a_token_made_by_a_pin_that_was_changed_is_refused() -> None:
    """Who is no longer mapped to the subject loses what he exchanged, too."""
    refused(OURS.token(via=[{"row": "idp", "pin": "0" * 32}]), "credential_revoked", by=OURS)


def test_a_revoked_session_ends_all_its_tokens() -> None:
    """`sid` in the issuer's row (back-channel logout)."""
    row = {"revoked": {"s-1": rfc3339(NOW)}}
    refused(PROVIDER.token(sid="s-1"), "credential_revoked", rules(issuers(idp=row)))


def test_a_token_from_before_the_issuers_not_before_is_refused() -> None:
    """To the second."""
    found = rules(issuers(idp={"not_before": rfc3339(NOW)}))
    assert proven(PROVIDER.token(), found).id == "ann"
    refused(PROVIDER.token(iat=NOW_S - 1), "credential_revoked", found)


def test_a_running_token_that_is_revoked_is_renewed_by_nobody() -> None:
    """What a door asks of the next snapshot about everything that runs."""
    before = proven(PROVIDER.token())
    assert usual().renew(before, now_us=NOW).id == "ann"
    with pytest.raises(Refused) as caught:
        rules(issuers(idp={"revoked": {"j-1": rfc3339(NOW)}})).renew(before, now_us=NOW)
    assert caught.value.reason == "credential_revoked"


def test_a_running_tokens_issuer_that_is_removed_ends_it() -> None:
    """The row is the right."""
    with pytest.raises(Refused) as caught:
        rules(issuers(idp=None)).renew(proven(PROVIDER.token()), now_us=NOW)
    assert caught.value.reason == "credential_revoked"


def test_a_running_token_whose_pins_changed_ends() -> None:
    """Its claims are nobody's under the new snapshot."""
    other = {"principals": [{"pins": {"sub": "u-2"}, "subject": "ann"}]}
    with pytest.raises(Refused) as caught:
        rules(issuers(idp=other)).renew(proven(PROVIDER.token()), now_us=NOW)
    assert caught.value.reason == "credential_unknown"


# -- the signer's own eyes: what a taken control asks for --


CLAIMS: dict[str, Any] = {
    "iss": HERE, "aud": HERE, "sub": "app", "client_id": "app", "jti": "01J0000000000000000000000A", "iat": NOW_S,
    "exp": NOW_S + 300,
}  # fmt: skip


async def asked(desk: Desk, claims: Mapping[str, Any], **more: Any) -> str:
    """What the signer says to a request that has an entry: the token, or why not."""
    request = TokenRequest("app", claims, "00" * 32)
    told = {"target": "token:x", "action": "mint", "digest": f"sha256:{more.pop('digest', request.digest)}", "salt": request.salt}
    event = desk.office.author.event("token.minted", {"id": "control", "kind": "system"}, change=told)
    intent = await desk.world.journal.record(event)
    message = {"n": 1, "op": "token", "change": request.raw.decode(), "index": intent.index, "leaf": intent.leaf.hex()}
    message |= {"promise": b64url(intent.promise)} | more
    reply = desk.world.signer.handle(more.pop("role", "control"), message).reply
    return str(reply.get("refused", "signed"))


def unsigned(tell: Tell, reason: str, claims: Mapping[str, Any], **more: Any) -> None:
    """The control is signed, this is not."""

    async def story(desk: Desk) -> None:
        assert await asked(desk, CLAIMS) == "signed"
        assert await asked(desk, claims, **more) == reason

    tell(story)


def test_the_signer_signs_no_token_over_900_seconds(tell: Tell) -> None:
    """Whoever asks."""
    unsigned(tell, "lifetime", CLAIMS | {"exp": NOW_S + 901})


def test_the_signer_signs_no_token_of_tomorrow(tell: Tell) -> None:
    """A stock of tokens for later."""
    unsigned(tell, "lifetime", CLAIMS | {"iat": NOW_S + 86_400, "exp": NOW_S + 86_700})


def test_the_signer_signs_no_token_of_yesterday(tell: Tell) -> None:
    """An old entry is no new token."""
    unsigned(tell, "lifetime", CLAIMS | {"iat": NOW_S - 61, "exp": NOW_S + 239})


def test_the_signer_signs_no_token_for_nobody(tell: Tell) -> None:
    """Not in its own snapshot."""
    unsigned(tell, "subject", CLAIMS | {"sub": "ghost", "client_id": "ghost"})


def test_the_signer_signs_no_token_for_another_door(tell: Tell) -> None:
    """Its snapshot says which door tokens are for."""
    unsigned(tell, "issuer", CLAIMS | {"aud": "https://localhost:9443"})


def test_the_signer_signs_no_token_in_anothers_name(tell: Tell) -> None:
    """`iss` of the identity provider."""
    unsigned(tell, "issuer", CLAIMS | {"iss": "https://idp.example"})


def test_the_signer_signs_no_claim_that_it_does_not_know(tell: Tell) -> None:
    """`roles`, `admin`: what a later reader may take for a right."""
    unsigned(tell, "malformed", CLAIMS | {"roles": ["model-admin"]})


def test_the_signer_signs_nothing_without_a_token_id(tell: Tell) -> None:
    """It could not be revoked."""
    unsigned(tell, "malformed", {name: value for name, value in CLAIMS.items() if name != "jti"})


def test_the_signer_signs_nothing_whose_entry_commits_to_something_else(tell: Tell) -> None:
    """The promise is for another digest: no entry, no token."""
    unsigned(tell, "promise", CLAIMS, digest="00" * 32)


def test_the_signer_signs_nothing_by_a_promise_for_another_place(tell: Tell) -> None:
    """An index that is not the entry's."""
    unsigned(tell, "promise", CLAIMS, index=0)


def test_the_signer_signs_no_token_for_a_door(tell: Tell) -> None:
    """A taken door has a socket to the signer, and a promise; it is not control."""

    async def story(desk: Desk) -> None:
        assert await asked(desk, CLAIMS) == "signed"
        for role in ("door", "admin", "recorder", "runtime"):
            message = {"n": 1, "op": "token", "change": "{}", "index": 0, "leaf": "00" * 32, "promise": ""}
            assert desk.world.signer.handle(role, message).reply["refused"] == "malformed"

    tell(story)


def test_a_request_for_a_token_has_one_spelling() -> None:
    """Canonical JSON: another order, another number, a member twice."""
    raw = TokenRequest("app", CLAIMS, "00" * 32).raw
    assert parse_token_request(raw).claims == CLAIMS
    for bad in (raw + b" ", raw.replace(b'"v":1', b'"v":true'), raw.replace(b'"v":1', b'"v":2'), b"{}", raw[:-1]):
        with pytest.raises(FormatError):
            parse_token_request(bad)


# -- minting by an administrator --


def test_no_administrator_mints_for_a_person(tell: Tell) -> None:
    """Nobody else is given a token in his name."""

    async def story(desk: Desk) -> None:
        assert (await desk.admin("tokens", {"subject": "app"}))["expires_in"] == 300
        await desk.admin("users", {"id": "ann"})
        await desk.admin("tokens", {"subject": "ann"}, 409)

    tell(story)


def test_no_administrator_mints_for_longer_than_900_seconds(tell: Tell) -> None:
    """At the form."""

    async def story(desk: Desk) -> None:
        await desk.admin("tokens", {"subject": "app", "lifetime_s": 901}, 400)

    tell(story)


def test_a_minted_token_names_who_minted_it_in_its_entry(tell: Tell) -> None:
    """And is told once, never in the journal."""

    async def story(desk: Desk) -> None:
        made = await desk.admin("tokens", {"subject": "app", "scope": "model=m1"})
        entry = desk.last
        assert (entry["type"], entry["subject"]["id"], entry["change"]["target"]) == (
            "token.minted", "local-admin", f"token:{made['id']}",
        )  # fmt: skip
        assert made["token"].rpartition(".")[2] not in json.dumps(desk.world.journal.events)
        assert desk.proven(made["token"]).scope == Scope(None, frozenset({"m1"}))

    tell(story)


def test_the_own_row_of_a_deployment_holds_the_signers_key(tell: Tell) -> None:
    """From the first change on."""

    async def story(desk: Desk) -> None:
        assert desk.office.snapshot.sections["issuers"]["sealward"]["keys"] == {"jwks": [TOKEN_KEY.jwk]}

    tell(story)
