"""The kinds of values that stand in `sealward.yaml`, and the section they stand in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """Closed and frozen: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _seconds(value: object) -> object:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError("duration", "write a duration such as 30s, 5m, 12h or 90d")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _at_home(value: Path, info: ValidationInfo) -> Path:
    home: Path = (info.context or {}).get("home", Path())
    return home / value


Seconds = Annotated[int, BeforeValidator(_seconds), WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,5}[smhd]$"})]
File = Annotated[Path, AfterValidator(_at_home)]
Count = Annotated[StrictInt, Field(ge=1, le=2**53 - 1)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,119}$")]
Name = Annotated[str, Field(min_length=1, max_length=128)]
