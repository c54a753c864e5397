"""What is remembered of tasks: since when, and that what was done and is not any more has regressed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sealward.errors import ConfigurationError, SealwardError
from sealward.process import User
from sealward.rollout.evidence import State, failed, held, left_out, state_of
from sealward.rollout.memory import Memory, Standing

OWNER = User(os.geteuid(), os.getegid())
DONE, PARTIAL, NOT_DONE, REGRESSED, NOT_BUILT = State.DONE, State.PARTIAL, State.NOT_DONE, State.REGRESSED, State.NOT_BUILT


def test_a_task_is_done_only_where_something_held_and_nothing_failed() -> None:
    """What could not be tried proves nothing, and nothing tried is nothing done."""
    good, bad, untried = held("a", "x"), failed("a", "y"), left_out("a", "z")
    assert state_of([good, untried]) is DONE
    assert state_of([good, bad]) is PARTIAL
    assert state_of([bad, untried]) is state_of([untried]) is state_of([]) is NOT_DONE


@pytest.mark.parametrize(
    ("found", "states", "since"),
    [
        ([NOT_DONE, NOT_DONE, DONE, DONE], [NOT_DONE, NOT_DONE, DONE, DONE], [1, 1, 3, 3]),
        ([DONE, PARTIAL, NOT_DONE, DONE], [DONE, REGRESSED, REGRESSED, DONE], [1, 2, 2, 4]),
        ([PARTIAL, NOT_DONE, PARTIAL], [PARTIAL, NOT_DONE, PARTIAL], [1, 2, 3]),
        ([NOT_BUILT, NOT_BUILT, DONE, NOT_BUILT], [NOT_BUILT, NOT_BUILT, DONE, NOT_BUILT], [1, 1, 3, 4]),
    ],
)
def test_states_follow_each_other(found: list[State], states: list[State], since: list[int]) -> None:
    """`since` moves with the state alone; `regressed` begins with the first failure after `done` and ends with the next one."""
    standing, told = Standing(NOT_DONE), []
    for at, state in enumerate(found, 1):
        standing = standing.next(state, (), str(at))
        told.append(standing)
    assert [each.state for each in told] == states
    assert [each.since for each in told] == list(map(str, since))


def test_what_was_kept_is_recalled(tmp_path: Path) -> None:
    """Evidence and all; only its owner reads the file."""
    memory = Memory(tmp_path / "rollout.json", OWNER)
    assert memory.recall() == {}
    standings = {("phase_1", "x"): Standing(PARTIAL, "t", was_done=True, evidence=(held("a", "b", entry=3), failed("c", "d")))}
    memory.keep(standings)
    assert memory.recall() == standings
    assert (tmp_path / "rollout.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"tasks": [{}]}', b'{"tasks": [{"phase": "p"}]}'])
def test_a_damaged_memory_is_not_taken_for_an_empty_one(tmp_path: Path, data: bytes) -> None:
    """Else whoever cuts it would turn `regressed` into `not done`."""
    (tmp_path / "rollout.json").write_bytes(data)
    with pytest.raises(ConfigurationError):
        Memory(tmp_path / "rollout.json", OWNER).recall()


def test_one_check_runs_at_a_time(tmp_path: Path) -> None:
    """The end of one would take away the probes of the other."""
    memory = Memory(tmp_path / "rollout.json", OWNER)
    with memory.alone(), pytest.raises(SealwardError, match="another check"), memory.alone():
        pass
    with memory.alone():
        pass
