"""`sealward journal …`: write, read, verify and export a journal; its directory is DIR, else that of the deployment.

Whoever reads content is recorded first: one `journal.read` a call. `verify` and `prove` read public files only and leave none.
"""

from __future__ import annotations

from pathlib import Path

import click

from sealward.cli.journal_append import append as append_lines
from sealward.cli.journal_archive import archive
from sealward.cli.journal_body import body
from sealward.cli.journal_custody import erase, hold, release
from sealward.cli.journal_export import export
from sealward.cli.journal_lines import Lines
from sealward.cli.journal_place import Place, vkey_of
from sealward.cli.journal_policy import policy
from sealward.cli.journal_query import query
from sealward.cli.journal_verify import verify
from sealward.cli.output import Output, shared_options
from sealward.errors import UsageError
from sealward.formats.ids import ULID
from sealward.journal.durable import OsDisk
from sealward.journal.init import create
from sealward.journal.reader import Reader

Directory = click.Path(path_type=Path, exists=True, file_okay=False)
File = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def journal() -> None:
    """Write, read, verify and export the journal."""


for verb in (query, export, verify, policy, body, erase, hold, release, archive):
    journal.add_command(verb)


@journal.command("init")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--origin", required=True, help="The log's name, for ever: like journal.example.org/1.")
@shared_options
def init_(directory: Path, origin: str, home: Path, out: Output) -> None:
    """Make keys and an empty log."""
    del home
    signer = create(directory, origin)
    found = {"origin": origin, "vkey": signer.verifier.vkey, "vkey_mldsa44": signer.mldsa_verifier.vkey}
    out.data(found, f"journal {origin} in {directory}\n{signer.verifier.vkey}")


@journal.command()
@click.argument("directory", metavar="DIR", type=Directory)
@click.option("--jsonl", type=click.Choice(["-"]), required=True, help="Native events from stdin, one a line.")
@shared_options
def append(directory: Path, jsonl: str, home: Path, out: Output) -> int:
    """Append events; each line is answered when it is durable."""
    del jsonl, home, out
    return append_lines(directory)


@journal.command()
@click.argument("directory", metavar="[DIR]", type=Directory, required=False)
@click.option(
    "-n", "--lines", type=click.IntRange(0, 1_000_000), default=20, show_default=True, help="How many of the last entries."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@shared_options
def tail(directory: Path | None, lines: int, follow: bool, home: Path, out: Output) -> None:
    """Show the last entries."""
    asked, shown = {"last": lines} | ({"follow": True} if follow else {}), Lines(out)
    for row in Place.of(directory, home).rows(asked):
        shown.say(row)


@journal.command()
@click.argument("request")
@click.option("--dir", "directory", type=Directory, help="The journal, if not the deployment's.")
@shared_options
def receipt(request: str, directory: Path | None, home: Path, out: Output) -> int:
    """The receipt of a request: proof of this prompt, this answer, this model, this decision."""
    if ULID.fullmatch(request) is None:
        raise UsageError(f"{request!r} is not the id of a request", remedy="it stands in the answer's header x-sealward-request")
    text = Place.of(directory, home).receipt(request)
    if text is None:
        out.words(
            f"no receipt of {request}: it has not ended, has no entry of its own, was erased, or no checkpoint covers it yet"
        )
        return 1
    click.echo(text)
    return 0


@journal.command()
@click.argument("directory", metavar="DIR", type=Directory)
@click.argument("index", type=click.IntRange(min=0))
@shared_options
def prove(directory: Path, index: int, home: Path, out: Output) -> int:
    """Print the .tlog-proof of an entry under the last checkpoint."""
    del home
    try:
        click.echo(Reader(OsDisk(directory), vkey_of(directory)).proof(index).text, nl=False)
    except KeyError:
        out.words(f"entry {index} is not under the last checkpoint")
        return 1
    return 0
