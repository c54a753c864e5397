"""`sealward journal query`: entries by what they say, over the side index of a running recorder, or by hand under its lock."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from sealward.cli.journal_custody import directory_argument, index_of, opened_by_hand
from sealward.cli.journal_lines import Lines
from sealward.cli.journal_place import Place, read_event
from sealward.cli.output import Output, shared_options
from sealward.clock import SystemClock
from sealward.errors import UsageError
from sealward.formats.fault import FormatError
from sealward.journal.client import read_rows
from sealward.journal.columns import FACTS, REQUEST, UNITS
from sealward.journal.query import LIMIT, MOST_ROWS, Find
from sealward.journal.writer import Draft

Json = dict[str, Any]


def _facts(verb: Any) -> Any:
    """Give a verb an option for each column; it gets them as `facts`."""
    for name in reversed([*FACTS, REQUEST]):
        words = FACTS.get(name, "link.request: the id of a request")
        verb = click.option(f"--{name}", name, multiple=True, metavar="WORD", help=words[0].upper() + words[1:] + ".")(verb)
    return verb


@click.command()
@directory_argument
@click.option("--since", metavar="WHEN", help="From here on: 2026-11-23, 2026-11-23T09:14Z, or 90m, 12h, 7d ago.")
@click.option("--until", metavar="WHEN", help="Before this, written alike.")
@_facts
@click.option("--field", "fields", multiple=True, metavar="PATH=WORD", help="Any other member, such as outcome.status=503.")
@click.option("--limit", type=click.IntRange(1, MOST_ROWS), default=LIMIT, show_default=True, help="The newest so many.")
@click.option("--count", is_flag=True, help="Only how many entries there are.")
@click.option("--group-by", "by", metavar="NAMES", default="", help=f"Counts by some of {', '.join([*FACTS, *UNITS])}.")
@shared_options
def query(
    directory: Path | None,
    home: Path,
    out: Output,
    *,
    since: str | None,
    until: str | None,
    fields: tuple[str, ...],
    limit: int,
    count: bool,
    by: str,
    **facts: tuple[str, ...],
) -> None:
    """Find entries by what they say. Words of one option are alternatives, options add up; a last `*` is any ending."""
    asked: Json = {"limit": limit, "where": _where(facts, fields)}
    asked |= {name: moment(when) for name, when in (("since", since), ("until", until)) if when is not None}
    asked |= ({"by": by.split(",")} if by else {}) | ({"count": True} if count else {})
    try:
        find = Find.parse(asked)
    except FormatError as error:
        raise UsageError(error.detail) from error
    rows = answers(Place.of(directory, home), asked)
    if find.by:
        out.table(rows, [*find.by, "count"])
    elif find.count:
        found = next(rows)
        out.data(found, str(found["count"]))
    else:
        _say(rows, limit, out)


def answers(place: Place, asked: Json) -> Iterator[Json]:
    """What `Find.answer` says, once the question is recorded."""
    found = read_rows(place.socket, asked, "query")
    if found is not None:
        yield from found
        return
    with opened_by_hand(place) as writer:
        at = writer.size
        writer.commit([Draft(read_event(asked, SystemClock().now()))])
        index = index_of(place, writer)
        index.catch_up(at)
        with contextlib.suppress(OSError):  # then the next question has to read more
            index.save(last=True)
        yield from Find.parse(asked).answer(index, writer.reader)


def moment(when: str) -> int:
    """µs of a date, a time (UTC where it does not say) or a span before now. UsageError."""
    ago = AGO.fullmatch(when)
    try:
        span = timedelta(**{SPANS[ago[2]]: int(ago[1])}) if ago else None
        found = datetime.now(UTC) - span if span is not None else datetime.fromisoformat(when)
        found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        return max(0, (found - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{when!r} is no time", remedy="write 2026-11-23, 2026-11-23T09:14Z, or 90m, 12h, 7d") from error


def _where(facts: dict[str, tuple[str, ...]], fields: tuple[str, ...]) -> Json:
    where: Json = {name: list(words) for name, words in facts.items() if words}
    for field in fields:
        path, equals, word = field.partition("=")
        if not equals:
            raise UsageError(f"{field!r} is not PATH=WORD", remedy="such as --field outcome.status=503")
        where.setdefault(path, []).append(word)
    return where


def _say(rows: Iterator[Json], limit: int, out: Output) -> None:
    lines, said = Lines(out), 0
    for row in rows:
        lines.say(row)
        said += 1
    if said == limit:
        out.words(f"the newest {limit} entries; there may be more: --limit, --since")
    elif not said:
        out.words("no entry says this")


AGO = re.compile(r"([0-9]{1,6})([smhdw])")
SPANS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
