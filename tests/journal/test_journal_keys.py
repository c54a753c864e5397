"""Subject keys: durable before use, new each month, one store that tears only at its end."""

from __future__ import annotations

from pathlib import Path
from random import Random

import orjson
import pytest

from journals import KEYS, MemoryDisk, acks, note, opened
from sealward.errors import ConfigurationError, IntegrityError
from sealward.journal.durable import OsDisk
from sealward.journal.init import create
from sealward.journal.keys import NEW_USERS_AN_HOUR, STORE, SubjectKeys, load_keys

TIME = "2026-11-{:02d}T09:14:07.104512Z"


def _keys(disk: MemoryDisk, seed: int = 0) -> SubjectKeys:
    return SubjectKeys(disk, KEYS.events, Random(seed).randbytes)


def test_a_key_is_of_one_subject_and_month() -> None:
    """Nobody follows a pseudonym for longer, and a service's named users have keys of their own."""
    keys = _keys(MemoryDisk())
    found = [
        keys.key_for("a", None, TIME.format(1)),
        keys.key_for("a", None, TIME.format(9)),
        keys.key_for("b", None, TIME.format(1)),
    ]
    found += [keys.key_for("a", None, "2026-12-01T00:00:00.000000Z"), keys.key_for("a", "u", TIME.format(1))]
    assert found[0] is found[1]
    assert len({key.kid for key in found}) == 4
    assert found[4].subject == "a\0u"


def test_keys_come_back_and_tear_only_at_the_end() -> None:
    """What was made durable is there after a crash; a torn last line was never used."""
    disk = MemoryDisk()
    keys = _keys(disk)
    first = keys.key_for("a", None, TIME.format(1))
    keys.make_durable()
    whole = disk.files[STORE]
    keys.key_for("b", None, TIME.format(1))
    keys.make_durable()
    for cut in range(len(whole), len(disk.files[STORE])):
        torn = MemoryDisk({STORE: disk.files[STORE][:cut]})
        again = _keys(torn, 1)
        assert again.key(first.kid) == first
        assert again.key_for("a", None, TIME.format(1)) == first
        assert torn.files[STORE] in (whole, disk.files[STORE])
    with pytest.raises(IntegrityError):
        _keys(MemoryDisk({STORE: b"x" + disk.files[STORE]}))


def test_next_months_keys_are_made_ahead() -> None:
    """By the end of a month all of them, and not all on one day: the first of a month is no stampede."""
    disk = MemoryDisk()
    keys = _keys(disk)
    made = set()
    for day in range(1, 31):
        for subject in range(50):
            keys.key_for(f"u-{subject}", None, TIME.format(day))
        made.add(len(keys._by_kid))
    assert len(made) > 10
    assert max(made) == 100
    before = {keys.key_for(f"u-{n}", None, "2026-12-01T00:00:00.000000Z").kid for n in range(50)}
    assert len(before) == 50


def test_a_service_that_invents_users_falls_back_to_its_own_key() -> None:
    """At most 1,000 new ones an hour: the store does not fill."""
    keys = _keys(MemoryDisk())
    for n in range(NEW_USERS_AN_HOUR):
        assert keys.key_for("svc", f"u-{n}", TIME.format(1)).subject != "svc"
    assert keys.key_for("svc", "one more", TIME.format(1)).subject == "svc"
    assert keys.key_for("svc", "u-7", TIME.format(1)).subject == "svc\0u-7"
    assert keys.key_for("other", "one more", TIME.format(1)).subject == "other\0one more"
    assert keys.key_for("svc", "one more", TIME.format(2)).subject == "svc\0one more"


def test_an_entry_is_never_written_before_its_key() -> None:
    """Order of calls on the disk."""
    calls = []
    disk = MemoryDisk()
    writer = opened(disk)
    disk.fail = lambda call, name: calls.append((call, name.rpartition("/")[0] or name, name))
    acks(writer, note())
    appended = [name for call, _, name in calls if call == "append"]
    assert appended[0] == STORE
    assert appended[1].endswith(".seg")


def test_an_erased_subject_leaves_headers() -> None:
    """Its rows are gone: the entry stays, the log verifies, the event cannot be read."""
    disk = MemoryDisk()
    writer = opened(disk)
    acks(writer, note())
    writer.close()
    rows = [row for line in disk.files[STORE].splitlines() for row in orjson.loads(line)]
    kid = next(row.header["kid"] for row in writer.reader.rows())
    disk.files[STORE] = b"".join(orjson.dumps([row]) + b"\n" for row in rows if row["kid"] != kid)
    (row,) = opened(disk).reader.rows()
    assert row.event is None
    assert row.as_json() == {"index": 0, "erased": True, "header": row.header}


def test_a_new_journal_has_its_keys(tmp_path: Path) -> None:
    """Each in a file of its own, 0400; the origin is the log key's name; a second one is refused."""
    folder = tmp_path / "j"
    signer = create(folder, "journal.test/new")
    keys = load_keys(folder)
    assert keys.signer.verifier == signer.verifier
    assert (folder / "vkey").read_text().strip() == signer.verifier.vkey
    for name in ("log.key", "log.mldsa", "events.kek"):
        assert (folder / "private" / name).stat().st_mode & 0o777 == 0o400
    with pytest.raises(ConfigurationError):
        create(folder, "journal.test/new")
    for origin in ("", "a b", "a+b", "a\nb", "x" * 256):
        with pytest.raises(ConfigurationError):
            create(tmp_path / "other", origin)


def test_keys_of_another_journal_are_refused(tmp_path: Path) -> None:
    """A vkey that is not the log key's; a purpose key that the KEK does not open; a key others can read."""
    folder, other = tmp_path / "j", tmp_path / "k"
    create(folder, "journal.test/a")
    create(other, "journal.test/a")
    mine = (folder / "vkey").read_text()
    (folder / "vkey").write_bytes((other / "vkey").read_bytes())
    with pytest.raises(IntegrityError):
        load_keys(folder)
    (folder / "vkey").write_text(mine)
    OsDisk(folder).replace([("private/purpose.json", (other / "private/purpose.json").read_bytes())])
    with pytest.raises(IntegrityError):
        load_keys(folder)
    (other / "private/log.key").chmod(0o644)
    with pytest.raises(ConfigurationError):
        load_keys(other)
