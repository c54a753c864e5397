"""`sealward journal policy`: what an auditor needs to know, as a C2SP tlog-policy file: log key, witnesses, quorum."""

from __future__ import annotations

from pathlib import Path

import click

from sealward.cli.output import Output, shared_options
from sealward.formats.note import Verifier
from sealward.host.deployment import Deployment
from sealward.journal.policy import policy_text
from sealward.settings import Settings


@click.command()
@shared_options
def policy(home: Path, out: Output) -> None:
    """Print the tlog-policy file of this deployment, for auditors and for `verify --policy`."""
    journal = Settings.load(home).journal
    log = Verifier.parse((Deployment.at(home).base / "trust/log.vkey").read_text("ascii"))
    text = policy_text(log, journal.witnesses, journal.quorum)
    out.data({"policy": text}, text.removesuffix("\n"))
