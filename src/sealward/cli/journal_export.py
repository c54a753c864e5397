"""`sealward journal export`: entries in the words of other systems, once or for ever, to stdout, a file or a receiver."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sealward.cli.journal_custody import directory_argument
from sealward.cli.journal_place import Place, vkey_of
from sealward.cli.output import Output, shared_options
from sealward.errors import ConfigurationError, UnreachableError
from sealward.journal.client import read_rows
from sealward.journal.exports.formats import FORMATS, WHOLE
from sealward.journal.exports.receivers import Credentials, receiver
from sealward.journal.exports.shipping import Shipping, State
from sealward.keyring.secret import Secret
from sealward.settings import FILE

Json = dict[str, Any]
Given = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@directory_argument
@click.option("--format", "name", type=click.Choice([*FORMATS]), default="native", show_default=True, help="Whose words.")
@click.option("--from", "start", type=click.IntRange(min=0), default=0, help="The first entry; where --state knows better, that.")
@click.option("--follow", is_flag=True, help="Go on with what comes, over faults of the receiver and of the recorder.")
@click.option(
    "--to", default="-", metavar="URL", help="https://…, http:// on loopback, syslog+tls://HOST:PORT, file:PATH; - is stdout."
)
@click.option("--state", type=click.Path(path_type=Path, dir_okay=False), help="Where it is kept how far the receiver is.")
@click.option("--ca-file", type=Given, help="Whom the receiver's certificate must be from, if not a public authority.")
@click.option("--certificate-file", type=Given, help="Our certificate, where the receiver asks for one.")
@click.option("--key-file", type=Given, help="Its key, where it is not in the same file.")
@click.option(
    "--headers-file", type=Given, help="Headers of HTTP requests, such as a token, one a line; only its owner may read it."
)
@shared_options
def export(
    directory: Path | None,
    home: Path,
    out: Output,
    *,
    name: str,
    start: int,
    follow: bool,
    to: str,
    state: Path | None,
    ca_file: Path | None,
    certificate_file: Path | None,
    key_file: Path | None,
    headers_file: Path | None,
) -> None:
    """Every durable entry as a line. What goes to others names its place in the log, and leaves statements and salts there."""
    place = Place.of(directory, home)
    form = WHOLE if (name, to, follow) == ("native", "-", False) else FORMATS[name]
    credentials = Credentials(ca_file, certificate_file, key_file, _headers(headers_file))
    known = State.load(state, vkey_of(place.directory).name, start)
    with closing(receiver(to, form, credentials)) as whom:
        shipping = Shipping(_Source(place, to, follow=follow, leaf=form is not WHOLE).rows, whom, known, out.words)
        if follow:
            shipping.forever()
        else:
            shipping.once()


@dataclass(frozen=True, slots=True)
class _Source:
    """The journal as an export reads it; who gets it stands in the `journal.read`."""

    place: Place
    to: str
    follow: bool
    leaf: bool

    def rows(self, start: int) -> Iterator[Json]:
        """From an index on. UnreachableError: the recorder of a deployment is away; whoever follows must not take its place."""
        asked: Json = {"from": start, "recipient": self.to}
        asked |= {name: True for name, wanted in (("leaf", self.leaf), ("follow", self.follow)) if wanted}
        found = read_rows(self.place.socket, asked)
        if found is None and self.follow and (self.place.directory.resolve().parent / FILE).exists():
            raise UnreachableError("the recorder does not run", remedy="`sealward up`")
        return found if found is not None else self.place.rows(asked)


def _headers(path: Path | None) -> dict[str, Secret]:
    """`Name: value` a line. ConfigurationError: others may read it, or it is not that."""
    if path is None:
        return {}
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigurationError(f"{path} may be read by others", remedy=f"chmod 0600 {path}")
    found = {}
    for line in path.read_text().splitlines():
        header, colon, value = line.partition(":")
        if not colon or not header.strip().isascii() or not value.strip().isprintable():
            raise ConfigurationError(f"{path}: a line is no header", remedy="write Name: value")
        found[header.strip()] = Secret(value.strip().encode())
    return found
