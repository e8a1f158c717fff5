"""`hypersend p2p …` between two terminals."""

from __future__ import annotations

import filecmp
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypersend_client.cli.p2p import files_of
from hypersend_client.cli.people import UsageError
from tests.cli.conftest import Terminal, stop_when
from tests.process import ServerProcess

MIB = 1024 * 1024


@pytest.fixture
def ben(server: ServerProcess, tmp_path: Path) -> Terminal:
    terminal = Terminal(tmp_path / "ben", server.url)
    terminal.home.mkdir()
    terminal.login("ben")
    return terminal


@pytest.fixture(autouse=True)
def no_orphans(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ends what a failed test left running."""
    started: list[subprocess.Popen[str]] = []
    start = Terminal.start

    def remember(self: Terminal, *arguments: str, **env: str) -> subprocess.Popen[str]:
        started.append(start(self, *arguments, **env))
        return started[-1]

    monkeypatch.setattr(Terminal, "start", remember)
    yield
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def source(tmp_path: Path, size: int, name: str = "film.mkv") -> Path:
    path = tmp_path / name
    path.write_bytes(os.urandom(size))
    return path


def test_file_goes_from_one_terminal_to_the_other(asha: Terminal, ben: Terminal, tmp_path: Path) -> None:
    path = source(tmp_path, 3 * MIB)
    sending = asha.start("p2p", "send", "@ben", str(path), "--json")
    found = ben.json("p2p", "receive", "--yes", "-o", str(tmp_path / "films"))
    out, said = sending.communicate(timeout=60)
    assert sending.returncode == 0, said
    assert json.loads(out)["status"] == found["status"] == "done"
    assert found["path"] == str(tmp_path / "films" / "film.mkv")
    assert filecmp.cmp(path, found["path"], shallow=False)
    number = ben.json("p2p", "safety", "@asha")["items"][0]["safety_number"]
    assert f"Safety number: {number}" in said
    assert asha.json("p2p", "safety", "@ben")["items"][0]["safety_number"] == number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_receiving_goes_on_with_the_same_line(
    asha: Terminal, ben: Terminal, tmp_path: Path, number: int
) -> None:
    path = source(tmp_path, 12 * MIB)
    sending = asha.start("send", "@ben", "--file", str(path), "--p2p")
    line = ("p2p", "receive", "--yes", "-o", str(tmp_path / "films"))
    receiving = ben.start(*line, "--limit-rate", "6M", "--relay-only")
    stop_when(receiving, tmp_path / "films", number, size=2 * MIB)
    found = ben.json(*line)
    assert filecmp.cmp(path, found["path"], shallow=False)
    _, said = sending.communicate(timeout=60)
    assert sending.returncode == 0, said


def test_folder_is_sent_as_files_with_safe_names(asha: Terminal, ben: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "2026").mkdir(parents=True)
    one, two = source(folder, 1000, "a.jpg"), source(folder / "2026", 2000, "b.jpg")
    sending = asha.start("p2p", "send", "@ben", str(folder))
    found = ben.json("p2p", "receive", "--yes", "--all", "-o", str(tmp_path / "here"))
    _, said = sending.communicate(timeout=60)
    assert sending.returncode == 0, said
    assert sorted(item["name"] for item in found["items"]) == ["2026 - b.jpg", "a.jpg"]
    assert filecmp.cmp(one, tmp_path / "here" / "a.jpg", shallow=False)
    assert filecmp.cmp(two, tmp_path / "here" / "2026 - b.jpg", shallow=False)


def test_nobody_is_asked_without_a_terminal_and_the_offer_stays(asha: Terminal, ben: Terminal, tmp_path: Path) -> None:
    sending = asha.start("p2p", "send", "@ben", str(source(tmp_path, 10)))
    refused = ben.run("p2p", "receive")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert "film.mkv" in refused.stderr
    ben.ok("p2p", "receive", "--yes", "-o", str(tmp_path / "here"))
    assert sending.wait(60) == 0
    sending.communicate()


def test_what_is_over_is_said_so(asha: Terminal, ben: Terminal, tmp_path: Path) -> None:
    sending = asha.start("p2p", "send", "@ben", str(source(tmp_path, 10)))
    done = ben.json("p2p", "receive", "--yes", "-o", str(tmp_path / "here"))
    sending.communicate(timeout=60)
    again = ben.run("p2p", "receive", done["id"], "--yes", "-o", str(tmp_path / "there"))
    assert again.returncode == 1
    assert "over" in again.stderr or "done" in again.stderr
    assert not [path for path in (tmp_path / "there").rglob("*") if path.is_file()]


def test_links_inside_a_folder_are_not_sent(tmp_path: Path) -> None:
    secret = source(tmp_path, 10, "id_rsa")
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "b.jpg").symlink_to(secret)
    (folder / "more").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="no file"):
        files_of([str(folder)])
    one = source(folder, 10, "a.jpg")
    assert files_of([str(folder)]) == [(one, "a.jpg")]
    assert files_of([str(folder / "b.jpg")]) == [(folder / "b.jpg", "b.jpg")]  # meant by name
