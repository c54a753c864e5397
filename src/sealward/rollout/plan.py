"""`zero_trust_rollout.yaml`: phases in order, each with a name and tasks in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from sealward.errors import ConfigurationError, UsageError
from sealward.settings.file import SettingsError, faults_of, read
from sealward.settings.kinds import Name, Section


@dataclass(frozen=True, slots=True)
class Phase:
    """`id` is the key in the file (`phase_1`); `tasks` as they stand there."""

    id: str
    name: str
    tasks: tuple[str, ...]


def load(path: Path) -> tuple[Phase, ...]:
    """The phases in a file. ConfigurationError names the line of each fault."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path.name}: not UTF-8") from error
    try:
        return _parse(text, path)
    except SettingsError as error:
        raise ConfigurationError(error.detail, remedy=f"correct {path.name}; `sealward rollout status` reads it again") from error


def chosen(phases: tuple[Phase, ...], wanted: str | None) -> tuple[Phase, ...]:
    """All of them, or the one whose id is `wanted` or `phase_` and that. UsageError: there is none."""
    found = phases if wanted is None else tuple(phase for phase in phases if phase.id in {wanted, f"phase_{wanted}"})
    if not found:
        raise UsageError(f"there is no phase {wanted}", remedy=f"phases here: {', '.join(phase.id for phase in phases)}")
    return found


class _Phase(Section):
    name: Name
    tasks: Annotated[tuple[Name, ...], Field(min_length=1, max_length=256)]


class _File(Section):
    zero_trust_rollout: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")], _Phase], Field(min_length=1)]


def _parse(text: str, path: Path) -> tuple[Phase, ...]:
    value, lines = read(text, path)
    try:
        found = _File.model_validate(value)
    except ValidationError as error:
        raise SettingsError(path, faults_of(error.errors(include_input=False, include_url=False), _File, lines)) from error
    return tuple(Phase(ident, phase.name, phase.tasks) for ident, phase in found.zero_trust_rollout.items())


PACKAGED = Path(__file__).with_name("zero_trust_rollout.yaml")
