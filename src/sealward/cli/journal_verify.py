"""`sealward journal verify`: the public files, held against what the auditor believes. It reads no key and leaves no entry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from sealward.cli.journal_place import Place, vkey_of
from sealward.cli.output import Output, shared_options
from sealward.errors import ConfigurationError, UsageError
from sealward.formats.fault import FormatError
from sealward.formats.note import Verifier
from sealward.journal.durable import OsDisk
from sealward.journal.init import MLDSA_VKEY
from sealward.journal.policy import Policy
from sealward.journal.verify import Report, Trust
from sealward.journal.verify import verify as verify_files

Directory = click.Path(path_type=Path, exists=True, file_okay=False)
File = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("verify")
@click.argument("directory", metavar="[DIR]", type=Directory, required=False)
@click.option("--vkey", help="The log's verifier key, or a file that holds it; overrides DIR/vkey.")
@click.option(
    "--witness", "witnesses", multiple=True, help="Verifier key of a witness, or a file with it; else those of the deployment."
)
@click.option("--threshold", type=click.IntRange(min=0), default=0, help="How many of them must have.")
@click.option("--archive", "archives", type=Directory, help="Where archived entries are; else only their hashes are checked.")
@click.option("--policy", type=File, help="A C2SP tlog-policy file, instead of the three above.")
@click.option(
    "--known-checkpoint", "known", multiple=True, type=File, help="A checkpoint seen before: finds rollbacks and forks."
)
@shared_options
def verify(directory: Path | None, archives: Path | None, home: Path, out: Output, **given: Any) -> int:
    """Check the public files: every entry, tile, signature, and what each entry closes."""
    place = Place.of(directory, home)
    if given["policy"] is not None and (given["vkey"] or given["witnesses"] or given["threshold"]):
        raise UsageError("--policy names the log and its witnesses", remedy="leave out --vkey, --witness and --threshold")
    asked = _Asked(**given)
    asked = replace(asked, vkey=asked.vkey or place.pinned, witnesses=asked.witnesses or tuple(place.witness_keys))
    try:
        trust = asked.trust(place.directory)
    except (FormatError, OSError, ConfigurationError) as error:
        report = Report()
        report.fault("vkey", str(error))
    else:
        report = verify_files(OsDisk(place.directory), trust, OsDisk(archives) if archives else None)
    _say_report(report, out)
    return 0 if report.ok else 1


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line says about trust."""

    vkey: str | None
    witnesses: tuple[str, ...]
    threshold: int
    policy: Path | None
    known: tuple[Path, ...]

    def trust(self, directory: Path) -> Trust:
        """FormatError, OSError, ConfigurationError where a key cannot be read."""
        beside = directory / MLDSA_VKEY
        mldsa = Verifier.parse(beside.read_text()) if beside.exists() else None
        known = [path.read_bytes() for path in self.known]
        if self.policy is not None:
            policy = Policy.parse(self.policy.read_text())
            name = vkey_of(directory).name
            log = next((log for log in policy.logs if log.name == name), policy.logs[0])
            return Trust(log, mldsa, tuple(policy.witnesses.values()), policy.satisfied, known)
        log = _key(self.vkey) if self.vkey else vkey_of(directory)
        keys = [_key(text) for text in self.witnesses]
        return Trust(log, mldsa, keys, lambda cosigned: len({key.name for key in cosigned}) >= self.threshold, known)


def _key(text: str) -> Verifier:
    return Verifier.parse(text if "+" in text else Path(text).read_text("ascii"))


def _say_report(report: Report, out: Output) -> None:
    said = report.as_json()
    if out.as_json:
        out.data(said)
        return
    for error in report.errors:
        click.echo(f"{error['code']}: {error['detail']}")
    verdict = "ok" if report.ok else "NOT OK"
    unseen = f", {report.unseen} of them archived and known by hash only" if report.unseen else ""
    click.echo(f"{verdict}: {report.origin}, {report.size} entries{unseen}, root {report.root}, {report.witnesses} witnesses")
