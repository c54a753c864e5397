"""What the side index keeps of an entry: a few short facts, column by column, for a run of entries one behind the other.

A fact is a word of the column's own dictionary and costs two bytes a row; what a question needs (which rows hold a word, how
many of each an hour) is computed from the columns when it is first asked, and kept. Pure.
"""

from __future__ import annotations

import array
import sys
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import orjson

from sealward.events import Event
from sealward.formats.fault import FormatError
from sealward.formats.ids import parse_rfc3339

Positions = Sequence[int]
Counts = Counter[tuple[str | int, ...]]
Words = Mapping[str, Collection[str]]  # column → the words that are wanted; one that ends in `*` begins so


class Columns:
    """The entries from index `first` on, at most `ROWS`. An entry whose subject was erased is a row without facts."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.times = array.array("q")  # µs; of an erased row only its hour, as in the clear header
        self._codes = {name: array.array("H") for name in KEPT}
        self._words: dict[str, list[str]] = {name: [""] for name in KEPT}  # code → word; 0 is no fact
        self._code_of: dict[str, dict[str, int]] = {name: {"": 0} for name in KEPT}
        self._requests = bytearray()  # 26 characters a row, or spaces
        self._span: tuple[int, int] | None = None
        self._orders: dict[str, array.array[int]] = {}
        self._moments: dict[str, array.array[int]] = {}
        self._rollups: dict[tuple[str, ...], Counter[tuple[int, ...]]] = {}

    def __len__(self) -> int:
        return len(self.times)

    @property
    def span(self) -> tuple[int, int]:
        """The earliest and the latest time."""
        if self._span is None:
            self._span = (min(self.times), max(self.times)) if self.times else (0, 0)
        return self._span

    @property
    def kids(self) -> list[str]:
        """The keys of its entries."""
        return [word for word in self._words[KID] if word]

    def append(self, event: Event | None, header: Mapping[str, Any]) -> None:
        """The next entry: its event, or None where its key was erased."""
        if event is None:
            self._append(parse_rfc3339(header["time"][:-1] + ".000000Z"), NO_CELLS, "")
        else:
            request = event.get("link", NONE).get("request", "")
            self._append(parse_rfc3339(event["time"]), (*_cells(event), header["kid"]), request)

    def skip(self, count: int) -> None:
        """The next `count` entries are not in the log any more."""
        for _ in range(count):
            self._append(0, NO_CELLS, "")

    def _append(self, moment: int, cells: Sequence[str], request: str) -> None:
        self.times.append(moment)
        self._requests += request.encode().ljust(ULID)
        for name, word in zip(KEPT, cells, strict=True):
            code_of = self._code_of[name]
            code = code_of.get(word)
            if code is None:
                code = code_of[word] = len(self._words[name])
                self._words[name].append(word)
            self._codes[name].append(code)
        self._forget()

    def drop(self, kids: Collection[str]) -> bool:
        """Every fact of the entries under these keys is gone. False: there was none."""
        dropped = {self._code_of[KID][kid] for kid in kids if kid in self._code_of[KID]}
        if not dropped:
            return False
        rows = [row for row, code in enumerate(self._codes[KID]) if code in dropped]
        self._blank(rows, lambda moment: moment - moment % UNITS["hour"])
        return True

    def leave(self, count: int) -> None:
        """The first `count` entries are not in the log any more: they have no facts and are of no time."""
        self._blank(range(count), lambda _: 0)

    # -- questions --

    def select(self, words: Words, since: int, until: int) -> Positions:
        """Rows, ascending, that hold a wanted word in each column named and whose time is in [since, until)."""
        low, high = self.span
        if not len(self) or high < since or low >= until:
            return ()
        wanted = {}
        for name, some in words.items():
            if name != REQUEST:
                codes = self._matching(name, some)
                if not codes:
                    return ()
                wanted[name] = codes
        rows = self._narrowest(words.get(REQUEST), wanted)
        for name, codes in wanted.items():
            column = self._codes[name]
            rows = [row for row in rows if column[row] in codes]
        if low < since or high >= until:
            times = self.times
            rows = [row for row in rows if since <= times[row] < until]
        return rows

    def tally(self, words: Words, since: int, until: int, by: Sequence[str]) -> Counts:
        """How many rows `select` would find, in all or by each word of `by`; `hour` and `day` are said by their start, in µs.

        Where it is about many rows it is read from a rollup over all of them, which is computed once.
        """
        low, high = self.span
        wanted = {name: self._matching(name, some) for name, some in words.items() if name != REQUEST}
        if REQUEST in words or low < since or high >= until or any(map(self._is_few, wanted, wanted.values())):
            return self.counts(by, self.select(words, since, until))
        names = (*by, *(name for name in wanted if name not in by))
        places = [(names.index(name), codes) for name, codes in wanted.items()]
        found: Counter[tuple[int, ...]] = Counter()
        for key, count in self._rollup(names).items():
            if all(key[place] in codes for place, codes in places):
                found[key[: len(by)]] += count
        return self._said(by, found)

    def counts(self, by: Sequence[str], rows: Positions) -> Counts:
        """The same of given rows."""
        if not by:
            return Counter({(): len(rows)})
        return self._said(by, Counter(zip(*[map(self._column(name).__getitem__, rows) for name in by], strict=True)))

    def warm(self, name: str) -> None:
        """Computes ahead what questions about a column need."""
        self._rows_of(name, 0)

    # -- bytes --

    def dump(self) -> bytes:
        """For `load` on a machine of the same byte order."""
        head = orjson.dumps({"first": self.first, "rows": len(self), "words": self._words})
        columns = b"".join(codes.tobytes() for codes in self._codes.values())
        return b"".join((len(head).to_bytes(4, sys.byteorder), head, self.times.tobytes(), columns, self._requests))

    @classmethod
    def load(cls, data: bytes) -> Columns:
        """What `dump` gave; FormatError("malformed") for anything else."""
        at = 4 + int.from_bytes(data[:4], sys.byteorder)
        try:
            head = orjson.loads(data[4:at])
            found, rows = cls(head["first"]), head["rows"]
            found._words = {name: head["words"][name] for name in KEPT}
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise FormatError("malformed", "no columns") from error
        for name, words in found._words.items():
            found._code_of[name] = {"": 0} | {word: code for code, word in enumerate(words) if word}
        for column in (found.times, *found._codes.values()):
            end = at + rows * column.itemsize
            column.frombytes(data[at:end])
            at = end
        found._requests = bytearray(data[at:])
        if len(found._requests) != rows * ULID:
            raise FormatError("malformed", "columns of different lengths")
        return found

    # -- inside --

    def _blank(self, rows: Positions, when: Callable[[int], int]) -> None:
        for row in rows:
            self.times[row] = when(self.times[row])
            self._requests[row * ULID : (row + 1) * ULID] = NO_REQUEST
        for name, codes in self._codes.items():
            for row in rows:
                codes[row] = 0
            left = set(codes)
            self._words[name] = [word if code in left else "" for code, word in enumerate(self._words[name])]
            self._code_of[name] = {"": 0} | {word: code for code, word in enumerate(self._words[name]) if word}
        self._forget()

    def _forget(self) -> None:
        """What was computed is of other rows."""
        self._span = None
        self._orders.clear()
        self._moments.clear()
        self._rollups.clear()

    def _matching(self, name: str, wanted: Collection[str]) -> set[int]:
        code_of = self._code_of[name]
        exact = {code_of[word] for word in wanted if word in code_of}
        starts = tuple(word[:-1] for word in wanted if word.endswith("*"))
        return (exact | {code for word, code in code_of.items() if starts and word.startswith(starts)}) - {0}

    def _narrowest(self, requests: Collection[str] | None, wanted: dict[str, set[int]]) -> Positions:
        """The fewest rows that must hold the answer; what they were chosen by is taken out of `wanted`."""
        if requests is not None:
            return sorted(row for request in requests for row in self._of_request(request))
        if not wanted:
            return range(len(self))
        spans = {name: [self._rows_of(name, code) for code in codes] for name, codes in wanted.items()}
        name = min(spans, key=lambda name: sum(map(len, spans[name])))
        del wanted[name]
        return spans[name][0] if len(spans[name]) == 1 else sorted(row for rows in spans[name] for row in rows)

    def _rows_of(self, name: str, code: int) -> array.array[int]:
        """A slice of all rows in order of the column."""
        codes = self._codes[name]
        if name not in self._orders:
            self._orders[name] = array.array("H", sorted(range(len(self)), key=codes.__getitem__))
        order, key = self._orders[name], codes.__getitem__
        return order[bisect_left(order, code, key=key) : bisect_right(order, code, key=key)]

    def _is_few(self, name: str, codes: set[int]) -> bool:
        return sum(len(self._rows_of(name, code)) for code in codes) < len(self) // FEW

    def _rollup(self, names: tuple[str, ...]) -> Counter[tuple[int, ...]]:
        """Over all rows, by code. Large ones are not kept."""
        found = self._rollups.get(names)
        if found is None:
            columns = [self._column(name) for name in names]
            found = Counter(zip(*columns, strict=True)) if names else Counter({(): len(self)})
            if len(found) <= KEPT_KEYS:
                while len(self._rollups) >= KEPT_ROLLUPS:
                    del self._rollups[next(iter(self._rollups))]
                self._rollups[names] = found
        return found

    def _said(self, by: Sequence[str], found: Counter[tuple[int, ...]]) -> Counts:
        """Words for codes; one word may have had two."""
        say = [self._words[name].__getitem__ if name in KEPT else int for name in by]
        said: Counts = Counter()
        for key, count in found.items():
            said[tuple(one(part) for one, part in zip(say, key, strict=True))] += count
        return said

    def _of_request(self, request: str) -> Iterator[int]:
        wanted, at = request.encode(), -1
        while len(wanted) == ULID and (at := self._requests.find(wanted, at + 1)) >= 0:
            if at % ULID == 0:
                yield at // ULID

    def _column(self, name: str) -> Sequence[int]:
        if name in KEPT:
            return self._codes[name]
        if name not in self._moments:
            unit = UNITS[name]
            self._moments[name] = array.array("q", [moment - moment % unit for moment in self.times])
        return self._moments[name]


def _cells(event: Event) -> tuple[str, ...]:
    subject, decision, model = event["subject"], event.get("decision", NONE), event.get("model", NONE)
    return (
        event["type"],
        subject["id"],
        subject.get("on_behalf_of", NONE).get("id", ""),
        subject.get("key_id", ""),
        event.get("source", NONE).get("addr", ""),
        model.get("id") or model.get("alias", ""),
        decision.get("outcome", ""),
        decision.get("reason", ""),
        _strictest(event.get("detectors", ())),
    )


def _strictest(detectors: Collection[Event]) -> str:
    return max((each["verdict"] for each in detectors), key=lambda verdict: STRICTNESS.get(verdict, 0), default="")


FACTS: dict[str, str] = {
    "type": "the event's type",
    "principal": "subject.id: who asked",
    "user": "subject.on_behalf_of.id: for whom",
    "key": "subject.key_id: the API key",
    "source": "source.addr: from where",
    "model": "model.id, or the name that was asked for where there is no such model",
    "outcome": "decision.outcome: allow, deny, error",
    "reason": "decision.reason: a reason code",
    "verdict": "the strictest verdict of the detectors: pass, flag, error, block",
}
"""The columns, and what each holds."""
REQUEST, KID = "request", "kid"
KEPT = (*FACTS, KID)
PATHS = {
    "type": "type",
    "subject.id": "principal",
    "subject.on_behalf_of.id": "user",
    "subject.key_id": "key",
    "source.addr": "source",
    "decision.outcome": "outcome",
    "decision.reason": "reason",
    "link.request": REQUEST,
}
"""Members of an event that are a column: asking for one is the same question."""
UNITS = {"hour": 3_600_000_000, "day": 86_400_000_000}
ROWS = 1 << 15  # a row's number fits two bytes, and so does a word's
ULID = 26
NO_REQUEST = b" " * ULID
FEW = 8  # of a run's rows less than one in so many are looked at one by one
KEPT_KEYS, KEPT_ROLLUPS = 2_048, 8
STRICTNESS = {"pass": 0, "flag": 1, "error": 2, "block": 3}
NONE: Mapping[str, Any] = {}
NO_CELLS = ("",) * len(KEPT)
