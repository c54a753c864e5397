"""`sealward doctor`: what is wrong or weaker than it should be."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from sealward.cli.output import Output, shared_options
from sealward.host.deployment import Deployment
from sealward.host.doctor import findings
from sealward.host.status import look
from sealward.settings import Settings


@click.command()
@shared_options
def doctor(home: Path, out: Output) -> int:
    """What is wrong or weaker than it should be, and what to do; exit code 1 when something does not work."""
    found = findings(look(Deployment.at(home), Settings.load(home), dt.datetime.now(dt.UTC)))
    ok = not any(finding.severity == "error" for finding in found)
    lines = [f"{finding.severity}: {finding.text}\n  remedy: {finding.remedy}" for finding in found]
    out.data({"ok": ok, "findings": [finding._asdict() for finding in found]}, "\n".join(lines))
    return 0 if ok else 1
