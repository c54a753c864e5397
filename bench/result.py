"""One measured question: its figures, its bars, and the machine and minute they belong to. Written as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise in numbers: held when `value` is at most `limit` (at least, where `least`)."""

    promise: str
    value: float
    limit: float
    least: bool = False

    @property
    def held(self) -> bool:
        """Whether the run kept the promise."""
        return self.value >= self.limit if self.least else self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Result:
    """`rows`: one a subject, columns in order. `chart`: label → part → value, in `unit`. `errors` > 0 makes the run void."""

    name: str
    title: str
    rows: Sequence[Mapping[str, Any]]
    bars: Sequence[Bar]
    unit: str = ""
    chart: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    fdatasync_us: Mapping[str, float] = field(default_factory=dict)
    errors: int = 0
    run: Mapping[str, Any] = field(default_factory=dict)  # date, command, machine, versions

    def write(self, folder: Path) -> None:
        """results/NAME.json."""
        text = json.dumps(_rounded(asdict(self)), indent=1, ensure_ascii=False)
        (folder / f"{self.name}.json").write_text(text + "\n")

    @classmethod
    def read(cls, path: Path) -> Result:
        """What `write` wrote."""
        data = json.loads(path.read_text())
        return cls(**data | {"bars": [Bar(**bar) for bar in data["bars"]]})


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value
