"""C2SP tlog-policy: which log is believed, and which witnesses must have seen it. Auditors get this file unchanged.

log <vkey> [url]    witness <name> <vkey> [url]    group <name> <k>|any|all <member>…    quorum <name>|none
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from sealward.formats.fault import FormatError
from sealward.formats.note import Verifier
from sealward.settings import Witness


@dataclass(slots=True)
class Policy:
    """Members are named before they are used, so groups cannot go in circles."""

    logs: list[Verifier] = field(default_factory=list)
    witnesses: dict[str, Verifier] = field(default_factory=dict)
    groups: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    quorum: str | None = None

    @classmethod
    def parse(cls, text: str) -> Policy:
        """FormatError("policy") for an unknown line, a name twice or unknown, no log, or not exactly one quorum."""
        policy, quorums = cls(), 0
        for line in text.splitlines():
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            quorums += words[0] == "quorum"
            policy._take(words)
        if not policy.logs or quorums != 1:
            raise FormatError("policy", "needs a log and exactly one quorum")
        return policy

    def satisfied(self, cosigned: AbstractSet[Verifier]) -> bool:
        """Whether these keys are enough."""
        return self.quorum is None or self._holds(self.quorum, cosigned)

    def _holds(self, name: str, cosigned: AbstractSet[Verifier]) -> bool:
        if name in self.witnesses:
            return self.witnesses[name] in cosigned
        needed, members = self.groups[name]
        return sum(self._holds(member, cosigned) for member in members) >= needed

    def _take(self, words: list[str]) -> None:
        match words:
            case ["log", vkey] | ["log", vkey, _]:
                self.logs.append(Verifier.parse(vkey))
            case ["witness", name, vkey] | ["witness", name, vkey, _] if self._is_new(name):
                self.witnesses[name] = Verifier.parse(vkey)
            case ["group", name, count, *members] if self._is_new(name) and members and all(map(self._is_known, members)):
                self.groups[name] = (_count(count, len(members)), tuple(members))
            case ["quorum", "none"]:
                self.quorum = None
            case ["quorum", name] if self._is_known(name):
                self.quorum = name
            case _:
                raise FormatError("policy", f"line {' '.join(words)[:100]!r}")

    def _is_known(self, name: str) -> bool:
        return name in self.witnesses or name in self.groups

    def _is_new(self, name: str) -> bool:
        return name != "none" and not self._is_known(name)


def policy_text(log: Verifier, witnesses: Sequence[Witness], quorum: int) -> str:
    """The file for a log and the witnesses of its settings; where one has two keys, the Ed25519 one, which every tool knows."""
    lines = [f"log {log.vkey}"]
    for each in witnesses:
        key = min(each.keys, key=lambda key: key.kind)
        url = "" if each.url.startswith("unix:") else f" {each.url}"
        lines.append(f"witness {each.name} {key.vkey}{url}")
    if witnesses:
        group = f"{quorum}-of-{len(witnesses)}"
        lines += [f"group {group} {quorum} {' '.join(each.name for each in witnesses)}", f"quorum {group}"]
    else:
        lines.append("quorum none")
    text = "\n".join(lines) + "\n"
    Policy.parse(text)
    return text


def _count(word: str, members: int) -> int:
    count = {"any": 1, "all": members}.get(word, int(word) if word.isascii() and word.isdecimal() else 0)
    if not 1 <= count <= members:
        raise FormatError("policy", f"{word} of {members}")
    return count
