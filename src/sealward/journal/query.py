"""What may be asked of a journal, as it comes over a socket, and the answer out of the log and its side index.

read   {from?, to?, last?, types?, subject?, follow?, leaf?, recipient?}      entries in order of the log
find   {since?, until?, where?, limit?, count?, by?}                        entries by what they say, or how many there are
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sealward.events import Event
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339
from sealward.journal.columns import FACTS, PATHS, REQUEST, UNITS, Counts
from sealward.journal.index import Index
from sealward.journal.reader import Reader, Row

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Read:
    """Rows from `start` to before `end`, of `types` and of `subject` where these are given; with `leaf`: its hash too."""

    start: int
    end: int
    types: frozenset[str] | None
    subject: str | None
    follow: bool
    leaf: bool

    @classmethod
    def parse(cls, query: Any, size: int) -> Read:
        """Of a log of `size` entries; FormatError("malformed"). `recipient` only says in the journal where they go."""
        _check(query, {"from", "to", "last", "types", "subject", "follow", "leaf", "recipient"})
        numbers = {name: query.get(name) for name in ("from", "to", "last")}
        if any(value is not None and (type(value) is not int or value < 0) for value in numbers.values()):
            raise FormatError("malformed", "from, to and last are indices")
        types, subject, follow = query.get("types"), query.get("subject"), query.get("follow") is True
        if types is not None:
            _check_words(types)
        start = max(numbers["from"] or 0, size - numbers["last"] if numbers["last"] is not None else 0)
        end = FOREVER if numbers["to"] is None and follow else numbers["to"] or size
        return cls(start, end, None if types is None else frozenset(types), subject, follow, query.get("leaf") is True)

    def rows(self, reader: Reader, wait: Callable[[int], None]) -> Iterator[Json]:
        """As `journal export` prints them. `wait(size)`, with `follow`: returns when the log has more entries, or raises."""
        at = self.start
        while True:
            for row in reader.rows(at):
                if row.index >= self.end:
                    return
                at = row.index + 1
                if self._wants(row):
                    yield row.as_json() | ({"leaf": row.leaf.hex()} if self.leaf else {})
            if not self.follow or at >= self.end:
                return
            wait(at)

    def _wants(self, row: Row) -> bool:
        if row.event is None:
            return self.types is None and self.subject is None
        right_type = self.types is None or row.event["type"] in self.types
        return right_type and (self.subject is None or row.event["subject"]["id"] == self.subject)


@dataclass(frozen=True, slots=True)
class Find:
    """Entries of [since, until), µs, whose columns hold one of the `words` and whose members one of the `fields`.

    The newest `limit` of them; or how many there are, in all or `by` columns, hour and day.
    """

    since: int
    until: int
    words: Mapping[str, Collection[str]]
    fields: tuple[tuple[str, frozenset[str]], ...]
    limit: int
    count: bool
    by: tuple[str, ...]

    @classmethod
    def parse(cls, query: Any) -> Find:
        """FormatError("malformed"). `where`: {column, or dotted path of a member: [word, …]}; one word of each must fit."""
        _check(query, {"since", "until", "where", "limit", "count", "by"})
        since, until, limit = query.get("since", 1), query.get("until", FOREVER), query.get("limit", LIMIT)
        if any(type(number) is not int or number < 0 for number in (since, until, limit)):
            raise FormatError("malformed", "since, until and limit are numbers")
        by, where = query.get("by", []), query.get("where", {})
        _check_words(by)
        if not set(by) <= FACTS.keys() | UNITS or len(set(by)) != len(by):
            raise FormatError("malformed", f"counts are by {', '.join([*FACTS, *UNITS])}")
        if not isinstance(where, dict) or len(where) > MOST_WORDS:
            raise FormatError("malformed", "where is an object")
        words, fields = {}, []
        for name, some in where.items():
            _check_words(some)
            column = name if name in FACTS or name == REQUEST else PATHS.get(name)
            if column is not None:
                words[column] = tuple(some)
            elif PATH.fullmatch(name):
                fields.append((name, frozenset(some)))
            else:
                raise FormatError("malformed", f"{name[:64]!r} is no member of an event")
        return cls(since, until, words, tuple(fields), min(limit, MOST_ROWS), query.get("count") is True, tuple(by))

    def answer(self, index: Index, reader: Reader) -> Iterator[Json]:
        """Rows in order of the log; or `{count}`; or `{NAME: word, …, count}` for each group, the largest (or oldest) first.

        The index must be up to date. Costs as many opened entries as are shown; with `fields` as the columns let through.
        """
        if self.by:
            yield from self._groups(index, reader)
        elif self.count:
            yield {"count": self._counts(index, reader)[()]}
        else:
            newest: list[int] = []
            for found in self._found(index, reader):
                newest += found[::-1][: self.limit - len(newest)]
                if len(newest) >= self.limit:
                    break
            yield from (row.as_json() for row in reader.at(newest[::-1]))

    def _groups(self, index: Index, reader: Reader) -> Iterator[Json]:
        total, by_time = self._counts(index, reader), self.by[0] in UNITS
        ordered = sorted(total.items(), key=lambda item: item[0] if by_time else (-item[1], item[0]))
        for key, count in ordered[: self.limit]:
            yield dict(zip(self.by, map(_said, key), strict=True)) | {"count": count}

    def _counts(self, index: Index, reader: Reader) -> Counts:
        if not self.fields:
            return index.counts(self.words, self.since, self.until, self.by)
        total: Counts = Counter()
        for found in self._found(index, reader):
            total.update(index.counts_of(found, self.by))
        return total

    def _found(self, index: Index, reader: Reader) -> Iterator[list[int]]:
        """What fits: ascending in each part, the newest part first."""
        for found in index.select(self.words, self.since, self.until):
            if not self.fields:
                yield found
                continue
            for end in range(len(found), 0, -OPENED):
                rows = reader.at(found[max(0, end - OPENED) : end])
                yield [row.index for row in rows if row.event is not None and self._fits(row.event)]

    def _fits(self, event: Event) -> bool:
        return all(not wanted.isdisjoint(_values(event, path.split("."))) for path, wanted in self.fields)


def _values(value: Any, path: Sequence[str]) -> Iterator[str]:
    """What stands at a path, as words; a list stands for each of its items."""
    if isinstance(value, list):
        for item in value:
            yield from _values(item, path)
    elif path:
        if isinstance(value, dict) and path[0] in value:
            yield from _values(value[path[0]], path[1:])
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif not isinstance(value, dict):
        yield str(value)


def _said(part: str | int) -> str:
    return rfc3339(part)[:19] + "Z" if isinstance(part, int) else part


def _check(query: Any, names: set[str]) -> None:
    if not isinstance(query, dict) or not query.keys() <= names:
        raise FormatError("malformed", f"a query has {', '.join(sorted(names))}")


def _check_words(words: Any) -> None:
    if not isinstance(words, list) or len(words) > MOST_WORDS:
        raise FormatError("malformed", "a list of words")
    if not all(isinstance(word, str) and len(word) <= MOST_WORD for word in words):
        raise FormatError("malformed", "a word is text")


PATH = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+){0,4}")
LIMIT, MOST_ROWS = 100, 1_000_000
MOST_WORDS, MOST_WORD = 128, 256
OPENED = 512
FOREVER = 1 << 62
