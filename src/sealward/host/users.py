"""Who each process is. As root every role has a user of its own; without root all roles are one user and nothing is separated.

The `sw-*` users are used where the system has them (packages and images create them); else uids that nobody has,
61200 + n, and nothing is written to /etc.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from sealward.errors import ConfigurationError
from sealward.process import User


def role_users() -> Mapping[str, User]:
    """Role → user, for the whole deployment. ConfigurationError when a number that must be free belongs to somebody."""
    if os.geteuid() != 0:
        return dict.fromkeys(NAMES, User(os.getuid(), os.getgid()))
    return {role: _user(name, FIRST_FREE_UID + n) for n, (role, name) in enumerate(NAMES.items())}


def separated(users: Mapping[str, User]) -> bool:
    """Whether the lines of contracts.md section 1 hold: no two roles share a user, and none is root."""
    uids = {user.uid for user in users.values()}
    return len(uids) == len(users) and 0 not in uids


def _user(name: str, number: int) -> User:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return User(_unallocated(number, name), number)
    if entry.pw_uid == 0:
        raise ConfigurationError(f"the user {name} is root", remedy=f"give {name} a uid of its own")
    return User(entry.pw_uid, entry.pw_gid)


def _unallocated(number: int, name: str) -> int:
    try:
        taken = pwd.getpwuid(number).pw_name
    except KeyError:
        return number
    raise ConfigurationError(f"uid {number} belongs to {taken}", remedy=f"create the user {name}; sealward then uses it")


FIRST_FREE_UID = 61200
NAMES = {
    "door": "sw-door",
    "admin": "sw-admin",
    "inspector": "sw-inspect",
    "recorder": "sw-journal",
    "sidecar": "sw-runtime",
    "control": "sw-control",
    "signer": "sw-signer",
    "monitor": "sw-monitor",
}
