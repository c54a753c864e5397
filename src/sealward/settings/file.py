"""Strict YAML and the faults of a file: what stands there is what is meant, or the line is named.

PyYAML's traps are closed (knowledge/parts.md): a key that stands twice, `0443` read as 291, `off` read as false, `12:30` read
as 750, aliases that grow a small file into memory. Only `true`, `false`, `null` and plain decimal numbers are not text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from sealward.errors import ConfigurationError

Place = tuple[str | int, ...]


class Fault(NamedTuple):
    """One thing wrong in the file: where (`doors.inference.listen`), its line (0: unknown) and what."""

    path: str
    line: int
    text: str


class SettingsError(ConfigurationError):
    """The file has `faults`."""

    def __init__(self, file: Path, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__(
            "\n  ".join(_words(file, fault) for fault in faults), remedy="correct the file, then `sealward config check`"
        )


def read(text: str, file: Path) -> tuple[dict[str, Any], dict[Place, int]]:
    """The mapping in `text`, and the line of each place in it. SettingsError when it is not one."""
    try:
        node = yaml.compose(text, Loader=_Strict)
        value = yaml.load(text, Loader=_Strict)  # noqa: S506 - _Strict is a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise SettingsError(file, [Fault("", line, error.problem or "not YAML")]) from error
    except yaml.YAMLError as error:
        raise SettingsError(file, [Fault("", 0, "not YAML: it holds characters that no YAML file has")]) from error
    if not isinstance(value, dict):
        raise SettingsError(file, [Fault("", 1, "the file must hold a mapping that starts with `version: 1`")])
    return value, dict(_lines(node, ()))


def faults_of(errors: list[ErrorDetails], model: type[BaseModel], lines: Mapping[Place, int]) -> list[Fault]:
    """Pydantic's findings in words for people, with the lines they stand in."""
    return sorted((_fault(error, model, lines) for error in errors), key=lambda fault: fault.line)


def _fault(error: ErrorDetails, model: type[BaseModel], lines: Mapping[Place, int]) -> Fault:
    place: Place = ()
    for part in error["loc"]:  # the branch of a union is a step for pydantic, but none in the file
        place += (part,) if (*place, part) in lines else ()
    if error["type"] == "missing":
        place += (error["loc"][-1],)
    line = lines.get(place) or lines.get(place[:-1], 0)
    path = ".".join(map(str, place))
    if error["type"] != "extra_forbidden":
        return Fault(path, line, error["msg"].removeprefix("Value error, "))
    known = _keys(model, place[:-1])
    near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.5)
    parent = ".".join(map(str, place[:-1]))
    meant = f"did you mean `{parent + '.' if parent else ''}{near[0]}`?" if near else f"known here: {', '.join(known)}"
    return Fault(path, line, f"unknown key; {meant}")


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that may stand in the section at `place`."""
    for part in place:
        if part not in model.model_fields:
            continue  # the id of a row: its section is one type for all of them
        model = next(iter(_sections(model.model_fields[str(part)].annotation)), model)
    return list(model.model_fields)


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections(inner)]


def _lines(node: yaml.Node | None, place: Place) -> list[tuple[Place, int]]:
    found: list[tuple[Place, int]] = [(place, node.start_mark.line + 1)] if node and place else []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found.append(((*place, key.value), key.start_mark.line + 1))
            found += [each for each in _lines(value, (*place, key.value)) if each[0] != (*place, key.value)]
    elif isinstance(node, yaml.SequenceNode):
        for n, item in enumerate(node.value):
            found += _lines(item, (*place, n))
    return found


def _words(file: Path, fault: Fault) -> str:
    where = f"{file.name}:{fault.line}" if fault.line else file.name
    return f"{where}: {fault.path}: {fault.text}" if fault.path else f"{where}: {fault.text}"


class _Strict(yaml.SafeLoader):
    """Safe, and without YAML 1.1's surprises."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise _at(self.current_event, "aliases (*name) are not used in this file")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _at(key, f"the key {key.value} is not text: quote it")
            if key.value in keys:
                raise _at(key, f"the key {key.value} stands twice")
            keys.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_ambiguous(self, node: yaml.ScalarNode) -> None:
        raise _at(node, f"{node.value} could be an octal or hexadecimal number: write it in decimal, or quote it")


def _at(node: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


_Strict.yaml_implicit_resolvers = {}
_Strict.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Strict.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""])
_Strict.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^-?(?:0|[1-9][0-9]*)$"), list("-0123456789"))
_Strict.add_implicit_resolver("!ambiguous", re.compile(r"^-?0(?:[0-9_]+|[xob][0-9a-fA-F_]+)$"), list("-0"))
_Strict.add_constructor("!ambiguous", _Strict.construct_ambiguous)
