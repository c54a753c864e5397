"""Tokens and client certificates at a real door: one credential counts, what ends cuts, keys of issuers are asked for anew."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import people
from doors import CHAT, STREAM, STREAM_HEAD, Asked, Sidecar, chunk, event, house, json_answer, later, run, until
from forge import DOMAIN, DOOR, KEY, POD, PROVIDER, b64, certificate, client, issuers, jwk, key_pem, p256, town
from sealward.formats.ids import rfc3339
from sealward.formats.snapshot import Snapshot

YEARS = 10 * 365 * 86_400
LONG = (-YEARS, YEARS)  # for TLS, whose clock is the machine's
TRUST = {"trust": {"sidecar:local": {"local": True}}}


def authority(name: str = "long-root") -> x509.Certificate:
    """A root that both clocks believe."""
    return certificate(name, name, ca=True, uris=(f"spiffe://{DOMAIN}",), life=LONG)


def leaf(name: str = "bot", issuer: str = "long-root", **more: Any) -> x509.Certificate:
    """A workload's certificate under it."""
    return certificate(name, issuer, life=LONG, **more)


def served(**more: Any) -> Snapshot:
    """The town of forge.py behind a door, with a trust domain that lasts; ann may use m1, so may bot."""
    bundle = {"keys": {"certificates": [b64(authority().public_bytes(Encoding.DER))]}}
    rows = issuers(domain=bundle, **more.pop("issuers", {}))
    return town(rows, **TRUST, **more)


def with_certificate(folder: Path, *chain: x509.Certificate, key: str = "bot") -> ssl.SSLContext:
    """The caller's TLS, showing a certificate."""
    context = ssl.create_default_context(cafile=str(folder / "server.pem"))
    (folder / "client.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))
    (folder / "client.key").write_bytes(key_pem(key))
    context.load_cert_chain(folder / "client.pem", folder / "client.key")
    return context


async def words(asked: Asked) -> AsyncIterator[bytes]:
    """A stream that goes on."""
    yield STREAM_HEAD
    n = 0
    while not asked.gone.is_set():
        n += 1
        yield chunk(event(f"word{n} "))
        await asyncio.sleep(0.002)


def test_a_token_of_an_issuer_is_served_and_its_entry_says_so(tmp_path: Path) -> None:
    """From the header to the recorder: subject, how it was proven, whose token, which."""

    async def scenario() -> None:
        async with house(tmp_path, audience=DOOR) as home:
            home.change(later(served(), limits={}))
            answer = await home.ask("POST", "/v1/chat/completions", CHAT, b"Bearer " + PROVIDER.token())
            assert answer.status == 200
            subject = next(iter(home.recorder.admitted.values()))["event"]["subject"]
            assert (subject["id"], subject["authn"]) == ("ann", "jwt")
            assert (subject["issuer"], subject["token_id"]) == ("https://idp.example", "j-1")

    run(scenario)


def test_a_hostile_token_leaves_one_entry_and_an_answer_that_says_nothing(tmp_path: Path) -> None:
    """Class B, with the way to the metadata and no word about why."""

    async def scenario() -> None:
        async with house(tmp_path, audience=DOOR) as home:
            home.change(later(served(), limits={}))
            answer = await home.ask("POST", "/v1/chat/completions", CHAT, b"Bearer " + PROVIDER.token({"alg": "none"}))
            challenge = f'Bearer error="invalid_token", resource_metadata="{DOOR}/.well-known/oauth-protected-resource"'
            assert (answer.status, answer.headers["www-authenticate"]) == (401, challenge)
            assert b"alg" not in answer.content
            await until(lambda: home.recorder.reasons("request.refused") == ["token_invalid"])
            assert home.sidecar.asked == []

    run(scenario)


def test_a_workload_is_served_by_its_certificate_alone(tmp_path: Path) -> None:
    """No header; intermediate certificates count; the entry names the SPIFFE id and the thumbprint."""

    async def scenario() -> None:
        async with house(tmp_path, audience=DOOR) as home:
            home.change(later(served(), limits={}))
            middle = certificate("middle", "long-root", ca=True, uris=(f"spiffe://{DOMAIN}",), life=LONG)
            home.context = with_certificate(tmp_path, leaf(issuer="middle"), middle)
            assert (await home.ask("POST", "/v1/chat/completions", CHAT, None)).status == 200
            subject = next(iter(home.recorder.admitted.values()))["event"]["subject"]
            assert (subject["authn"], subject["spiffe_id"]) == ("spiffe", f"spiffe://{DOMAIN}/bot")
            assert subject["cert_thumbprint"] == client(leaf(issuer="middle")).thumbprint

    run(scenario)


def test_a_certificate_of_nobody_we_know_ends_in_the_handshake(tmp_path: Path) -> None:
    """Attack 86, class D: recorded, no answer."""

    async def scenario() -> None:
        async with house(tmp_path, audience=DOOR) as home:
            home.change(later(served(), limits={}))
            home.context = with_certificate(tmp_path, leaf(issuer="stranger"))
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await home.ask("POST", "/v1/chat/completions", CHAT, None)
            await until(lambda: home.recorder.reasons("request.refused") == ["tls_certificate"])
            assert home.sidecar.asked == []

    run(scenario)


def test_a_certificate_with_two_names_is_refused_by_the_request(tmp_path: Path) -> None:
    """The handshake is sound, the identity is not."""

    async def scenario() -> None:
        async with house(tmp_path, audience=DOOR) as home:
            home.change(later(served(), limits={}))
            two = leaf(uris=(f"spiffe://{DOMAIN}/bot", f"spiffe://{DOMAIN}/x"))
            home.context = with_certificate(tmp_path, two)
            assert (await home.ask("POST", "/v1/chat/completions", CHAT, None)).status == 401
            await until(lambda: home.recorder.reasons("request.refused") == ["credential_malformed"])

    run(scenario)


def test_a_key_that_is_tied_to_a_certificate_works_with_it_and_only_with_it(tmp_path: Path) -> None:
    """Bindings of API keys end to end."""

    async def scenario() -> None:
        async with house(tmp_path, audience=DOOR) as home:
            bound = people.key_row(KEY, "ann", bindings={"certificate": client(leaf()).thumbprint})
            home.change(later(served(keys={KEY.id: bound}), limits={}))
            bearer = people.header(KEY)[0]
            assert (await home.ask("POST", "/v1/chat/completions", CHAT, bearer)).status == 401
            await until(lambda: home.recorder.reasons("request.refused") == ["credential_binding"])
            home.context = with_certificate(tmp_path, leaf())
            assert (await home.ask("POST", "/v1/chat/completions", CHAT, bearer)).status == 200

    run(scenario)


def test_no_session_is_resumed_where_certificates_count(tmp_path: Path) -> None:
    """A resumed session shows no chain, and nobody whose certificate has ended since."""

    async def scenario() -> None:
        async with house(tmp_path, audience=DOOR) as home:
            home.change(later(served(), limits={}))
            home.context = with_certificate(tmp_path, leaf())
            caller = await home.connect()
            await caller.ask("GET", "/v1/models", b"", None)
            assert not caller.writer.get_extra_info("ssl_object").session.has_ticket

    run(scenario)


def test_a_stream_on_a_token_ends_with_the_token(tmp_path: Path) -> None:
    """In the middle: `expired`, recorded as a revocation."""

    async def scenario() -> None:
        async with house(tmp_path, audience=DOOR) as home:
            home.change(later(served(), limits={}))
            home.sidecar.script = words
            caller = await home.connect()
            await caller.send("POST", "/v1/chat/completions", STREAM, b"Bearer " + PROVIDER.token())
            _, headers = await caller.head()
            await caller.reader.readuntil(b"word3")
            home.clock.step = 300_000_000
            assert b"[DONE]" not in await caller.rest()
            request = headers["x-sealward-request"]
            await until(lambda: request in home.recorder.closed)
            assert home.recorder.closed[request]["event"]["decision"]["reason"] == "expired"

    run(scenario)


def test_a_stream_on_a_certificate_ends_with_the_certificate(tmp_path: Path) -> None:
    """The same for what a handshake has proven years ago."""

    async def scenario() -> None:
        async with house(tmp_path, audience=DOOR) as home:
            home.change(later(served(), limits={}))
            home.sidecar.script = words
            home.context = with_certificate(tmp_path, leaf())
            caller = await home.connect()
            await caller.send("POST", "/v1/chat/completions", STREAM, None)
            _, headers = await caller.head()
            await caller.reader.readuntil(b"word3")
            home.clock.step = YEARS * 1_000_000
            assert b"[DONE]" not in await caller.rest()
            request = headers["x-sealward-request"]
            await until(lambda: request in home.recorder.closed)
            assert home.recorder.closed[request]["event"]["decision"]["reason"] == "expired"

    run(scenario)


def test_a_stream_on_a_token_that_is_revoked_ends_at_once(tmp_path: Path) -> None:
    """The issuer's row names its `jti`; another token of the same subject goes on."""

    async def scenario() -> None:
        async with house(tmp_path, audience=DOOR) as home:
            home.change(later(served(), limits={}))
            home.sidecar.script = words
            victim, other = await home.connect(), await home.connect()
            for caller, jti in ((victim, "j-1"), (other, "j-2")):
                await caller.send("POST", "/v1/chat/completions", STREAM, b"Bearer " + PROVIDER.token(jti=jti))
                await caller.head()
                await caller.reader.readuntil(b"word3")
            row = dict(home.snapshots.held.sections["issuers"]["idp"]) | {"revoked": {"j-1": rfc3339(people.NOW)}}
            home.change(later(home.snapshots.held, issuers={"idp": row}))
            assert b"[DONE]" not in await victim.rest()
            await other.reader.readuntil(b"word")
            assert len(home.worker.cuts) == 1

    run(scenario)


def test_the_metadata_is_everybodys_and_leaves_no_entry(tmp_path: Path) -> None:
    """RFC 9728: where tokens for people come from; clusters and pipelines are not named."""

    async def scenario() -> None:
        async with house(tmp_path, audience=DOOR) as home:
            home.change(later(served(), limits={}))
            answer = await home.ask("GET", "/.well-known/oauth-protected-resource", b"", None)
            assert answer.status == 200
            told = answer.json()
            assert (told["resource"], told["authorization_servers"]) == (DOOR, ["https://idp.example"])
            assert told["tls_client_certificate_bound_access_tokens"] is True
            assert home.recorder.events == []

    run(scenario)


class Control(Sidecar):
    """Control's socket: `said` is its answer to a question about keys."""

    said = True


async def control_of(folder: Path) -> tuple[Control, asyncio.Server]:
    """It listens in `folder`."""
    control = Control()

    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        del asked
        yield json_answer({"changed": control.said})

    control.script = answer
    return control, await asyncio.get_running_loop().create_unix_server(control.protocol, folder / "control.sock")


FETCHED = {"jwks_url": "https://k8s.example/keys", "algorithms": ["ES256"], "until": rfc3339(people.NOW + people.DAY)}


def cluster(*kids: str) -> dict[str, Any]:
    """The cluster's row with these keys, all of the same hand."""
    row = issuers()["cluster"]
    return row | {"keys": FETCHED | {"jwks": [jwk(p256("cluster"), kid, "ES256") for kid in kids]}}


def test_a_key_that_was_rotated_just_now_is_asked_for_and_the_request_is_served(tmp_path: Path) -> None:
    """Attack row 33: control fetches and publishes; the door waits for the delta and goes on."""

    async def scenario() -> None:
        control, server = await control_of(tmp_path)
        async with house(tmp_path, audience=DOOR, control=tmp_path / "control.sock") as home:
            home.change(later(served(), issuers={"cluster": cluster("c1")}))
            asking = asyncio.ensure_future(home.ask("POST", "/v1/chat/completions", CHAT, b"Bearer " + POD.token({"kid": "c2"})))
            await until(lambda: control.asked)
            assert orjson.loads(control.asked[0].body) == {"issuer": "cluster"}
            home.change(later(home.snapshots.held, issuers={"cluster": cluster("c1", "c2")}))
            assert (await asking).status == 200
        server.close()

    run(scenario)


def test_a_flood_of_made_up_keys_costs_one_question(tmp_path: Path) -> None:
    """Attack row 32: everybody is refused, control is asked once, and pinned issuers are never asked about."""

    async def scenario() -> None:
        control, server = await control_of(tmp_path)
        control.said = False
        async with house(tmp_path, audience=DOOR, control=tmp_path / "control.sock") as home:
            home.change(later(served(), issuers={"cluster": cluster("c1")}))
            tokens = [POD.token({"kid": f"made-up-{n}"}) for n in range(20)] + [PROVIDER.token({"kid": "made-up"})]
            answers = [await home.ask("POST", "/v1/chat/completions", CHAT, b"Bearer " + token) for token in tokens]
            assert {answer.status for answer in answers} == {401}
            assert len(control.asked) == 1
            assert set(home.recorder.reasons("request.refused")) == {"token_invalid"}
        server.close()

    run(scenario)


def test_a_control_that_is_gone_only_refuses_what_is_unknown(tmp_path: Path) -> None:
    """Keys that are known go on."""

    async def scenario() -> None:
        async with house(tmp_path, audience=DOOR, control=tmp_path / "nobody.sock") as home:
            home.change(later(served(), issuers={"cluster": cluster("c1")}))
            assert (await home.ask("POST", "/v1/chat/completions", CHAT, b"Bearer " + POD.token({"kid": "c2"}))).status == 401
            assert (await home.ask("POST", "/v1/chat/completions", CHAT, b"Bearer " + POD.token())).status == 200

    run(scenario)


def test_an_exchange_goes_to_control_with_credential_and_certificate(tmp_path: Path) -> None:
    """And control's answer comes back as it is."""

    async def scenario() -> None:
        control, server = await control_of(tmp_path)
        async with house(tmp_path, audience=DOOR, control=tmp_path / "control.sock") as home:
            home.change(later(served(), limits={}))
            home.context = with_certificate(tmp_path, leaf())
            form = {"content-type": "application/x-www-form-urlencoded"}
            body = b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"
            bearer = b"Bearer " + PROVIDER.token()
            assert (await home.ask("POST", "/sealward/v1/token", body, bearer, **form)).json() == {"changed": True}
            assert (await home.ask("POST", "/sealward/v1/token", body, None, **form)).status == 200
            first, second = control.asked
            assert (first.headers[b"authorization"], first.body) == (bearer, body)
            assert first.headers[b"x-sealward-certificate"] == b64(leaf().public_bytes(Encoding.DER)).encode()
            assert b"authorization" not in second.headers
        server.close()

    run(scenario)
