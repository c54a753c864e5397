"""`sealward token`: short-lived tokens for the inference door: minted for a service, exchanged for what one has, revoked."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import click

from sealward.cli.admin import AdminApi, admin_verb
from sealward.cli.output import Output, shared_options
from sealward.errors import ConfigurationError, Reason, Refused, UnreachableError, UsageError


@click.group()
def token() -> None:
    """Short-lived tokens for the inference door."""


@token.command()
@click.argument("subject")
@click.option("--model", "models", multiple=True, help="Only for this model.")
@click.option("--action", "actions", multiple=True, help="Only for this action, such as model:chat.")
@click.option("--seconds", type=click.IntRange(1, 900), help="How long it lives (default: as the settings say, 300).")
@admin_verb
def mint(api: AdminApi, out: Output, subject: str, models: list[str], actions: list[str], seconds: int | None) -> None:
    """Make a token for the service SUBJECT. It is printed once, alone on stdout; the journal names who made it."""
    body: dict[str, Any] = {"subject": subject} | ({"lifetime_s": seconds} if seconds else {})
    scope = _scope(models, actions)
    made = api.post("tokens", body | ({"scope": scope} if scope else {}))
    out.data(made, made["token"])
    out.words(f"token {made['id']}, {made['expires_in']} s; it is not shown again")


@token.command()
@click.option("--model", "models", multiple=True, help="Only for this model.")
@click.option("--action", "actions", multiple=True, help="Only for this action, such as model:chat.")
@click.option("--seconds", type=click.IntRange(1, 900), help="How long it lives at most.")
@click.option("--url", envvar="SEALWARD_INFERENCE_URL", help="An inference door (default: the one of this deployment).")
@click.option("--ca", type=click.Path(path_type=Path), help="The CA of its certificate (default: tls/ca.pem of --home).")
@click.option(
    "--credential-file", envvar="SEALWARD_CREDENTIAL_FILE", type=click.Path(path_type=Path), help="An API key or a token."
)
@click.option("--certificate", type=click.Path(path_type=Path), help="A client certificate: the token is bound to it.")
@click.option("--certificate-key", type=click.Path(path_type=Path), help="Its key.")
@shared_options
def exchange(home: Path, out: Output, models: list[str], actions: list[str], seconds: int | None, **where: Any) -> None:
    """Exchange an API key, a token of a trusted issuer or a client certificate for a token of ours (RFC 8693)."""
    form = {"grant_type": GRANT} | ({"expires_in": str(seconds)} if seconds else {})
    scope = _scope(models, actions)
    said = _exchanged(home, form | ({"scope": scope} if scope else {}), **where)
    out.data(said, said["access_token"])
    out.words(f"{said['expires_in']} s")


@token.command()
@click.argument("token_id", required=False)
@click.option("--issuer", default="sealward", show_default=True, help="The id of the issuer's row, for tokens of others.")
@click.option("--all", "everything", is_flag=True, help="Every token that the issuer has made until now.")
@admin_verb
def revoke(api: AdminApi, out: Output, token_id: str | None, issuer: str, everything: bool) -> None:
    """Revoke TOKEN_ID (its `jti`, or a session's `sid`), or all: new requests are refused and streams cut."""
    if (token_id is None) != everything:
        raise UsageError("name one token, or say --all")
    body: dict[str, Any] = {"issuer": issuer} | ({"everything": True} if everything else {"token": token_id})
    out.data(api.post("tokens/revoke", body), f"revoked {token_id or 'all tokens made until now'}")


def _scope(models: list[str], actions: list[str]) -> str:
    return " ".join([*actions, *(f"model={model}" for model in models)])


def _exchanged(
    home: Path,
    form: dict[str, str],
    url: str | None,
    ca: Path | None,
    credential_file: Path | None,
    certificate: Path | None,
    certificate_key: Path | None,
) -> Any:
    parts = urlsplit(url or _own_door(home))
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
        raise UsageError(f"{url}: write https://HOST:PORT")
    if credential_file is None and certificate is None:
        raise UsageError("nothing to exchange", remedy="name a file by --credential-file, or a client's --certificate")
    ca = ca or home / "tls/ca.pem"
    tls = ssl.create_default_context(cafile=ca if ca.exists() else None)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    if certificate is not None:
        tls.load_cert_chain(certificate, certificate_key)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    if credential_file is not None:
        headers["authorization"] = f"Bearer {credential_file.read_text('ascii').strip()}"
    connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, context=tls)
    try:
        connection.request("POST", "/sealward/v1/token", urlencode(form).encode(), headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnreachableError(f"the inference door does not answer: {error}", remedy="sealward status") from error
    finally:
        connection.close()
    if answer.status != OK:
        request = answer.getheader("x-sealward-request", "?")
        reason = REASONS.get(answer.status, Reason.BODY_FIELD)
        raise Refused(
            reason, str(said.get("error")), status=answer.status, remedy=f"the journal names the reason: request {request}"
        )
    return said


def _own_door(home: Path) -> str:
    try:
        address = json.loads((home / "run/supervisor.json").read_text())["listening"]["inference"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError("the deployment is not up", remedy="sealward up, or give --url") from error
    return f"https://localhost:{address.rpartition(':')[2]}"


GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
REASONS = {401: Reason.CREDENTIAL_UNKNOWN, 403: Reason.ACTION_NOT_GRANTED, 429: Reason.LIMIT_REQUESTS}
OK = 200
TIMEOUT_S = 30
