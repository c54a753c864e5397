"""`sealward up`: every process of the deployment, supervised until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from sealward.cli.log import log_to_stderr
from sealward.cli.output import Output, shared_options
from sealward.clock import SystemClock
from sealward.host.deployment import Deployment
from sealward.host.supervisor import Supervisor
from sealward.journal.client import RecorderClient
from sealward.settings import Settings


@click.command()
@shared_options
def up(home: Path, out: Output) -> None:
    """Start signer, recorder, control, sidecar and doors in order; end them in reverse on Ctrl-C or SIGTERM."""
    deployment, settings = Deployment.at(home), Settings.load(home)
    if not deployment.separated:
        out.words("note: without root all processes share one user; `sealward doctor` says what is missing then")
    log_to_stderr("supervisor")
    asyncio.run(_supervise(deployment, settings))


async def _supervise(deployment: Deployment, settings: Settings) -> None:
    clock = SystemClock()
    recorder = RecorderClient(deployment.base / "run/recorder.supervisor.sock", clock, acknowledged=True)
    connection = asyncio.create_task(recorder.run())
    try:
        await Supervisor(deployment, settings.doors, clock=clock, sink=recorder).run()
    finally:
        connection.cancel()
