"""`sealward rollout …`: the tasks of `zero_trust_rollout.yaml`, as they are and not as they were ticked off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sealward.cli.output import Output, shared_options
from sealward.cli.rollout_site import site_of
from sealward.clock import SystemClock
from sealward.host.deployment import Deployment
from sealward.rollout.evidence import Result, State
from sealward.rollout.memory import Memory
from sealward.rollout.plan import PACKAGED, Phase, chosen, load
from sealward.rollout.progress import Progress
from sealward.rollout.progress import check as check_now
from sealward.rollout.progress import status as last_found
from sealward.settings import Settings


@click.group()
def rollout() -> None:
    """How far the zero-trust rollout is, held against the running deployment."""


def of_a_plan(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb `--phase` and `--file`."""
    text = f"The tasks (default: {PACKAGED.name} of the deployment, else the one of this program)."
    with_file = click.option("--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help=text)
    with_phase = click.option("--phase", metavar="N", help="Only this phase: 1, or its id in the file.")
    return with_file(with_phase(verb))


@rollout.command()
@of_a_plan
@shared_options
def status(home: Path, out: Output, file: Path | None, phase: str | None) -> None:
    """Show what the last check found. Nothing is tried."""
    show(last_found(_phases(home, file, phase), _memory(Deployment.at(home))), out)


@rollout.command()
@of_a_plan
@shared_options
def check(home: Path, out: Output, file: Path | None, phase: str | None) -> int:
    """Try everything now; exit code 0 when every task that a check is built for is done, else 1."""
    deployment = Deployment.at(home)
    phases = _phases(home, file, phase)
    site = site_of(deployment, Settings.load(home))
    found = check_now(phases, _memory(deployment), site, SystemClock().now)
    show(found, out)
    return 0 if found.ok else 1


def show(progress: Progress, out: Output) -> None:
    """The JSON of contracts.md section 12, or a table."""
    if out.as_json:
        out.data(progress.as_json())
        return
    console = Console(highlight=False)
    for phase in progress.phases:
        console.print(_table(phase, progress))
    counts = Counter(standing.state.value for standing in progress.standings.values())
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    console.print(told, style="green" if progress.ok else "red")


def _table(phase: Phase, progress: Progress) -> Table:
    table = Table(title=f"{phase.id}: {phase.name}", title_justify="left", title_style="bold", show_header=False)
    table.add_column("state", no_wrap=True)
    table.add_column("task, and what was seen", overflow="fold", ratio=1)
    for name in phase.tasks:
        standing = progress.standings[phase.id, name]
        since = f" [dim](since {standing.since[:16].replace('T', ' ')})[/]" if standing.since else ""
        table.add_row(f"[{STYLES[standing.state]}]{standing.state}[/]", f"{escape(name)}{since}")
        for each in standing.evidence if standing.state is not State.NOT_BUILT else ():
            entry = "" if each.entry is None else f" [entry {each.entry}]"
            style = "red" if each.result is Result.FAIL else "dim"
            table.add_row("", escape(f"{MARKS[each.result]} {each.check}: {each.detail}{entry}"), style=style)
        table.add_section()
    return table


def _phases(home: Path, file: Path | None, phase: str | None) -> tuple[Phase, ...]:
    own = home / PACKAGED.name
    return chosen(load(file or (own if own.exists() else PACKAGED)), phase)


def _memory(deployment: Deployment) -> Memory:
    return Memory(deployment.base / "owner/rollout.json", deployment.owner)


MARKS = {Result.PASS: "+", Result.FAIL: "-", Result.LEFT_OUT: "?"}
STYLES = {
    State.DONE: "green",
    State.PARTIAL: "yellow",
    State.NOT_DONE: "red",
    State.REGRESSED: "bold red",
    State.NOT_BUILT: "dim",
}
