"""Vectors: ours lie in `tests/vectors`; those of others are read from a copy beside the repository and named when missing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent / "vectors"


def shared(*parts: str) -> Path | None:
    """`vectors/<parts>` under SEALWARD_SHARED (default: `../shared` beside the repository); None, loudly, without it."""
    root = Path(os.environ.get("SEALWARD_SHARED") or Path(__file__).parents[2] / "shared")
    path = root.joinpath("vectors", *parts)
    if path.exists():
        return path
    print(f"LEFT OUT: {'/'.join(parts)} is not here; set SEALWARD_SHARED to the folder that holds vectors/", file=sys.stderr)
    return None


def vector(*parts: str) -> Any:
    """A JSON file of `tests/vectors`."""
    return json.loads(VECTORS.joinpath(*parts).read_text(encoding="utf-8"))


def case_name(case: Any) -> str | None:
    """What a parametrised test is called: the vector's own words."""
    return str(case.get("why") or case.get("desc")) if isinstance(case, dict) else None
