"""`hypersend p2p …` between two terminals."""

from __future__ import annotations

import filecmp
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypersend_client.cli.p2p import NEW_DEVICE, files_of
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


def test_to_ones_own_other_device_it_says_what_to_do_there(
    server: ServerProcess, asha: Terminal, tmp_path: Path
) -> None:
    laptop = Terminal(tmp_path / "laptop", server.url)
    laptop.home.mkdir()
    laptop.login("asha")
    saved = next(chat for chat in asha.json("chats")["items"] if chat["kind"] == "saved")
    path = source(tmp_path, 10)
    sending = asha.start("p2p", "send", saved["id"], str(path))
    laptop.ok("p2p", "receive", "--yes", "-o", str(tmp_path / "films"))
    _, said = sending.communicate(timeout=60)
    assert sending.returncode == 0, said
    assert "hypersend p2p receive" in said
    assert filecmp.cmp(path, tmp_path / "films" / "film.mkv", shallow=False)


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


def offer_of(ben: Terminal) -> dict[str, Any]:
    """The one that waits, once it does."""
    until = time.monotonic() + 30
    while not (items := ben.json("p2p", "list")["items"]):
        assert time.monotonic() < until
    return items[0]  # type: ignore[no-any-return]


def test_offers_are_listed_and_declined(asha: Terminal, ben: Terminal, tmp_path: Path) -> None:
    sending = asha.start("p2p", "send", "@ben", str(source(tmp_path, 2 * MIB)))
    offer = offer_of(ben)
    assert f"{offer['id']}  from @asha  2.0 MiB  offered  film.mkv" in ben.ok("p2p", "list")
    assert f"{offer['id']}  to @ben  2.0 MiB  offered  film.mkv" in asha.ok("p2p", "list")
    assert ben.ok("p2p", "decline", offer["id"]) == "Declined: film.mkv\n"
    _, said = sending.communicate(timeout=60)
    assert sending.returncode == 1
    assert "The offer was declined." in said
    nothing = ben.run("p2p", "list")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "Nothing waits and nothing moves.\n")
    assert re.search(rf"{offer['id']}  from @asha  2.0 MiB +declined  film.mkv", ben.ok("p2p", "list", "@asha"))
    again = ben.run("p2p", "decline", offer["id"], "--json")
    assert again.returncode in (0, 1)
    assert "Traceback" not in again.stderr


def test_an_offer_is_put_on_the_server_in_place_of_waiting(asha: Terminal, ben: Terminal, tmp_path: Path) -> None:
    path = source(tmp_path, 3 * MIB)
    sending = asha.start("p2p", "send", "@ben", str(path))
    offer = offer_of(ben)
    sending.send_signal(signal.SIGINT)
    sending.communicate(timeout=20)
    refused = ben.run("p2p", "store", offer["id"])
    assert refused.returncode == 1
    assert "This device does not send that transfer." in refused.stderr
    stored = asha.run("p2p", "store", offer["id"], "--json")
    assert stored.returncode == 0, stored.stderr
    assert "film.mkv (3.0 MiB) goes to the server, which keeps it." in stored.stderr
    message = json.loads(stored.stdout)
    assert [file["name"] for file in message["files"]] == ["film.mkv"]
    got = ben.json("get", message["id"], "-o", f"{tmp_path / 'here'}/")
    assert filecmp.cmp(path, got["paths"][0], shallow=False)
    again = ben.run("p2p", "receive", offer["id"], "--yes", "-o", str(tmp_path / "there"), "--json")
    assert again.returncode == 0, again.stderr
    assert "film.mkv: Careful: it came through the server, and only the server says what is in it" in again.stderr
    found = json.loads(again.stdout)
    assert (found["came_through_server"], found["is_vouched"]) == (True, False)
    assert filecmp.cmp(path, found["path"], shallow=False)
    assert asha.json("p2p", "store", offer["id"])["id"] == message["id"]  # once
    assert "on the server" in asha.ok("p2p", "list", "@ben")


def test_cancelling_leaves_nothing_of_what_had_arrived(asha: Terminal, ben: Terminal, tmp_path: Path) -> None:
    sending = asha.start("p2p", "send", "@ben", str(source(tmp_path, 12 * MIB)))
    receiving = ben.start("p2p", "receive", "--yes", "-o", str(tmp_path / "films"), "--limit-rate", "4M")
    stop_when(receiving, tmp_path / "films", signal.SIGINT, size=2 * MIB)
    (moving,) = ben.json("p2p", "list")["items"]
    cancelled = ben.json("p2p", "cancel", moving["id"])
    assert cancelled["status"] == "cancelled"
    _, said = sending.communicate(timeout=60)
    assert (sending.returncode, "The transfer was called off." in said) == (1, True)
    assert not [path for path in (tmp_path / "films").rglob("*") if path.is_file()]


@pytest.mark.parametrize("what", ["store", "decline", "cancel"])
def test_what_there_is_not_is_said_so(ben: Terminal, what: str) -> None:
    done = ben.run("p2p", what, "01J0000000000000000000000Z", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "not_found"
    assert ben.run("p2p", what).returncode == 2
    assert ben.run("p2p", what, "nonsense").stderr.strip() == "There is no such thing, or you may not see it."


def test_off_a_terminal_progress_is_plain_lines(asha: Terminal, ben: Terminal, tmp_path: Path) -> None:
    sending = asha.start("p2p", "send", "@ben", str(source(tmp_path, 12 * MIB)), "--limit-rate", "4M", "--relay-only")
    done = ben.run("p2p", "receive", "--yes", "-o", str(tmp_path / "here"), "--relay-only")
    _, said = sending.communicate(timeout=60)
    assert (done.returncode, sending.returncode) == (0, 0), (done.stderr, said)
    for text in (said, done.stderr):
        lines = text.splitlines()
        assert [line for line in lines if re.fullmatch(r"film\.mkv: \d+ %, .* [KM]iB, .*/s.*", line)], text
        assert "film.mkv: done, 12.0 MiB" in lines
        assert "━" not in text
        assert "\x1b" not in text


def test_on_a_terminal_there_is_a_bar_once_it_is_accepted(asha: Terminal, ben: Terminal, tmp_path: Path) -> None:
    sending = asha.start("p2p", "send", "@ben", str(source(tmp_path, 4 * MIB)), "--limit-rate", "4M")
    with ben.at_a_terminal("p2p", "receive", "-o", str(tmp_path / "here")) as typed:
        typed.until("[y/N] ")
        assert "Asha sends film.mkv (4.0 MiB), from device to device." in typed.said
        assert "Safety number: " in typed.said
        assert "━" not in typed.said
        typed.type("y\n")
        status, out = typed.end()
    assert status == 0, typed.said
    assert out == f"{tmp_path / 'here' / 'film.mkv'}\n"  # the question is no result
    assert "━" in typed.said
    assert " %" in typed.said
    assert "film.mkv: done" not in typed.said
    assert sending.wait(60) == 0
    sending.communicate()


@pytest.mark.parametrize("answer", ["n", "", "yeah"])
def test_any_answer_but_yes_declines(asha: Terminal, ben: Terminal, tmp_path: Path, answer: str) -> None:
    sending = asha.start("p2p", "send", "@ben", str(source(tmp_path, 10)))
    with ben.at_a_terminal("p2p", "receive", "--json", "-o", str(tmp_path / "here")) as typed:
        typed.until("[y/N] ")
        typed.type(answer + "\n")
        status, out = typed.end()
    assert (status, json.loads(out)["error"]["code"]) == (1, "peer_ended")
    assert "The offer was declined." in typed.said
    _, said = sending.communicate(timeout=60)
    assert (sending.returncode, "The offer was declined." in said) == (1, True)
    assert not (tmp_path / "here" / "film.mkv").exists()


@pytest.mark.parametrize("keys", ["\x04", None])
def test_no_answer_leaves_the_offer(asha: Terminal, ben: Terminal, tmp_path: Path, keys: str | None) -> None:
    """The end of the input, and Ctrl-C, which does not wait for Enter."""
    sending = asha.start("p2p", "send", "@ben", str(source(tmp_path, 10)))
    with ben.at_a_terminal("p2p", "receive", "-o", str(tmp_path / "here")) as typed:
        typed.until("[y/N] ")
        if keys is not None:
            typed.type(keys)
        else:
            typed.process.send_signal(signal.SIGINT)
        status, _ = typed.end()
    assert status == (2 if keys is not None else 130), typed.said
    ben.ok("p2p", "receive", "--yes", "-o", str(tmp_path / "here"))
    assert sending.wait(60) == 0
    sending.communicate()


def test_a_device_that_was_not_met_before_is_warned_of_on_both_sides(
    asha: Terminal, ben: Terminal, tmp_path: Path
) -> None:
    """Not the first one, which is everybody's first."""

    def passes(one: Terminal, other: Terminal) -> tuple[str, str]:
        sending = one.start("p2p", "send", "@ben", str(source(tmp_path, 10)))
        done = other.run("p2p", "receive", "--yes", "-o", str(tmp_path / "here"))
        _, said = sending.communicate(timeout=60)
        assert (done.returncode, sending.returncode) == (0, 0), (done.stderr, said)
        return said, done.stderr

    def another(name: str) -> Terminal:
        terminal = Terminal(tmp_path / f"another of {name}", asha.url)
        terminal.home.mkdir()
        terminal.login(name)
        return terminal

    for said in passes(asha, ben):
        assert NEW_DEVICE not in said
    for said in passes(asha, ben):
        assert NEW_DEVICE not in said
    sender, receiver = passes(another("asha"), ben)
    assert (NEW_DEVICE in sender, NEW_DEVICE in receiver) == (False, True)
    sender, receiver = passes(asha, another("ben"))
    assert (NEW_DEVICE in sender, NEW_DEVICE in receiver) == (True, False)


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
