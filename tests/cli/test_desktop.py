"""`hypersend app`: the app in a window. The window itself is Flet's program, played here by a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hypersend_client.cli import desktop
from tests.process import REPOSITORY

# Connects as the real one would, and leaves when it was told to draw the form that asks for a server's address.
WINDOW = """#!{python}
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from tests.packaging.phone import Phone

class Running:
    returncode = None

async def main():
    phone = await Phone.connect(Path(sys.argv[1]), Running())
    await phone.register(platform="linux")
    async with asyncio.timeout(60):
        await phone.see({wanted!r})
    Path({seen!r}).write_text("\\n".join(phone.drawn))

asyncio.run(main())
"""


def run(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "hypersend_client.cli", "app", *arguments], cwd=home, text=True, capture_output=True,
        timeout=120, check=False, env={**kept, "HOME": str(home), "PYTHONPATH": str(REPOSITORY), **env})


def put_window(folder: Path, wanted: str, seen: Path) -> None:
    folder.mkdir()
    window = folder / "flet"
    window.write_text(WINDOW.format(
        python=sys.executable, repository=str(REPOSITORY), wanted=wanted, seen=str(seen)), encoding="utf-8")
    window.chmod(0o755)


def test_app_draws_its_first_screen_in_the_window_and_ends_with_it(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    put_window(tmp_path / "window", "chat.example.org", seen)
    done = run(tmp_path, DISPLAY=":0", FLET_VIEW_PATH=str(tmp_path / "window"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "HyperSend" in seen.read_text(encoding="utf-8").splitlines()


def test_app_opens_the_server_that_was_named(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    put_window(tmp_path / "window", "127.0.0.1:9", seen)
    done = run(tmp_path, "--server", "http://127.0.0.1:9", DISPLAY=":0", FLET_VIEW_PATH=str(tmp_path / "window"))
    assert done.returncode == 0, done.stderr


def test_without_a_screen_it_says_where_the_app_opens_instead(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1
    assert "There is no screen here" in done.stderr
    assert "browser" in done.stderr


def test_window_that_cannot_be_fetched_is_one_sentence_and_no_trace(tmp_path: Path) -> None:
    done = run(tmp_path, "--json", DISPLAY=":0", FLET_CLIENT_URL="http://127.0.0.1:9/flet.tar.gz")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "app_missing"
    assert "could not be fetched" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_and_mismatched_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"flet": "1.0.5"}

    def version(name: str) -> str:
        if name not in versions:
            raise desktop.importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(desktop.importlib.metadata, "version", version)
    assert "flet-desktop" in desktop.what_is_missing({"DISPLAY": ":0"}, "linux")
    versions["flet-desktop"] = "0.9.0"
    assert "must be the same" in desktop.what_is_missing({"DISPLAY": ":0"}, "linux")
    versions["flet-desktop"] = "1.0.5"
    assert desktop.what_is_missing({}, "darwin") == ""
    assert desktop.what_is_missing({"DISPLAY": ":0"}, "linux") == ""
