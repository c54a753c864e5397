"""What every verb shares: `--home`, `--json`, and where its data and words go.

@click.command()
@shared_options
def verb(home: Path, out: Output) -> int | None: ...
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sealward.errors import IntegrityError, Refused, SealwardError


@dataclass(frozen=True, slots=True)
class Shared:
    """`--home` and `--json` where they stood before the noun."""

    home: Path | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """Data on stdout, as JSON or as text for people; words on stderr."""

    as_json: bool = False

    def data(self, value: Any, text: str | None = None) -> None:
        """One value: JSON in one line where asked, else `text` (without one, indented JSON)."""
        if self.as_json:
            click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
        else:
            click.echo(json.dumps(value, ensure_ascii=False, indent=2) if text is None else text)

    def table(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """Rows as a JSON list, or as aligned columns under their names."""
        rows = list(rows)
        if self.as_json:
            self.data(rows)
            return
        cells = [[name.upper() for name in columns], *([_cell(row.get(name)) for name in columns] for row in rows)]
        widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
        for line in cells:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def words(self, text: str) -> None:
        """A sentence for the person at the terminal."""
        click.echo(text, err=True)


def shared_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb `--home` and `--json`, before or after the noun; it is called with `home: Path` and `out: Output`."""

    @click.option("--home", "own_home", type=click.Path(path_type=Path), help="The deployment's folder.")
    @click.option("--json", "own_json", is_flag=True, help="Data as JSON on stdout.")
    @click.pass_context
    @functools.wraps(verb)
    def with_shared(context: click.Context, /, own_home: Path | None, own_json: bool, **rest: Any) -> Any:
        before = context.find_object(Shared) or Shared()
        home = own_home or before.home or Path(os.environ.get("SEALWARD_HOME") or ".")
        return context.invoke(verb, home=home.absolute(), out=Output(own_json or before.as_json), **rest)

    return with_shared


def say_error(error: SealwardError, *, as_json: bool) -> int:
    """An error's words, its remedy and its exit code."""
    if as_json:
        body = {"code": _code(error), "detail": error.detail, "remedy": error.remedy, "exit": error.exit_code}
        click.echo(json.dumps({"error": body}, ensure_ascii=False), err=True)
    else:
        click.echo(f"error: {error.detail}", err=True)
        if error.remedy:
            click.echo(f"  remedy: {error.remedy}", err=True)
    return error.exit_code


def _code(error: SealwardError) -> str:
    if isinstance(error, Refused):
        return error.reason.value
    if isinstance(error, IntegrityError):
        return error.code
    return type(error).__name__.removesuffix("Error").lower()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
