"""Opening what was downloaded, with the programs of each platform."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hypersend_client.app import open_file
from tests.app.fakes import World

FILM = Path("/home/meera/Downloads/Our film.mkv")


def test_each_platform_opens_and_shows_by_its_own_program() -> None:
    assert open_file.commands(FILM, show=False, platform="darwin") == [["open", str(FILM)]]
    assert open_file.commands(FILM, show=True, platform="darwin") == [["open", "-R", str(FILM)]]
    assert open_file.commands(FILM, show=True, platform="win32") == [["explorer", f"/select,{FILM}"]]
    assert open_file.commands(FILM, show=False, platform="linux") == [["xdg-open", str(FILM)]]
    manager, folder = open_file.commands(FILM, show=True, platform="linux")
    assert "['file:///home/meera/Downloads/Our%20film.mkv']" in manager
    assert folder == ["xdg-open", "/home/meera/Downloads"]


def opener(folder: Path, monkeypatch: pytest.MonkeyPatch, status: int = 0) -> Path:
    """An `xdg-open` that notes what it is to open; where it notes it."""
    noted, program = folder / "noted", folder / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > "{noted}"\nexit {status}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}/nowhere")
    return noted


@pytest.mark.skipif(sys.platform != "linux", reason="xdg-open")
async def test_a_file_is_opened_and_its_folder_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = opener(tmp_path, monkeypatch)
    monkeypatch.setattr(open_file, "FILE_MANAGER", ("no-such-program",))
    film = tmp_path / "Our film.mkv"
    film.write_bytes(b"film")
    app = World().app
    await open_file.hand_over(app, str(film))
    assert noted.read_text() == str(film)
    await open_file.hand_over(app, str(film), show=True)
    assert noted.read_text() == str(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="xdg-open")
async def test_where_nothing_opens_it_the_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opener(tmp_path, monkeypatch, status=3)
    film = tmp_path / "Our film.mkv"
    film.write_bytes(b"film")
    app = World().app
    told: list[str] = []
    monkeypatch.setattr(app.notices, "tell", told.append)
    await open_file.hand_over(app, str(film))
    assert told == [f"Nothing on this device opens this file. It is in {tmp_path}."]


async def test_a_file_that_was_moved_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = World().app
    told: list[str] = []
    monkeypatch.setattr(app.notices, "tell", told.append)
    await open_file.hand_over(app, str(tmp_path / "gone"))
    assert told == ["The file is no longer where it was saved. Download it again."]
