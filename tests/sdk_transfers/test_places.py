from __future__ import annotations

import errno
import os
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypersend_client.sdk.places import candidates, downloads_folder, place, safe_name, state_folder


@given(st.text())
def test_any_name_becomes_one_that_every_file_system_takes(name: str) -> None:
    safe = safe_name(name)
    assert 0 < len(safe.encode()) <= 180
    assert PureWindowsPath(safe).name == safe
    assert not PureWindowsPath(safe).is_reserved()
    assert safe == safe.strip(". ")
    assert safe.isprintable() or not any(ord(c) < 32 for c in safe)
    assert safe_name(safe) == safe


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\0b", "a_b"),
        ("con", "_con"),
        ("LPT1.txt", "_LPT1.txt"),
        ("..", "file"),
        ("", "file"),
        (".bashrc", "bashrc"),
        ("end. . ", "end"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("हिन्दी 🙂.txt", "हिन्दी 🙂.txt"),
        ("x" * 300 + ".tar.gz", "x" * 173 + ".tar.gz"),
        ("\ud800.txt", "?.txt".replace("?", "_")),
    ],
)
def test_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_free_names_are_counted_up_before_the_extension() -> None:
    found = candidates(Path("/d/a.tar.gz"))
    assert [next(found).name for _ in range(3)] == ["a.tar.gz", "a (1).tar.gz", "a (2).tar.gz"]
    long = candidates(Path("/d") / ("é" * 120 + ".txt"))
    assert all(len(next(long).name.encode()) <= 255 for _ in range(3))


def test_a_file_system_without_hard_links_overwrites_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    part = tmp_path / "a.part"
    part.write_text("new")
    (tmp_path / "a.txt").write_text("old")
    assert place(part, tmp_path / "a.txt").name == "a (1).txt"
    assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a (1).txt").read_text() == "new"
    assert not part.exists()


def test_killed_between_link_and_unlink_makes_no_second_file(tmp_path: Path) -> None:
    part = tmp_path / "a.part"
    part.write_text("new")
    os.link(part, tmp_path / "a.txt")
    assert place(part, tmp_path / "a.txt") == tmp_path / "a.txt"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_the_platforms_folders(tmp_path: Path) -> None:
    (tmp_path / ".config").mkdir()
    (tmp_path / ".config" / "user-dirs.dirs").write_text(
        '# made by the desktop\nXDG_DESKTOP_DIR="$HOME/Desk"\nXDG_DOWNLOAD_DIR="$HOME/डाउनलोड"\n', "utf-8"
    )
    env = {"HOME": str(tmp_path)}
    assert downloads_folder(env, "linux") == tmp_path / "डाउनलोड"
    assert downloads_folder({"HOME": "/home/b"}, "linux") == Path("/home/b/Downloads")
    assert downloads_folder(env, "darwin") == tmp_path / "Downloads"
    assert state_folder(env, "linux") == tmp_path / ".local" / "share" / "hypersend"
    assert state_folder({**env, "LOCALAPPDATA": "/l"}, "win32") == Path("/l/HyperSend")
    assert state_folder({**env, "HYPERSEND_HOME": "/h"}, "win32") == Path("/h")
