"""The files of a deployment: made by `sealward init`, found again by everything else.

    sealward.yaml                    the owner's
    trust/  tls/  owner/             pinned public keys; certificates; the CA's key
    recovery/                        the owner's; the recorder's group reads recovery.log
    run/                             root's, 0711: sockets, each owned by the user of its client
    state/{signer,control,door,admin,runtime}/, journal/, journal/private/     one user each

Where the folder cannot be entered by users of their own (a home folder of mode 0700), all but `sealward.yaml` lies in
/var/lib/sealward/NAME and the folder holds links. `base` is where it lies; processes know no other folder.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealward.errors import ConfigurationError, IntegrityError
from sealward.formats.b64 import b64url
from sealward.host import certificates
from sealward.host.files import make_folder, must_own, put, traversable
from sealward.host.users import role_users, separated
from sealward.keyring.secret import Secret, read_key, write_key
from sealward.keyring.token_key import TokenKey
from sealward.process import User
from sealward.settings import FILE


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment on this machine. `owner` is who owns `sealward.yaml`; `users` are the roles' own."""

    home: Path
    base: Path
    owner: User
    users: Mapping[str, User]

    @classmethod
    def at(cls, home: Path) -> Deployment:
        """The deployment in `home`. ConfigurationError when there is none, or it was made by another user."""
        home = home.resolve()
        file = home / FILE
        if not file.exists() or not (home / "state").exists():
            raise ConfigurationError(f"{home} is not a deployment", remedy=f"sealward init {home}")
        about = file.stat()
        found = cls(home, (home / "state").resolve().parent, User(about.st_uid, about.st_gid), role_users())
        for role, name in STATE.items():
            must_own(found.base / "state" / name, found.users[role])
        return found

    @property
    def separated(self) -> bool:
        """Whether each process is a user of its own."""
        return separated(self.users)

    @property
    def peers(self) -> dict[str, int]:
        """Client → uid allowed at its sockets."""
        uids = {CLIENTS.get(role, role): user.uid for role, user in self.users.items()}
        return uids | {"owner": self.owner.uid, "supervisor": os.geteuid()}


def prepare(home: Path) -> Deployment:
    """Make the folders of the deployment whose `sealward.yaml` lies in `home`, or set their owners and modes right."""
    home = home.resolve()
    about = (home / FILE).stat()
    users = role_users()
    owner = User(about.st_uid, about.st_gid)
    base = (home / "state").resolve().parent if (home / "state").exists() else _base(home, apart=separated(users))
    deployment = Deployment(home, base, owner, users)
    us = User(os.geteuid(), os.getegid())
    for name, user, mode in (
        ("trust", us, 0o755),
        ("tls", us, 0o755),
        ("owner", owner, 0o700),
        ("recovery", User(owner.uid, users["recorder"].gid), 0o2750),  # whoever acts: the recorder's group reads the line
        ("run", us, 0o711),
        ("state", us, 0o711),
        *((f"state/{name}", users[role], 0o700) for role, name in STATE.items()),
    ):
        make_folder(base / name, user, mode)
    if base != home:
        _link(base / FILE, home / FILE)
        for name in ("trust", "tls", "owner", "recovery", "run", "state", "journal"):
            _link(home / name, base / name)
    return deployment


def make_keys(deployment: Deployment, names: Sequence[str], now: dt.datetime) -> None:
    """The keys that are not there yet: CA and server certificate, signer, pepper. What is there stays."""
    _make_tls(deployment, [*certificates.LOCAL_NAMES, *names], now)
    _make_signer(deployment)
    if not (deployment.base / TOKEN_KEY).exists():
        write_key(deployment.base / TOKEN_KEY, TokenKey.new_secret(), deployment.users["signer"])
    _make_pepper(deployment)
    for name in ("state.kek", "bodies.kek"):
        _make_key(deployment.base / "state/control" / name, deployment.users["control"])


def token_jwk(deployment: Deployment) -> dict[str, str]:
    """The public key of our tokens."""
    return TokenKey(read_key(deployment.base / TOKEN_KEY)).jwk


def pin_log(deployment: Deployment, vkey: str) -> None:
    """The log key that everybody believes from now on. IntegrityError when another one is pinned."""
    pin, line = deployment.base / "trust/log.vkey", vkey.encode() + b"\n"
    if not pin.exists():
        put(pin, line, User(os.geteuid(), os.getegid()), 0o644)
    elif pin.read_bytes() != line:
        raise IntegrityError("log_pin", "trust/log.vkey is not this journal's key", remedy="restore both from one backup")


def _base(home: Path, *, apart: bool) -> Path:
    if not apart or traversable(home):
        return home
    name = f"{home.name}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}"
    base = ELSEWHERE / name
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    for folder in (ELSEWHERE, base):
        folder.chmod(0o755)
    return base


def _link(path: Path, target: Path) -> None:
    if path.is_symlink() and path.readlink() == target:
        return
    if path.exists() or path.is_symlink():
        raise ConfigurationError(f"{path} is in the way of a link to {target}", remedy=f"move {path} away")
    path.symlink_to(target)


def _make_tls(deployment: Deployment, names: Sequence[str], now: dt.datetime) -> None:
    us = User(os.geteuid(), os.getegid())
    ca_key_file, ca_file, server_file = (deployment.base / name for name in ("owner/ca.key", "tls/ca.pem", "tls/server.pem"))
    if not ca_key_file.exists() and ca_file.exists():
        return  # the owner keeps the CA elsewhere; its certificate can be renewed there only
    if not ca_key_file.exists():
        put(ca_key_file, certificates.key_pem(certificates.new_key()), deployment.owner, 0o400)
    ca_key = certificates.load_key(ca_key_file.read_bytes())
    if not ca_file.exists():
        put(ca_file, certificates.pem(certificates.authority(ca_key, deployment.home.name, now)), us, 0o644)
    copies = {role: deployment.base / "state" / role / "tls.key" for role in ("door", "admin")}
    if server_file.exists() and all(copy.exists() for copy in copies.values()):
        if certificates.serves(x509.load_pem_x509_certificate(server_file.read_bytes()), names, now):
            return
        key = certificates.load_key(copies["door"].read_bytes())
    else:
        key = certificates.new_key()
        for role, copy in copies.items():
            put(copy, certificates.key_pem(key), deployment.users[role], 0o400, replace=True)
    ca = x509.load_pem_x509_certificate(ca_file.read_bytes())
    put(server_file, certificates.pem(certificates.server(key, names, ca, ca_key, now)), us, 0o644, replace=True)


def _make_signer(deployment: Deployment) -> None:
    key_file, pin = deployment.base / "state/signer/snapshot.key", deployment.base / "trust/signer.pub"
    if not key_file.exists():
        if pin.exists():
            raise IntegrityError(
                "signer_lost", "the signer's key is gone, but pinned", remedy="restore state/signer from a backup"
            )
        write_key(key_file, Secret(Ed25519PrivateKey.generate().private_bytes_raw()), deployment.users["signer"])
    public = Ed25519PrivateKey.from_private_bytes(read_key(key_file).reveal()).public_key().public_bytes_raw()
    line = b64url(public).encode() + b"\n"
    if not pin.exists():
        put(pin, line, User(os.geteuid(), os.getegid()), 0o644)
    elif pin.read_bytes() != line:
        raise IntegrityError("signer_pin", "trust/signer.pub is not the signer's key", remedy="restore both from one backup")


def _make_pepper(deployment: Deployment) -> None:
    copies = [(deployment.base / "state" / role / "pepper", deployment.users[role]) for role in ("control", "door", "admin")]
    there = [read_key(path) for path, _ in copies if path.exists()]
    pepper = there[0] if there else Secret(secrets.token_bytes(32))
    for path, user in copies:
        if not path.exists():
            write_key(path, pepper, user)


def _make_key(path: Path, user: User) -> None:
    if not path.exists():
        write_key(path, Secret(secrets.token_bytes(32)), user)


ELSEWHERE = Path("/var/lib/sealward")
TOKEN_KEY = "state/signer/token.key"  # noqa: S105 - a path
STATE = {"signer": "signer", "control": "control", "door": "door", "admin": "admin", "sidecar": "runtime"}
CLIENTS = {"sidecar": "runtime"}
