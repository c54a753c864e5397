"""The tasks in the file, and which check stands behind the words of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealward.errors import ConfigurationError, UsageError
from sealward.rollout.plan import PACKAGED, chosen, load
from sealward.rollout.tasks import Check, check_of
from shared import shared

EXAMPLE = Path(__file__).parents[2] / "examples" / PACKAGED.name


def test_the_file_is_accepted_as_printed() -> None:
    """The example, the one inside the program and the one we were given are the same file; it has three phases of ten tasks."""
    given = shared("network", PACKAGED.name)
    assert EXAMPLE.read_bytes() == PACKAGED.read_bytes()
    assert given is None or given.read_bytes() == EXAMPLE.read_bytes()
    phases = load(EXAMPLE)
    assert [(phase.id, phase.name, len(phase.tasks)) for phase in phases] == [
        ("phase_1", "Foundation", 3),
        ("phase_2", "Network", 3),
        ("phase_3", "Advanced", 4),
    ]


def test_phase_1_is_built_and_nothing_else() -> None:
    """Each of its three tasks has a check of its own; later tasks have none, however they sound."""
    first, *later = load(EXAMPLE)
    assert [check_of(task) for task in first.tasks] == [Check.ENDPOINTS, Check.ROLES, Check.JOURNAL]
    assert {check_of(task) for phase in later for task in phase.tasks} == {None}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("require AUTHENTICATION on every route", Check.ENDPOINTS),
        ("Authenticated endpoints only", Check.ENDPOINTS),
        ("Role-based access for model administrators", Check.ROLES),
        ("Audit logging of all access", Check.JOURNAL),
        ("Deploy an immutable activity log", Check.JOURNAL),
        ("Buy a firewall", None),
        ("Authenticate the builds", None),
        ("Log in with passkeys", None),
    ],
)
def test_tasks_in_other_words_find_their_check_or_none(words: str, expected: Check | None) -> None:
    """All words of a pattern must be there; what is not known is not built."""
    assert check_of(words) is expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("zero_trust_rollout:\n  one: {name: A, task: [x]}\n", "rollout.yaml:2"),
        ("zero_trust_rollout:\n  one:\n    name: A\n    tasks: []\n", "rollout.yaml:4"),
        ("zero_trust_rollout:\n  one:\n    name: A\n    tasks: [x]\n  one:\n    name: B\n    tasks: [y]\n", "rollout.yaml:5"),
        ("zero_trust_rollout: {}\n", "rollout.yaml:1"),
        ("phases: 3\n", "rollout.yaml:1"),
        ("- a\n", "rollout.yaml:1"),
        ("zero_trust_rollout: [\n", "rollout.yaml"),
    ],
)
def test_a_bad_file_is_refused_by_its_line(tmp_path: Path, text: str, told: str) -> None:
    """Unknown, missing, doubled and empty things; exit code 3 and the line."""
    file = tmp_path / "rollout.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load(file)
    assert told in refused.value.detail


def test_a_phase_is_chosen_by_number_or_id() -> None:
    """What is not there is a misuse that names what is."""
    phases = load(EXAMPLE)
    assert chosen(phases, None) == phases
    assert chosen(phases, "2") == chosen(phases, "phase_2") == phases[1:2]
    with pytest.raises(UsageError) as refused:
        chosen(phases, "4")
    assert "phase_3" in refused.value.remedy
