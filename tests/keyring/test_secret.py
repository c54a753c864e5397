"""Secrets: they do not print, and their files belong to one user."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from sealward.errors import ConfigurationError
from sealward.keyring.secret import Secret, read_key, write_key
from sealward.process import User

KEY = Secret(bytes(range(32)))


def test_a_secret_prints_nowhere() -> None:
    """Neither by accident nor by format string, traceback, JSON or pickle."""
    assert {repr(KEY), str(KEY), f"{KEY}", f"{KEY!r:>10}".strip(), f"{[KEY]}"[1:-1], "%s" % KEY} == {"<secret>"}  # noqa: UP031
    for refuse in (pickle.dumps, json.dumps, hash):
        with pytest.raises(TypeError):
            refuse(KEY)


def test_secrets_are_equal_by_their_bytes() -> None:
    """And to nothing that is not a secret."""
    assert Secret(bytes(range(32))) == KEY
    assert Secret(b"") != KEY
    assert KEY.reveal() != KEY


def test_a_key_file_is_read_back(tmp_path: Path) -> None:
    """One line of base64url, for our eyes only, whatever the umask says."""
    write_key(tmp_path / "k", KEY)
    assert read_key(tmp_path / "k") == KEY
    assert (tmp_path / "k").read_text() == "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n"
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o400


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    """Running init twice destroys nothing."""
    write_key(tmp_path / "k", KEY)
    with pytest.raises(FileExistsError):
        write_key(tmp_path / "k", Secret(b"other"))
    assert read_key(tmp_path / "k") == KEY


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o644, 0o660, 0o500, 0o4400])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """A key that was copied with careless modes counts as lost, loudly."""
    write_key(tmp_path / "k", KEY)
    (tmp_path / "k").chmod(mode)
    with pytest.raises(ConfigurationError, match="read by others"):
        read_key(tmp_path / "k")


def test_what_is_no_key_file_is_refused(tmp_path: Path) -> None:
    """Missing, a folder, a link that somebody laid, or other bytes: no error shows the content."""
    (tmp_path / "folder").mkdir()
    write_key(tmp_path / "k", KEY)
    (tmp_path / "link").symlink_to("k")
    (tmp_path / "text").write_text("swordfish é=")
    (tmp_path / "text").chmod(0o400)
    for name in ("missing", "folder", "link", "text"):
        with pytest.raises(ConfigurationError) as refused:
            read_key(tmp_path / name)
        assert "swordfish" not in str(refused.value)


def test_a_key_is_given_to_the_user_that_may_open_it(tmp_path: Path) -> None:
    """`init` runs as root and makes the keys of all users; an ordinary user can only make his own."""
    user = User(61201, 61201) if os.geteuid() == 0 else User(os.geteuid(), os.getegid())
    write_key(tmp_path / "k", KEY, user)
    about = (tmp_path / "k").stat()
    assert (about.st_uid, about.st_gid, about.st_mode & 0o777) == (user.uid, user.gid, 0o400)
    assert read_key(tmp_path / "k") == KEY
