from __future__ import annotations

import filecmp
import http.server
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
import uuid
from pathlib import Path

import pytest

from tests.cli.conftest import Terminal, stop_when
from tests.harness import PASSWORD
from tests.process import REPOSITORY, ServerProcess

MIB = 1024 * 1024


def test_signing_in_and_out(server: ServerProcess, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, server.url)
    assert terminal.run("whoami").returncode == 1
    assert "asha" in terminal.ok("login", "asha@example.org", stdin=PASSWORD + "\n")
    (accounts,) = tmp_path.rglob("accounts.json")
    assert accounts.stat().st_mode & 0o777 == 0o600
    assert terminal.json("whoami")["username"] == "asha"
    terminal.ok("logout")
    gone = terminal.run("whoami")
    assert gone.returncode == 1
    assert "Sign in: hypersend login" in gone.stderr


def test_the_password_may_come_from_the_environment_and_the_server_from_an_option(
    server: ServerProcess, tmp_path: Path
) -> None:
    terminal = Terminal(tmp_path, "")
    done = terminal.run("--server", server.url, "login", "asha@example.org", HYPERSEND_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert terminal.run("whoami").returncode == 0  # the server used last
    assert terminal.run("whoami", API_URL=server.url).returncode == 0


def test_several_accounts_live_side_by_side(asha: Terminal) -> None:
    asha.login("ben")
    assert asha.json("whoami")["username"] == "ben"
    assert asha.json("--account", "asha", "whoami")["username"] == "asha"
    assert asha.json("whoami", "--account", "asha@example.org")["username"] == "asha"
    wrong = asha.run("whoami", "--account", "cleo")
    assert wrong.returncode == 1
    assert "asha@example.org" in wrong.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["send"],
        ["upload"],
        ["get", "x", "--limit-rate", "fast"],
        ["completion", "tcsh"],
        ["send", "@ben", *["--file", "x"] * 11],
        ["send", "@ben", "x" * 8001],
        ["send", "@ben", ""],
        ["send", "@ben", "a\x1b[31mred"],
    ],
)
def test_wrong_usage_ends_with_2(tmp_path: Path, arguments: list[str]) -> None:
    done = Terminal(tmp_path, "http://127.0.0.1:1").run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "hypersend" in done.stderr


def test_a_text_behind_the_file_is_told_from_a_file(asha: Terminal, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("tea")
    done = asha.run("send", "me", "--file", str(note), "for you")
    assert done.returncode == 2
    assert "there is no file 'for you'; a text stands before --file" in done.stderr


def test_no_server_is_wrong_usage(tmp_path: Path) -> None:
    done = Terminal(tmp_path, "").run("whoami")
    assert done.returncode == 2
    assert "--server" in done.stderr


class Website(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>It works!</html>")

    def log_message(self, *_: object) -> None:
        pass


def test_what_is_wrong_is_said_in_plain_words(server: ServerProcess, tmp_path: Path) -> None:
    website = http.server.HTTPServer(("127.0.0.1", 0), Website)
    threading.Thread(target=website.serve_forever, daemon=True).start()
    cases = {
        "http://127.0.0.1:1": "Nothing answers at http://127.0.0.1:1.",
        "http://no-such-host.invalid": "http://no-such-host.invalid cannot be found.",
        f"http://127.0.0.1:{website.server_port}": "is no HyperSend server",
        server.url.replace("http:", "https:"): "does not speak TLS",
        "http://": "is no server address",
    }
    try:
        for url, words in cases.items():
            done = Terminal(tmp_path, url).run("login", "asha@example.org", stdin=PASSWORD + "\n")
            assert done.returncode == 1, url
            assert words in done.stderr
            assert done.stderr.count("\n") == 1
            assert "Traceback" not in done.stderr
    finally:
        website.shutdown()
        website.server_close()
    wrong = Terminal(tmp_path, server.url).run("login", "asha@example.org", "--json", stdin="not the password\n")
    assert wrong.returncode == 1
    assert "password is wrong" in wrong.stderr
    assert json.loads(wrong.stdout)["error"]["code"] == "credentials_invalid"


def test_chats_are_named_by_id_username_or_title(asha: Terminal, ben: Terminal) -> None:
    message = asha.json("send", "@ben", "hello", "there")
    assert message["text"] == "hello there"
    chat = message["chat_id"]
    asha.ok("send", chat, "--json", "by id")
    asha.ok("send", "Ben", "-", stdin="by title\nin two lines\n")
    listed = {item["id"]: item for item in ben.json("chats")["items"]}
    assert listed[chat]["last_message"]["text"] == "by title\nin two lines"
    assert "by title in two lines" in ben.ok("chats")
    assert "No chat is archived." in ben.run("chats", "--archived").stderr
    assert asha.json("send", "@asha", "to myself")["chat_id"] != message["chat_id"]
    missing = asha.run("send", "@nobody", "hi")
    assert missing.returncode == 1
    assert "Nobody is called @nobody" in missing.stderr


def test_somebody_whom_one_has_blocked_is_still_written_to_by_name(
    asha: Terminal, ben: Terminal, server: ServerProcess
) -> None:
    chat = asha.json("send", "@ben", "hello")["chat_id"]
    (account,) = (json.loads(path.read_text())["accounts"][0] for path in asha.home.rglob("accounts.json"))
    (peer,) = (item["peer"]["id"] for item in asha.json("chats")["items"] if item["id"] == chat)
    for method in ("PUT", "DELETE"):
        urllib.request.urlopen(urllib.request.Request(
            f"{server.url}/api/v1/users/me/blocks/{peer}", method=method,
            headers={"Authorization": f"Bearer {account['access_token']}"}))
        assert asha.json("send", "@ben", f"after {method}")["chat_id"] == chat


def test_what_is_no_text_is_told_from_one(asha: Terminal, ben: Terminal) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hypersend_client.cli", "send", "@ben", "-"], cwd=REPOSITORY, env=asha.env(),
        input=b"caf\xe9 latin1", capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert b"the text is not UTF-8; send it as a file" in done.stderr


def test_a_title_that_two_chats_have_is_asked_about(asha: Terminal, server: ServerProcess) -> None:
    title = f"Tea {uuid.uuid4().hex}"
    script = (
        "import asyncio, sys\n"
        "from hypersend_client.sdk import HyperSend\n"
        "async def main():\n"
        "    async with HyperSend(sys.argv[1]) as hs:\n"
        "        await hs.login('asha@example.org', sys.argv[2])\n"
        "        for _ in range(2): print((await hs.chats.create_group(sys.argv[3], [])).id)\n"
        "asyncio.run(main())"
    )
    made = subprocess.run(
        [sys.executable, "-c", script, server.url, PASSWORD, title],
        cwd=REPOSITORY,
        text=True,
        capture_output=True,
        check=True,
    ).stdout.split()
    done = asha.run("send", title.upper(), "hi")
    assert done.returncode == 1
    assert all(chat_id in done.stderr for chat_id in made)


def big(terminal: Terminal, mib: int = 24) -> Path:
    path = terminal.home / f"{uuid.uuid4().hex}.iso"
    path.write_bytes(os.urandom(mib * MIB))
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_file_whose_sending_was_stopped_goes_on_and_is_one_message(
    asha: Terminal, ben: Terminal, server: ServerProcess, number: int
) -> None:
    path = big(asha)
    chat = asha.json("send", "@ben", f"before {path.name}")["chat_id"]
    line = ["send", "@ben", "Here", "--file", str(path)]
    said = stop_when(asha.start(*line, "--limit-rate", "8M"), server.data_root / "uploads", number, size=4 * MIB)
    if number == signal.SIGINT:
        assert "The same command again goes on." in said
    message = asha.json(*line)
    assert [file["name"] for file in message["files"]] == [path.name]
    shown = ben.json("chats")["items"]
    assert next(item for item in shown if item["id"] == chat)["seq"] == message["seq"]
    assert [item["name"] for item in asha.json("ls")["items"]].count(path.name) == 1
    (fetched,) = ben.json("get", message["id"])["paths"]
    assert Path(fetched) == ben.home / "Downloads" / path.name
    assert filecmp.cmp(fetched, path, shallow=False)


def test_signing_out_gives_up_what_was_half_uploaded(server: ServerProcess, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, server.url)
    terminal.login("asha")
    uploads = server.data_root / "uploads"
    before = {*uploads.iterdir()}
    line = ["upload", str(big(terminal)), "--limit-rate", "8M"]
    stop_when(terminal.start(*line), uploads, signal.SIGKILL, size=4 * MIB)
    assert {*uploads.iterdir()} > before
    terminal.ok("logout")
    assert {*uploads.iterdir()} == before


def test_a_session_that_has_ended_names_the_server_to_sign_in_at(server: ServerProcess, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, server.url)
    terminal.login("asha")
    (accounts,) = tmp_path.rglob("accounts.json")
    (account,) = json.loads(accounts.read_text())["accounts"]
    request = urllib.request.Request(
        f"{server.url}/api/v1/auth/logout", b"", {"Authorization": f"Bearer {account['access_token']}"})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 204
    ended = Terminal(tmp_path, "").run("whoami")
    assert ended.returncode == 1
    assert f"Sign in again: hypersend --server {server.url} login EMAIL" in ended.stderr


def test_a_download_that_was_stopped_goes_on(asha: Terminal) -> None:
    path = big(asha)
    file = asha.json("upload", str(path))
    to = asha.home / "here" / "out.iso"
    line = ["get", file["id"], "-o", str(to)]
    stop_when(asha.start(*line, "--limit-rate", "8M"), to.parent, signal.SIGINT, size=4 * MIB)
    assert asha.ok(*line).strip() == str(to)
    assert filecmp.cmp(to, path, shallow=False)
    assert [found.name for found in to.parent.iterdir()] == ["out.iso"]
    again = asha.json("get", file["id"], "-o", str(to.parent))
    assert again["path"] == str(to.parent / path.name)


def test_one_object_stands_on_standard_output_and_progress_on_standard_error(asha: Terminal) -> None:
    path = big(asha, 8)
    done = asha.run("upload", str(path), "--json")
    assert json.loads(done.stdout)["state"] == "complete"
    assert done.stderr == f"{path.name}: done, 8.0 MiB\n"


def test_a_terminal_gets_bars(asha: Terminal) -> None:
    path = big(asha, 8)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hypersend_client.cli", "upload", str(path), "--limit-rate", "8M"],
        cwd=REPOSITORY,
        env=asha.env(TERM="xterm", COLUMNS="100"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(ours)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "━" in shown.decode()
    assert " %" in shown.decode()
    assert "MiB/s" in shown.decode()
    assert path.name in out.decode()


def test_files_are_listed_and_removed(asha: Terminal, ben: Terminal) -> None:
    path = big(asha, 1)
    file = asha.json("upload", str(path))
    assert path.name in asha.ok("ls")
    assert ben.run("rm", file["id"]).returncode == 1
    asha.ok("rm", file["id"])
    assert path.name not in asha.ok("ls")
    gone = asha.run("get", file["id"])
    assert gone.returncode == 1
    assert "There is no file and no message" in gone.stderr


def test_what_cannot_be_read_or_written_is_said(asha: Terminal, small_disk: Path) -> None:
    missing = asha.run("send", "@ben", "--file", "/no/such/file")
    assert missing.returncode == 1
    assert missing.stderr == "/no/such/file cannot be read: No such file or directory.\n"
    unknown = asha.run("send", "@ben", "--file", "/proc/version")
    assert unknown.returncode == 1
    assert unknown.stderr == "/proc/version cannot be read: it does not say how long it is.\n"
    file = asha.json("upload", str(big(asha, 32)))
    full = asha.run("get", file["id"], "-o", str(small_disk))
    assert full.returncode == 1
    assert "No space is left" in full.stderr
    assert "32.0 MiB are needed" in full.stderr


def test_watching_shows_messages_as_they_come(asha: Terminal, ben: Terminal) -> None:
    chat = asha.json("send", "@ben", "before")["chat_id"]
    plain, watching = ben.start("watch", chat), ben.start("watch", "--json")
    try:
        assert plain.stderr is not None
        assert plain.stdout is not None
        assert watching.stdout is not None
        assert "Watching" in plain.stderr.readline()
        message = asha.json("send", chat, "line one\nline two")
        assert json.loads(watching.stdout.readline())["id"] == message["id"]
        assert plain.stdout.readline().endswith("Asha: line one\n")
        assert plain.stdout.readline().strip() == "line two"
    finally:
        for process in (plain, watching):
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
            assert process.returncode == 130


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_one_that_the_shell_takes(tmp_path: Path, shell: str) -> None:
    script = Terminal(tmp_path, "").ok("completion", shell)
    assert all(name in script for name in ("login", "send", "watch", "limit-rate", "json"))
    path = shutil.which(shell)
    if path is not None:
        (tmp_path / "script").write_text(script)
        subprocess.run([path, "-n", str(tmp_path / "script")], check=True)


def test_bash_completes_commands_options_and_paths(tmp_path: Path) -> None:
    (tmp_path / "big.iso").touch()
    (tmp_path / "script").write_text(Terminal(tmp_path, "").ok("completion", "bash"))

    def complete(*words: str) -> list[str]:
        asked = " ".join(f"'{word}'" for word in ("hypersend", *words))
        done = subprocess.run(
            [
                "bash",
                "-c",
                f"source ./script; COMP_WORDS=({asked}); COMP_CWORD={len(words)}; _hypersend; "
                'printf "%s\\n" "${COMPREPLY[@]}"',
            ],
            cwd=tmp_path,
            text=True,
            capture_output=True,
            check=True,
        )
        return done.stdout.split()

    assert complete("up") == ["upload"]
    assert complete("send", "x", "--fi") == ["--file"]
    assert complete("--server", "x", "send", "y", "--file", "b") == ["big.iso"]
    assert complete("completion", "z") == ["zsh"]
