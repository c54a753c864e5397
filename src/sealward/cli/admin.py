"""The admin API from the command line: by the owner's socket of this deployment, or at a management door far away.

Remote administration needs `--url` and a key in a file (`--key-file`, SEALWARD_API_KEY_FILE): a key on a command line stands in
the process list. `@admin_verb` gives a verb `api` and `out`.
"""

from __future__ import annotations

import functools
import http.client
import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click

from sealward.cli.output import Output, shared_options
from sealward.errors import ConfigurationError, Reason, Refused, SealwardError, UnreachableError, UsageError
from sealward.process import socket_address


class AdminApi:
    """One question after another; errors are of errors.py."""

    def __init__(self, connect: Callable[[], http.client.HTTPConnection], key: str = "") -> None:
        self._connect = connect
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._ask("POST", path, body or {})

    def put(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("PUT", path, body)

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        connection = self._connect()
        headers = self._headers | ({} if body is None else {"content-type": "application/json"})
        try:
            connection.request(method, f"/api/v1/{path}", None if body is None else json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            value = json.loads(answer.read() or b"null")
        except PermissionError as error:
            raise ConfigurationError("control's socket is not ours", remedy="run as the deployment's owner or root") from error
        except ssl.SSLError as error:
            raise UnreachableError(f"TLS: {error.reason}", remedy="give the deployment's tls/ca.pem by --ca") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreachableError("control does not answer", remedy="start the deployment: sealward up") from error
        finally:
            connection.close()
        if answer.status >= FIRST_REFUSAL:
            raise _refused(answer.status, value if isinstance(value, dict) else {})
        return value


def admin_verb(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb `api: AdminApi` and `out: Output`, and its command line the options that say where."""

    @click.option(
        "--url", envvar="SEALWARD_URL", help="A management door, such as https://gate.example:9443, instead of this host."
    )
    @click.option("--ca", type=click.Path(path_type=Path), help="The CA of its certificate (default: tls/ca.pem of --home).")
    @click.option("--key-file", envvar="SEALWARD_API_KEY_FILE", type=click.Path(path_type=Path), help="The API key for --url.")
    @shared_options
    @functools.wraps(verb)
    def with_api(*, home: Path, out: Output, url: str | None, ca: Path | None, key_file: Path | None, **rest: Any) -> Any:
        api = local(home) if url is None else _remote(url, ca or home / "tls/ca.pem", key_file)
        return verb(api=api, out=out, **rest)

    return with_api


def segment(text: str) -> str:
    """One id as a segment of a path."""
    return quote(text, safe=":@+")


def local(home: Path) -> AdminApi:
    """By the owner's socket of the deployment at `home`."""
    return AdminApi(lambda: _UnixConnection(home / "run" / "control.owner.sock"))


def _remote(url: str, ca: Path, key_file: Path | None) -> AdminApi:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
        raise UsageError(f"{url}: write https://HOST:PORT")
    if key_file is None:
        raise UsageError("--url needs a key", remedy="name its file by --key-file or SEALWARD_API_KEY_FILE")
    key = key_file.read_text("ascii").strip()
    tls = ssl.create_default_context(cafile=ca if ca.exists() else None)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    host, port = parts.hostname, parts.port or 443
    return AdminApi(lambda: http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=tls), key)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("control", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        with socket_address(self._path) as address:
            self.sock.connect(address)


def _refused(status: int, problem: dict[str, Any]) -> SealwardError:
    words = str(problem.get("detail") or problem.get("title") or f"status {status}")
    if status >= FIRST_FAILURE:
        return UnreachableError(words, remedy="sealward status")
    reason = {401: Reason.CREDENTIAL_UNKNOWN, 403: Reason.ACTION_NOT_GRANTED, 429: Reason.LIMIT_REQUESTS}.get(status)
    named = f"the journal names the reason: request {problem.get('request', '?')}" if reason else ""
    return Refused(reason or Reason.BODY_FIELD, words, status=status, remedy=named)


TIMEOUT_S = 30
FIRST_REFUSAL, FIRST_FAILURE = 400, 500
