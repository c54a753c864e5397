"""Trusted issuers of `sealward.yaml` and `sealward token` on a whole deployment: what a page of docs/howto promises, as typed."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from forge import DOMAIN, PROVIDER, certificate, jwk, key_pem, p256
from living import CHAT, MODEL, Living
from uids import open_folder

YEARS = 10 * 365 * 86_400
DOOR = "https://localhost"
ISSUERS = f"""
identity:
  issuers:
    - {{id: idp, issuer: "https://idp.example", profile: rfc9068, jwks_file: idp.json,
       principals: [{{subject: bot, pins: {{sub: u-1}}}}]}}
    - {{id: mesh, issuer: {DOMAIN}, profile: x509-svid, bundle_file: mesh.pem,
       principals: [{{subject: bot, pins: {{sub: "spiffe://{DOMAIN}/bot"}}}}]}}
"""


class Town(Living):
    """A deployment that believes an identity provider and a trust domain, with the service `bot`."""

    def sealward(self, *arguments: str) -> str:
        """As typed; between the two runs of `init` the settings get their issuers."""
        file = self.home / "sealward.yaml"
        if arguments[0] == "init" and file.exists():
            text = file.read_text().replace("identity:\n  local_admin: true\n  apikey: {max_age: 90d, warn: 14d}\n", ISSUERS)
            file.write_text(text)
            (self.home / "idp.json").write_text(json.dumps({"keys": [jwk(p256("idp"), "k1", "ES256")]}))
            root = certificate("long-root", "long-root", ca=True, uris=(f"spiffe://{DOMAIN}",), life=(-YEARS, YEARS))
            (self.home / "mesh.pem").write_bytes(root.public_bytes(Encoding.PEM))
            leaf = certificate("bot", "long-root", life=(-YEARS, YEARS))
            (self.home / "bot.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
            (self.home / "bot.key").write_bytes(key_pem("bot"))
        return super().sealward(*arguments)

    def chat(self, bearer: str = "", *, certificate: bool = False) -> int:
        """The status of one chat request."""
        report = json.loads((self.home / "run/supervisor.json").read_text())
        tls = ssl.create_default_context(cafile=self.home / "tls/ca.pem")
        if certificate:
            tls.load_cert_chain(self.home / "bot.pem", self.home / "bot.key")
        port = int(report["listening"]["inference"].rpartition(":")[2])
        connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=tls)
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {bearer}"} if bearer else {})
        connection.request("POST", "/v1/chat/completions", json.dumps(CHAT), headers)
        status = connection.getresponse().status
        connection.close()
        return status

    def said(self, *arguments: str) -> Any:
        """What a command says as JSON."""
        return json.loads(self.sealward(*arguments, "--json"))


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    """One for all tests here."""
    with open_folder() as folder:
        found = Town(folder / "ai")
        for words in ("service create bot", "role assign consumer bot", f"grant add subject:bot {MODEL}"):
            found.sealward(*words.split())
        yield found
        found.close()


def now_token(**claims: Any) -> str:
    """A token of the provider, of now, for this deployment."""
    now = int(time.time())
    return PROVIDER.token(aud=DOOR, iat=now, exp=now + 300, **claims).decode()


def test_an_issuer_of_the_settings_is_believed(town: Town) -> None:
    """Its key from a file, its claims pinned; another subject of it is nobody."""
    assert (town.chat(now_token()), town.chat(now_token(sub="u-2"))) == (200, 401)


def test_a_workload_comes_by_its_certificate_alone(town: Town) -> None:
    """And without one nobody comes."""
    assert (town.chat(certificate=True), town.chat()) == (200, 401)


def test_a_certificate_is_exchanged_for_a_token_that_is_bound_to_it(town: Town) -> None:
    """Nobody else can use it."""
    files = ("--certificate", str(town.home / "bot.pem"), "--certificate-key", str(town.home / "bot.key"))
    token = town.sealward("token", "exchange", *files).strip()
    assert (town.chat(token), town.chat(token, certificate=True)) == (401, 200)


def test_a_token_of_an_issuer_is_exchanged_for_a_narrower_one(town: Town, tmp_path: Path) -> None:
    """The credential comes from a file, never from the command line; what is printed on stdout is the token alone."""
    file = tmp_path / "token"
    file.write_text(now_token(jti="x") + "\n")
    said = town.said(
        "token", "exchange", "--credential-file", str(file), "--model", MODEL, "--action", "model:chat", "--seconds", "60"
    )
    assert (said["scope"], said["expires_in"]) == (f"model:chat model={MODEL}", 60)
    assert town.chat(said["access_token"]) == 200


def test_a_minted_token_is_revoked(town: Town) -> None:
    """By its id; then everything made until now, to the end of that second."""
    one, two = town.said("token", "mint", "bot", "--seconds", "600"), town.said("token", "mint", "bot")
    assert (town.chat(one["token"]), town.chat(two["token"])) == (200, 200)
    town.sealward("token", "revoke", one["id"])
    town.until(lambda: town.chat(one["token"]) == 401, 5)
    assert town.chat(two["token"]) == 200
    town.sealward("token", "revoke", "--all")
    town.until(lambda: town.chat(two["token"]) == 401, 5)
    town.until(lambda: town.chat(town.said("token", "mint", "bot")["token"]) == 200, 5)


def test_a_token_of_an_issuer_is_revoked_by_its_id(town: Town) -> None:
    """`--issuer`."""
    token = now_token(jti="lost")
    assert town.chat(token) == 200
    town.sealward("token", "revoke", "lost", "--issuer", "idp")
    town.until(lambda: town.chat(token) == 401, 5)
    assert town.chat(now_token(jti="kept")) == 200
