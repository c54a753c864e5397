"""The files of a deployment: each readable by its one user, made once, pinned, and found again."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from sealward.errors import ConfigurationError, IntegrityError
from sealward.host import certificates
from sealward.host.deployment import Deployment, make_keys, pin_log, prepare
from sealward.host.users import role_users, separated
from sealward.process import User
from uids import attempt, open_folder, root_here

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty folder with settings, which every user may enter."""
    with open_folder() as folder:
        (folder / "sealward.yaml").write_text("version: 1\njournal: {origin: test/log}\n")
        yield folder


def made(home: Path, now: dt.datetime = NOW, names: tuple[str, ...] = ()) -> Deployment:
    """The deployment in `home` with its keys."""
    deployment = prepare(home)
    make_keys(deployment, names, now)
    return deployment


def contents(home: Path) -> dict[str, bytes]:
    """Every file and its bytes."""
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_a_second_run_changes_nothing(home: Path) -> None:
    """`init` can be run again at any time."""
    made(home)
    before = contents(home)
    made(home)
    assert contents(home) == before


def test_keys_are_readable_by_their_one_user_only(home: Path) -> None:
    """Contracts section 1: no process can read what another one holds."""
    if not root_here():
        return
    deployment = made(home)
    owners = {"signer": "signer", "control": "control", "door": "door", "admin": "admin", "runtime": "sidecar"}
    secret = [path for path in (home / "state").glob("*/*") if path.is_file()]
    assert len(secret) == 9
    for path in secret:
        for role, user in deployment.users.items():
            allowed = owners[path.parent.name] == role
            assert attempt(user.uid, path.read_bytes) == ("ok" if allowed else "EACCES"), (role, path)
    for role, user in deployment.users.items():
        assert attempt(user.uid, (home / "owner/ca.key").read_bytes) == "EACCES"
        assert attempt(user.uid, (home / "trust/signer.pub").unlink) == "EACCES"
        assert attempt(user.uid, (home / "run/x").touch) == "EACCES"
        assert attempt(user.uid, (home / "trust/signer.pub").read_bytes) == "ok", role


def test_a_closed_home_folder_is_passed_by_links(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where users of their own cannot enter the folder, everything lies elsewhere and the folder links to it."""
    if not root_here():
        return
    closed, elsewhere = home / "closed", home / "var"
    closed.mkdir(mode=0o700)
    (home / "sealward.yaml").rename(closed / "sealward.yaml")
    monkeypatch.setattr("sealward.host.deployment.ELSEWHERE", elsewhere)
    deployment = made(closed)
    assert deployment.base.parent == elsewhere
    assert Deployment.at(closed) == deployment
    assert made(closed) == deployment
    door = deployment.users["door"].uid
    assert attempt(door, (closed / "state/door/pepper").read_bytes) == "EACCES"
    assert attempt(door, (deployment.base / "state/door/pepper").read_bytes) == "ok"
    assert (deployment.base / "sealward.yaml").read_text() == (closed / "sealward.yaml").read_text()


def test_without_root_everything_is_one_user_and_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """It works, and nothing claims a separation that is not there."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    users = role_users()
    assert len(set(users.values())) == 1
    assert not separated(users)


def test_sharing_with_one_other_role_or_root_is_no_separation() -> None:
    """Every line of the table or none."""
    users = {"door": User(1, 1), "signer": User(2, 2)}
    assert separated(users)
    assert not separated(users | {"recorder": User(2, 2)})
    assert not separated(users | {"recorder": User(0, 0)})


def test_a_number_that_belongs_to_somebody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uids of their own are unallocated ones, never a person's."""
    if not root_here():
        return
    monkeypatch.setattr("sealward.host.users.FIRST_FREE_UID", 0)
    with pytest.raises(ConfigurationError, match="belongs to root"):
        role_users()


def test_the_certificate_is_for_tls_1_3_clients_of_this_ca_only(home: Path) -> None:
    """A strict client accepts it: CA that signs leaves only, names, 90 days."""
    made(home, dt.datetime.now(dt.UTC), ("ai.example.org", "10.1.2.3"))
    ca = x509.load_pem_x509_certificate((home / "tls/ca.pem").read_bytes())
    leaf = x509.load_pem_x509_certificate((home / "tls/server.pem").read_bytes())
    leaf.verify_directly_issued_by(ca)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "ai.example.org"}
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1", "10.1.2.3"}
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc < dt.timedelta(days=91)
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    for role in ("door", "admin"):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(home / "tls/server.pem", home / f"state/{role}/tls.key")


@pytest.mark.parametrize(("later", "names"), [(dt.timedelta(days=61), ()), (dt.timedelta(), ("new.example.org",))])
def test_a_certificate_is_renewed_in_time_and_for_new_names(home: Path, later: dt.timedelta, names: tuple[str, ...]) -> None:
    """The key, the CA and everything else stay."""
    made(home)
    before = contents(home)
    made(home, NOW + later, names)
    assert {name for name, data in contents(home).items() if before[name] != data} == {"tls/server.pem"}
    leaf = x509.load_pem_x509_certificate((home / "tls/server.pem").read_bytes())
    assert certificates.serves(leaf, [*certificates.LOCAL_NAMES, *names], NOW + later)


def test_an_interrupted_run_is_completed(home: Path) -> None:
    """Whatever single file is missing, a second run ends with a whole deployment; pins are never guessed anew."""
    made(home)
    whole = contents(home)
    kept = {"sealward.yaml", "state/signer/snapshot.key", "owner/ca.key"}  # a CA key that is not here is kept elsewhere
    for name in whole.keys() - kept:
        (home / name).unlink()
        made(home)
        assert contents(home).keys() == whole.keys(), name
    for role in ("door", "admin"):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(home / "tls/server.pem", home / f"state/{role}/tls.key")


def test_a_lost_or_swapped_signer_key_is_not_replaced_in_silence(home: Path) -> None:
    """Everybody believes the pin: another key needs `recover`, not `init`."""
    made(home)
    key = home / "state/signer/snapshot.key"
    key.rename(home / "kept")
    with pytest.raises(IntegrityError, match="signer_lost"):
        made(home)
    other = home / "other"
    other.mkdir()
    shutil.copy(home / "sealward.yaml", other)
    made(other)
    shutil.copy(other / "state/signer/snapshot.key", key)
    with pytest.raises(IntegrityError, match="signer_pin"):
        made(home)


def test_another_log_key_is_not_pinned_over_the_first(home: Path) -> None:
    """The journal's name and key are for ever."""
    deployment = made(home)
    pin_log(deployment, "a+1+b")
    pin_log(deployment, "a+1+b")
    with pytest.raises(IntegrityError, match="log_pin"):
        pin_log(deployment, "a+2+c")


def test_a_deployment_of_another_user_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's users cannot read what one ordinary user made, nor the other way round: said before anything starts."""
    made(home)
    monkeypatch.setattr("sealward.host.deployment.role_users", lambda: dict.fromkeys(role_users(), User(4711, 4711)))
    with pytest.raises(ConfigurationError, match="belongs to uid"):
        Deployment.at(home)


def test_a_link_in_place_of_a_folder_is_refused(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`init` as root must not hand a folder of somebody's choice to a process."""
    victim = tmp_path_factory.mktemp("victim")
    (home / "run").symlink_to(victim)
    with pytest.raises(OSError, match="run"):
        prepare(home)
    assert list(victim.iterdir()) == []
