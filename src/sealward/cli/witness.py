"""`sealward witness …`: a witness of other people's logs, and what a deployment does about its own witnesses.

A witness is a program of its own: another user, another host, or the customer's. It needs no deployment.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import closing
from pathlib import Path

import click

from sealward.cli.log import log_to_stderr
from sealward.cli.output import Output, shared_options
from sealward.clock import SystemClock
from sealward.errors import ConfigurationError, UsageError
from sealward.formats.b64 import b64
from sealward.formats.fault import FormatError
from sealward.formats.ids import ID
from sealward.formats.note import Verifier
from sealward.host.deployment import Deployment
from sealward.host.recovery_log import act
from sealward.journal.durable import OsDisk
from sealward.journal.witness import Held, Witness, create, folder_of, load_signer
from sealward.journal.witness_server import Listen, serve
from sealward.settings import Settings

Directory = click.Path(path_type=Path, exists=True, file_okay=False)
File = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def witness() -> None:
    """Watch that a log only ever grows."""


@witness.command("init")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", required=True, help="The witness's name, for ever: like witness.example.org/w1.")
@shared_options
def init_(directory: Path, name: str, home: Path, out: Output) -> None:
    """Make the keys of a witness, as the user who will run it."""
    del home
    signer = create(directory, name)
    found = {"name": name, "vkey": signer.verifier.vkey, "vkey_mldsa44": signer.mldsa_verifier.vkey}
    out.data(found, signer.verifier.vkey)


@witness.command("add-log")
@click.argument("directory", metavar="DIR", type=Directory)
@click.argument("vkeys", metavar="VKEY…", nargs=-1, required=True)
@shared_options
def add_log(directory: Path, vkeys: tuple[str, ...], home: Path, out: Output) -> None:
    """Watch a log: VKEY is its verifier key, or a file that holds it. A running witness knows it at once."""
    del home
    held = _witness(directory).add_log([_verifier(text) for text in vkeys])
    out.data(_row(held), f"watching {held.origin} at {folder_of(held.origin)}")


@witness.command()
@click.argument("directory", metavar="DIR", type=Directory)
@shared_options
def show(directory: Path, home: Path, out: Output) -> None:
    """The witness's keys, and the last checkpoint it cosigned of each log."""
    del home
    signer = load_signer(directory)
    if out.as_json:
        logs = [_row(held) for held in _witness(directory).logs()]
        out.data({"vkey": signer.verifier.vkey, "vkey_mldsa44": signer.mldsa_verifier.vkey, "logs": logs})
        return
    click.echo(signer.verifier.vkey)
    out.table([_row(held) for held in _witness(directory).logs()], ("origin", "size", "root", "path"))


@witness.command("serve")
@click.argument("directory", metavar="DIR", type=Directory)
@click.option("--listen", "where", default="127.0.0.1:7380", show_default=True, help="HOST:PORT, [V6]:PORT or unix:/path.")
@click.option("--certificate", type=File, help="PEM: TLS 1.3. Needed anywhere but on loopback and unix sockets.")
@click.option("--key", type=File, help="PEM: the certificate's key.")
@shared_options
def serve_(directory: Path, where: str, certificate: Path | None, key: Path | None, home: Path, out: Output) -> None:
    """Answer logs and auditors until Ctrl-C or SIGTERM (C2SP tlog-witness)."""
    del home
    listen = Listen(where, certificate, key)
    tls = listen.context()
    log_to_stderr("witness")
    disk = OsDisk(directory)
    signer = load_signer(directory)
    with closing(disk):
        disk.lock()
        watched = Witness(disk, signer, lambda: int(time.time()))
        watched.logs()  # damaged state is said now, not to the first log that asks
        with listen.bind() as listener:
            at = where if listener.family == socket.AF_UNIX else "{}:{}".format(*listener.getsockname())
            asyncio.run(serve(watched, listener, tls, lambda: out.words(f"witness {signer.verifier.name} at {at}")))


@witness.command()
@click.argument("name")
@click.option("--because", required=True, help="Why: it stands in the journal for ever.")
@shared_options
def drop(name: str, because: str, home: Path, out: Output) -> None:
    """Do without a witness of this deployment, for ever under this name.

    The line in recovery.log is only the wish: it takes effect by the entry that the recorder makes of it, at its next start or
    within two seconds.
    """
    if ID.fullmatch(name) is None:
        raise UsageError(f"{name!r} is no name of a witness", remedy="names stand under journal.witnesses in sealward.yaml")
    deployment, journal = Deployment.at(home), Settings.load(home).journal
    n = act(
        deployment,
        journal.origin,
        verb=f"witness drop {name}",
        state="witness_stale",
        because=because,
        now_us=SystemClock().now(),
    )
    if name not in {each.name for each in journal.witnesses}:
        out.words(f"note: sealward.yaml does not name a witness {name}")
    out.data({"witness": name, "line": n}, f"line {n} of recovery.log: witness drop {name}")


def _witness(directory: Path) -> Witness:
    return Witness(OsDisk(directory), load_signer(directory), lambda: int(time.time()))


def _row(held: Held) -> dict[str, object]:
    return {"origin": held.origin, "size": held.size, "root": b64(held.root), "path": f"/{folder_of(held.origin)}/checkpoint"}


def _verifier(text: str) -> Verifier:
    try:
        return Verifier.parse(text if "+" in text else Path(text).read_text("ascii"))
    except (FormatError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{text}: {error}", remedy="give the content of the log's vkey file, or its path") from error
