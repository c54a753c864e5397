"""`sealward init`: a deployment in a folder. What is there already stays; a second run adds what is missing.

Everything is made before any process starts: CA and certificate, keys and pins, the journal, and the first change, which
approves the models by the digest of their weights and is carried out by the first `up`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sealward.cli.output import Output, shared_options
from sealward.clock import SystemClock
from sealward.control.author import Author
from sealward.control.bodies import WRAPPED, make_purpose_key
from sealward.control.genesis import create_state, first_ops
from sealward.errors import UsageError
from sealward.formats import canonical
from sealward.host.deployment import Deployment, make_keys, pin_log, prepare, token_jwk
from sealward.host.files import hand_over, put, sync_folder
from sealward.journal.init import create
from sealward.process import User
from sealward.settings import FILE, Model, Settings


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line wants in a new `sealward.yaml`."""

    adopt: bool = False
    models: tuple[tuple[str, str], ...] = ()
    runtimes: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()
    origin: str | None = None


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--adopt", is_flag=True, help="Only observe violations of signatures, inspection and network for 30 days.")
@click.option("--model", "models", multiple=True, metavar="ID=WEIGHTS", help="A model that the sidecar starts from a GGUF file.")
@click.option("--runtime", "runtimes", multiple=True, metavar="ID=URL", help="A model in a server that runs already (loopback).")
@click.option("--name", "names", multiple=True, metavar="HOST", help="A host name or address under which callers come.")
@click.option("--origin", help="The journal's name for ever, such as journal.example.org/1.")
@shared_options
def init(home: Path, out: Output, folder: Path, **options: Any) -> None:
    """Create a deployment in FOLDER: settings, own CA, keys, journal, first change."""
    del home
    now = dt.datetime.now(dt.UTC)
    folder = folder.resolve()
    options |= {name: tuple(map(_pair, options[name])) for name in ("models", "runtimes")}
    fresh = _settings_file(folder, Asked(**options), now.date())
    settings = Settings.load(folder)
    digests = {name: digest_of(name, model) for name, model in settings.models.items()}
    deployment = prepare(folder)
    make_keys(deployment, settings.doors.names, now)
    vkey = _journal(deployment, settings.journal.origin)
    _state(deployment, settings, digests, vkey)
    _body_key(deployment)
    if not deployment.separated:
        out.words("note: without root all processes share one user; `sealward doctor` says what is missing then")
    value = {"home": str(folder), "origin": settings.journal.origin, "vkey": vkey, "models": digests, "created": fresh}
    out.data(value, f"{'created' if fresh else 'checked'} {folder}; next: sealward --home {folder} up")


def digest_of(name: str, model: Model) -> str:
    """SHA-256 of the weights; of canonical {id, kind, url} where a server of others has them (it proves nothing)."""
    if model.weights is None:
        data = canonical.dumps({"id": name, "kind": model.runtime.kind, "url": model.runtime.url})
        return f"sha256:{hashlib.sha256(data).hexdigest()}"
    with model.weights.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def settings_text(name: str, asked: Asked, today: dt.date) -> str:
    """A `sealward.yaml` with the words that explain it."""
    word = re.sub(r"[^A-Za-z0-9.-]+", "-", name)
    blocks = [STARTED.format(id=_text(id_), weights=_text(str(Path(weights).resolve()))) for id_, weights in asked.models]
    blocks += [SERVED.format(id=_text(id_), url=_text(url)) for id_, url in asked.runtimes]
    return TEMPLATE.format(
        names=json.dumps(asked.names),
        models="models:\n" + "".join(blocks) if blocks else "models: {}\n",
        origin=_text(asked.origin or f"sealward.local/{word}-{secrets.token_hex(4)}"),
        mode=f"{{observe: {today + ADOPT}}}" if asked.adopt else "enforce",
    )


def _settings_file(folder: Path, asked: Asked, today: dt.date) -> bool:
    """Whether it was made now; what is wrong with it is said before anything is."""
    file = folder / FILE
    if file.exists():
        if asked != Asked():
            raise UsageError(f"{file} exists: the options belong there", remedy="edit it, then `sealward init` without options")
        return False
    text = settings_text(folder.name, asked, today)
    for model in Settings.parse(text, file, today).models.values():
        if model.weights and not model.weights.is_file():
            raise UsageError(f"no file {model.weights}")
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)  # the processes pass through it
    put(file, text.encode(), User(os.geteuid(), os.getegid()), 0o644)
    return True


def _journal(deployment: Deployment, origin: str) -> str:
    """The journal's vkey; a new journal appears whole or not at all."""
    journal, fresh = deployment.base / "journal", deployment.base / "journal.new"
    if not journal.exists():
        if fresh.exists():
            shutil.rmtree(fresh)  # an earlier run was interrupted: nothing was ever written there
        fresh.mkdir(mode=0o755)
        create(fresh, origin, deployment.users["recorder"])
        fresh.rename(journal)
        sync_folder(deployment.base)
    vkey = (journal / "vkey").read_text("ascii").strip()
    pin_log(deployment, vkey)
    return vkey


def _state(deployment: Deployment, settings: Settings, digests: dict[str, str], vkey: str) -> None:
    """Control's database with the first change pending; whole or not at all.

    It is made in a folder of our own and moved: in control's, a taken control could plant links for root to write through.
    """
    database, fresh = deployment.base / "state/control/state.db", deployment.base / "state/control.new"
    if database.exists():
        return
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    create_state(
        fresh / database.name, first_ops(settings, digests, vkey, token_jwk(deployment)), Author(SystemClock(), os.urandom)
    )
    hand_over(fresh, deployment.users["control"])
    (fresh / database.name).rename(database)
    fresh.rmdir()
    sync_folder(database.parent)


def _body_key(deployment: Deployment) -> None:
    """The purpose key of captured bodies, wrapped: control's alone."""
    folder, user = deployment.base / "state/control", deployment.users["control"]
    if not (folder / WRAPPED).exists():
        put(folder / WRAPPED, make_purpose_key(folder, os.urandom), user, 0o600)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UsageError(f"{text}: write ID=VALUE")
    return name, value


def _text(value: str) -> str:
    return json.dumps(value)  # a JSON string is a YAML string, whatever stands in it


ADOPT = dt.timedelta(days=30)
STARTED = """\
  {id}:
    weights: {weights}
    runtime: {{kind: llamacpp, start: xllamacpp}}
    max_output: 1024
"""
SERVED = """\
  {id}:
    runtime: {{kind: openai, url: {url}}}
    max_output: 1024
"""
TEMPLATE = """\
# A sealward deployment: this folder is its home. `sealward config check` names every fault of this file.
version: 1

# Callers come in at the inference door, administrators at the management door; TLS 1.3 only.
# `names`: under which names callers reach them, beyond localhost (run `sealward init` again after a change).
doors:
  inference: {{listen: "127.0.0.1:8443", workers: auto}}
  management: {{listen: "127.0.0.1:9443", workers: 1}}
  names: {names}

# `weights` is hashed when the sidecar starts; only the approved digest is served.
{models}
# For every caller without a row of its own. Keys end after `max_age`.
limits:
  default: {{requests_per_minute: 600, tokens_per_minute: 200000, concurrent: 32}}
identity:
  local_admin: true
  apikey: {{max_age: 90d, warn: 14d}}

# The log's name stands in every entry and cannot be changed.
journal:
  origin: {origin}
keyring:
  provider: {{kind: file}}
modes:
  model_signatures: {mode}
  inspection: {mode}
  network: {mode}
"""
