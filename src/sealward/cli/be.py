"""The hidden `sealward run ROLE`: how the supervisor and the units start each process.

Everything comes by the environment: SEALWARD_USER `uid:gid` to become, SEALWARD_PEERS `client=uid,…` allowed at the
sockets, and the inherited descriptors of process.py. The role's module is imported here, before any right is given up.
(Not `run.py`: once imported, that would take the place of the function `sealward.cli.run`.)
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path

import click

from sealward.cli.log import log_to_stderr
from sealward.cli.output import Output, shared_options
from sealward.errors import ConfigurationError
from sealward.process import Start, User, inherited


@click.command(hidden=True)
@click.argument("role", type=click.Choice(["signer", "recorder", "control", "sidecar", "door", "admin"]))
@shared_options
def run(role: str, home: Path, out: Output) -> None:
    """Be one process of the deployment."""
    del out
    log_to_stderr(role)
    importlib.import_module(MAINS[role]).main(start_of(role, home, os.environ))


def start_of(role: str, home: Path, environment: Mapping[str, str]) -> Start:
    """What the environment says about this process. ConfigurationError when it is not well formed."""
    try:
        uid, _, gid = environment.get("SEALWARD_USER", "").partition(":")
        user = User(int(uid), int(gid)) if uid else None
        pairs = [pair.split("=") for pair in environment.get("SEALWARD_PEERS", "").split(",") if pair]
        peers = {client: int(peer) for client, peer in pairs}
    except ValueError as error:
        remedy = "start the process by `sealward up` or its unit"
        raise ConfigurationError("SEALWARD_USER or SEALWARD_PEERS is malformed", remedy=remedy) from error
    return Start(role, home, inherited(), peers, user)


MAINS = {
    "signer": "sealward.keyring.signer_process",
    "recorder": "sealward.gateway.recorder",
    "control": "sealward.control.process",
    "sidecar": "sealward.gateway.sidecar",
    "door": "sealward.gateway.door",
    "admin": "sealward.gateway.door",
}
