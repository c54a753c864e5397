"""The side index: the same answers as reading the whole log, sealed on disk, made anew when lost, silent about the erased."""

from __future__ import annotations

import errno
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journals import KEYS, MemoryDisk, StepClock, acks, admitted, completed, event, failing, note, opened, request_id
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339
from sealward.journal import columns, index
from sealward.journal.archived import archived_text
from sealward.journal.columns import FACTS, Columns
from sealward.journal.index import MANIFEST, Index, discard
from sealward.journal.query import FOREVER, Find
from sealward.journal.writer import Draft, Writer

START = 1_795_600_000_000_000
HOUR = 3_600_000_000


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of eight entries, so that a small log has many."""
    monkeypatch.setattr(columns, "ROWS", 8)
    monkeypatch.setattr(index, "ROWS", 8)
    monkeypatch.setattr(index, "ROOM", 0)


def fact(who: str, model: str = "m1", at: int = START, **members: Any) -> dict[str, Any]:
    """A denied request."""
    said = {
        "subject": {"id": who, "kind": "human", "authn": "apikey", "key_id": f"k-{who}"},
        "model": {"alias": model},
        "time": rfc3339(at),
        "link": {"request": request_id(at)},
    }
    return event("inference.denied") | said | members


def index_of(writer: Writer, disk: MemoryDisk) -> Index:
    """As it is on disk, brought up to date."""
    found = Index(disk, writer.reader, KEYS.events, writer.reader.erased, Random(5).randbytes, writer.size)
    found.catch_up(writer.size)
    return found


def journal(count: int = 60) -> tuple[MemoryDisk, Writer]:
    """Ann, Bob and Cy in turn, a minute apart, at two models."""
    disk = MemoryDisk()
    writer = opened(disk)
    events = [fact(("ann", "bob", "cy")[n % 3], f"m{n % 2}", START + n * 60_000_000) for n in range(count)]
    acks(writer, *[Draft(each) for each in events])
    return disk, writer


def ask(found: Index, writer: Writer, **query: Any) -> list[dict[str, Any]]:
    """The answer to a query as it comes over the socket."""
    return list(Find.parse(query).answer(found, writer.reader))


def indices(rows: list[dict[str, Any]]) -> list[int]:
    """Of rows of an answer."""
    return [row["index"] for row in rows]


# -- columns --

KINDS = ["inference.denied", "auth.login", "inference.completed"]
EVENTS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from("abc"), st.sampled_from(["m1", "m2", ""]), st.integers(0, 3)), max_size=30
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS, st.sets(st.sampled_from("abc")), st.sets(st.sampled_from([*KINDS, "inference.*"]), min_size=1), st.integers(0, 3))
def test_columns_answer_as_a_list_of_events_would(
    rows: list[tuple[str, str, str, int]], who: set[str], types: set[str], hours: int
) -> None:
    """Selecting, counting, bytes and back, whatever was dropped before."""
    found = Columns(100)
    for kind, name, model, at in rows:
        said = {"model": {"alias": model}} if model else {}
        happened = {"type": kind, "time": rfc3339(START + at * HOUR), "subject": {"id": name}} | said
        found.append(happened, {"kid": f"kid-{name}"})
    dropped = found.drop({"kid-c"})
    assert dropped == any(name == "c" for _, name, _, _ in rows)
    rows = [row if row[1] != "c" else ("", "", "", row[3]) for row in rows]
    found = Columns.load(found.dump())
    assert b'"c"' not in found.dump()
    since, until = START - START % HOUR, START + hours * HOUR
    kinds = [kind for kind in KINDS if kind in types or ("inference.*" in types and kind.startswith("inference."))]
    expected = [
        n
        for n, (kind, name, _, at) in enumerate(rows)
        if kind in kinds and (not who or name in who) and START + at * HOUR < until
    ]
    words = {"type": types} | ({"principal": who} if who else {})
    assert [*found.select(words, since, until)] == expected
    counted = Counter((rows[n][1], START - START % HOUR + rows[n][3] * HOUR) for n in expected)
    assert found.counts(["principal", "hour"], expected) == counted
    for _ in range(2):  # the second time out of what was kept
        assert found.tally(words, since, until, ["principal", "hour"]) == counted
        assert found.tally(words, since, until, [])[()] == len(expected)


def test_a_request_is_found_at_its_place_only() -> None:
    """Not where the characters of two neighbours happen to spell it."""
    found = Columns(0)
    first, second = request_id(), request_id()
    for request in (first, second, first):
        found.append(fact("ann", link={"request": request}), {"kid": "k"})
    straddling = (first + second)[5:31]
    assert found.select({"request": [first]}, 0, FOREVER) == [0, 2]
    assert found.select({"request": [straddling, "x", ""]}, 0, FOREVER) == []


@pytest.mark.parametrize("data", [b"", b"{}", b"\x02\0\0\0{}", Columns(0).dump()[:-1] + b"x" * 7])
def test_other_bytes_are_no_columns(data: bytes) -> None:
    """FormatError, so that the file is made anew."""
    with pytest.raises(FormatError):
        Columns.load(data)


# -- the index on disk --


def test_an_index_answers_as_the_log_does() -> None:
    """By person, model, time, type, request and free members; the newest, in order of the log; counts by hour."""
    disk, writer = journal()
    found = index_of(writer, disk)
    assert found.size == 60
    assert indices(ask(found, writer, where={"principal": ["ann"]})) == list(range(0, 60, 3))
    both = [n for n in range(60) if n % 3 != 2 and n % 2]
    assert indices(ask(found, writer, where={"principal": ["ann", "bob"], "model": ["m1"]})) == both
    assert indices(ask(found, writer, where={"subject.id": ["ann", "bob"], "model": ["m1"]}, limit=3)) == both[-3:]
    since, until = START + 20 * 60_000_000, START + 25 * 60_000_000
    assert indices(ask(found, writer, since=since, until=until)) == [20, 21, 22, 23, 24]
    (row,) = ask(found, writer, where={"request": [next(writer.reader.rows(33)).event["link"]["request"]]})  # type: ignore[index]
    assert row["index"] == 33
    assert ask(found, writer, where={"principal": ["ann"]}, count=True) == [{"count": 20}]
    assert ask(found, writer, by=["principal"], limit=2) == [{"principal": "ann", "count": 20}, {"principal": "bob", "count": 20}]
    hours = Counter(rfc3339(START + n * 60_000_000)[:13] + ":00:00Z" for n in range(0, 60, 3))
    assert ask(found, writer, where={"principal": ["ann"]}, by=["hour"]) == [
        {"hour": hour, "count": count} for hour, count in sorted(hours.items())
    ]
    free = {"subject.key_id": ["k-cy"], "subject.kind": ["human"], "operation.stream": ["true", "false"]}
    assert indices(ask(found, writer, where=free)) == list(range(2, 60, 3))
    assert ask(found, writer, where={"subject.authn": ["apikey"]}, by=["model"]) == [
        {"model": "m0", "count": 30},
        {"model": "m1", "count": 30},
    ]
    assert ask(found, writer, where={"subject.authn": ["passkey"]}, count=True) == [{"count": 0}]


@pytest.mark.parametrize(
    "query",
    [
        None,
        [],
        {"x": 1},
        {"since": "yesterday"},
        {"since": -1},
        {"limit": True},
        {"where": []},
        {"where": {"principal": "ann"}},
        {"where": {"principal": [1]}},
        {"where": {"Subject.id": ["ann"]}},
        {"where": {"a.b.c.d.e.f": ["x"]}},
        {"where": {"principal": ["x" * 257]}},
        {"where": {"principal": ["x"] * 129}},
        {"by": ["kid"]},
        {"by": ["hour", "hour"]},
    ],
)
def test_what_is_no_query_is_refused(query: Any) -> None:
    """With a word for whoever asked."""
    with pytest.raises(FormatError) as refused:
        Find.parse(query)
    assert refused.value.reason == "malformed"
    assert refused.value.detail


def test_it_goes_on_where_it_was() -> None:
    """Saved and opened again it reads only what came since, and the last, short run is not lost either."""
    disk, writer = journal(20)
    index_of(writer, disk).save(last=True)
    acks(writer, *[Draft(fact("dee", at=START + 3 * HOUR)) for _ in range(5)])
    read: list[int] = []
    rows = writer.reader.rows
    writer.reader.rows = lambda start=0: (read.append(row.index) or row for row in rows(start))  # type: ignore[method-assign,func-returns-value]
    found = index_of(writer, disk)
    assert read == [20, 21, 22, 23, 24]
    assert ask(found, writer, by=["principal"]) == [
        {"principal": "ann", "count": 7},
        {"principal": "bob", "count": 7},
        {"principal": "cy", "count": 6},
        {"principal": "dee", "count": 5},
    ]


def test_nothing_of_an_event_is_readable_on_disk() -> None:
    """Not a name, not a model, not a request: every file is sealed."""
    disk, writer = journal(20)
    index_of(writer, disk).save(last=True)
    files = {name: data for name, data in disk.files.items() if name.startswith("private/index/")}
    assert len(files) == 4
    (event_,) = [row.event for row in writer.reader.rows(7) if row.index == 7]
    assert event_ is not None
    for word in ("ann", "k-ann", "inference.denied", event_["link"]["request"], "principal"):
        assert not any(word.encode() in data for data in files.values()), word


@pytest.mark.parametrize("how", ["lost", "damaged", "of other keys", "manifest lost", "manifest damaged"])
def test_what_does_not_open_is_made_anew(how: str) -> None:
    """The log is the truth; the answers are the same."""
    disk, writer = journal(20)
    index_of(writer, disk).save(last=True)
    name = MANIFEST if how.startswith("manifest") else "private/index/00000000000000000008"
    if how.endswith("lost"):
        del disk.files[name]
    elif how == "of other keys":
        disk.files[name] = disk.files["private/index/00000000000000000000"]
    else:
        disk.files[name] = disk.files[name][:-1] + bytes([disk.files[name][-1] ^ 1])
    found = index_of(writer, disk)
    assert indices(ask(found, writer, where={"principal": ["ann"]})) == list(range(0, 20, 3))
    found.save(last=True)
    assert indices(ask(index_of(writer, disk), writer, where={"principal": ["ann"]})) == list(range(0, 20, 3))


def test_an_index_of_a_longer_log_is_not_believed() -> None:
    """A log that was put back to an older state gets another history; what the index knew of the former one goes."""
    disk, writer = journal(10)
    older = dict(disk.files)
    acks(writer, *[Draft(fact("dee"))] * 10)
    index_of(writer, disk).save(last=True)
    disk.files = older | {name: data for name, data in disk.files.items() if name.startswith("private/index")}
    disk.locked = False
    writer = opened(disk)
    assert ask(index_of(writer, disk), writer, where={"principal": ["dee"]}, count=True) == [{"count": 0}]


# -- what leaves --


def test_what_was_archived_leaves_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole runs with their files, and the first entries of the run where the archive ends: nothing of them is counted."""
    disk, writer = journal(600)
    found = index_of(writer, disk)
    found.save(last=True)
    disk.replace([("archived", archived_text(256, writer.origin))])
    for again in (found, index_of(writer, disk)):
        again.catch_up(writer.size)
        assert ask(again, writer, count=True) == [{"count": 344}]
        assert ask(again, writer, where={"principal": ["ann"]}, limit=1000)[0]["index"] == 258
    assert min(name for name in disk.files if name.startswith("private/index/0")).endswith("256")
    monkeypatch.setattr(columns, "ROWS", 200)
    monkeypatch.setattr(index, "ROWS", 200)
    anew = index_of(writer, disk)
    assert anew._base == 200
    assert [(row["principal"], row["count"]) for row in ask(anew, writer, by=["principal"])] == [
        ("bob", 115),
        ("cy", 115),
        ("ann", 114),
    ]
    anew.save(last=True)
    del disk.files[f"private/index/{200:020d}"]
    assert ask(index_of(writer, disk), writer, count=True) == [{"count": 344}]


# -- erasure --


def erase(writer: Writer, who: str) -> list[str]:
    """As `journal erase` does it."""
    kids = writer.kids_of(who)
    erasure = {"subject": "case-1", "keys": len(kids), "kids": kids}
    acks(writer, Draft(event("journal.erased", erasure=erasure)))
    writer.drop_keys(kids)
    return kids


def test_an_erased_subject_leaves_the_index_at_once() -> None:
    """From memory and from disk; each file that held him is under a new key, and the old key is in no file any more."""
    disk, writer = journal(20)
    found = index_of(writer, disk)
    found.save(last=True)
    before = dict(disk.files)
    writer.on_erased.append(found.on_erased)
    erase(writer, "ann")
    found.catch_up(writer.size)
    assert ask(found, writer, where={"principal": ["ann"]}) == []
    assert ask(found, writer, by=["key"])[:2] == [{"key": "", "count": 8}, {"key": "k-bob", "count": 7}]
    changed = [name for name in before if name.startswith("private/index/") and disk.files[name] != before[name]]
    assert len(changed) == 4
    disk.files |= {name: before[name] for name in changed if name != MANIFEST}  # somebody kept the old files
    again = index_of(writer, disk)
    assert ask(again, writer, where={"principal": ["ann"]}) == []
    erased = [row for row in ask(again, writer) if row.get("erased")]
    assert [row["index"] for row in erased] == list(range(0, 20, 3))
    assert [row.keys() for row in erased] == [{"index", "erased", "header"}] * 7


def test_an_erasure_that_was_missed_is_made_good_when_a_file_is_opened() -> None:
    """A crash, or an index out of a backup: the keys that still exist say who may be in it."""
    disk, writer = journal(20)
    index_of(writer, disk).save(last=True)
    before = {name: data for name, data in disk.files.items() if name.startswith("private/index/")}
    erase(writer, "ann")
    disk.files |= before
    found = Index(disk, writer.reader, KEYS.events, writer.reader.erased, Random(5).randbytes, writer.size)
    assert ask(found, writer, where={"principal": ["ann"]}) == []
    found.save(last=False)
    changed = [name for name in before if disk.files[name] != before[name]]
    assert len(changed) == 4


def test_an_erasure_seen_in_the_log_is_carried_out() -> None:
    """Whoever only follows the log learns of it there."""
    disk, writer = journal(20)
    found = Index(disk, writer.reader, KEYS.events, lambda _: (), Random(5).randbytes, writer.size)
    found.catch_up(writer.size)
    erase(writer, "ann")
    found.catch_up(writer.size)
    assert ask(found, writer, where={"principal": ["ann"]}) == []


def test_what_cannot_be_rewritten_is_deleted() -> None:
    """On a full disk the erased person's facts go all the same; the index is made anew later."""
    disk, writer = journal(20)
    found = index_of(writer, disk)
    found.save(last=True)
    kids = writer.kids_of("ann")
    disk.fail = failing("replace", errno.ENOSPC, "private/index/")
    with pytest.raises(OSError, match="injected"):
        found.on_erased(kids)
    assert not any(name.startswith("private/index/") for name in disk.files)


def test_the_index_of_an_earlier_log_is_thrown_away() -> None:
    """An erasure reaches the key stores of logs before this one; what was derived from them must not tell instead."""
    disk, writer = journal(20)
    index_of(writer, disk).save(last=True)
    discard(disk)
    discard(disk)
    assert not any(name.startswith("private/index/") for name in disk.files)


def test_a_nearly_full_disk_is_left_to_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index then lives in memory."""
    monkeypatch.setattr(index, "ROOM", 1 << 20)
    disk, writer = journal(20)
    disk.room = 1 << 10
    found = index_of(writer, disk)
    found.save(last=True)
    assert not any(name.startswith("private/index/") for name in disk.files)
    assert len(ask(found, writer, where={"principal": ["ann"]})) == 7


def test_old_runs_leave_memory_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the log is; runs that are not on disk stay."""
    monkeypatch.setattr(index, "LOADED", 2)
    disk, writer = journal(60)
    found = index_of(writer, disk)
    assert len(found._loaded) == 7
    found.save(last=True)
    assert len(ask(found, writer, where={"principal": ["ann"]})) == 20
    assert len(found._loaded) == 2


def test_requests_of_a_run_and_their_ends_are_found() -> None:
    """Both entries of a request, and what kind they are."""
    disk, clock = MemoryDisk(), StepClock()
    writer = opened(disk, clock)
    request = request_id()
    acks(writer, note(), admitted(request), note(), completed(request))
    found = index_of(writer, disk)
    assert indices(ask(found, writer, where={"request": [request]})) == [1, 3]
    assert indices(ask(found, writer, where={"request": [request], "type": ["inference.completed"]})) == [3]
    assert indices(ask(found, writer, where={"type": ["auth.*"]})) == [0, 2]
    assert {*FACTS} == {"type", "principal", "user", "key", "source", "model", "outcome", "reason", "verdict"}
