from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PASSWORD
from tests.process import REPOSITORY, ServerProcess


class Typed:
    """A command on a terminal. said: what stands there."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self.said = ""
        self._terminal = terminal
        self._bytes = b""

    def until(self, words: str) -> None:
        """Read on until these words stand there."""
        while words not in self.said:
            assert self._read(), f"{words}: not in {self.said}"

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def end(self) -> tuple[int, str]:
        """Read on until it ends: its status, and its results."""
        while self._read():
            pass
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out.decode()

    def _read(self) -> bool:
        try:
            data = os.read(self._terminal, 65536) if select.select([self._terminal], [], [], 60)[0] else b""
        except OSError:
            return False  # Linux: the other side is closed
        self._bytes += data
        self.said = self._bytes.decode(errors="replace")
        return bool(data)


@dataclass
class Terminal:
    """A device on which somebody types `hypersend …`."""

    home: Path
    url: str

    def env(self, **more: str) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**inherited, "HOME": str(self.home), "API_BASE_URL": self.url, "PYTHONUTF8": "1", **more}

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "hypersend_client.cli", *arguments],
            cwd=REPOSITORY,
            env=self.env(**env),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @contextmanager
    def at_a_terminal(self, *arguments: str) -> Iterator[Typed]:
        """The command with somebody before it: what it asks and says is on a terminal, its results are not."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "hypersend_client.cli", *arguments],
            cwd=REPOSITORY,
            env=self.env(TERM="xterm", COLUMNS="100"),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            yield Typed(process, ours)
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()
            os.close(ours)

    def run(self, *arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hypersend_client.cli", *arguments],
            cwd=REPOSITORY,
            env=self.env(**env),
            text=True,
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def ok(self, *arguments: str, stdin: str = "") -> str:
        """What it printed; it must have worked."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, (done.args, done.stderr)
        return done.stdout

    def json(self, *arguments: str) -> Any:
        out = self.ok(*arguments, "--json")
        assert out.count("\n") == 1
        return json.loads(out)

    def login(self, name: str) -> None:
        self.ok("login", f"{name}@example.org", stdin=PASSWORD + "\n")


def stop_when(process: subprocess.Popen[str], path: Path, number: int, *, size: int = 1) -> str:
    """Send a signal once `path` (a file, or what a folder holds) has so many bytes; standard error."""
    until = time.monotonic() + 30
    while _size(path) < size:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGKILL), said
    return said


def _size(path: Path) -> int:
    # Blocks, as an upload is a sparse file of its full size.
    return sum(found.stat().st_blocks * 512 for found in path.rglob("*") if found.is_file()) if path.exists() else 0


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("cli") / "data", RATE_LIMITS="off") as server:
        for name in ("asha", "ben"):
            body = {
                "email": f"{name}@example.org",
                "username": name,
                "password": PASSWORD,
                "display_name": name.title(),
            }
            with urllib.request.urlopen(
                urllib.request.Request(
                    server.url + "/api/v1/auth/register",
                    json.dumps(body).encode(),
                    {"Content-Type": "application/json"},
                )
            ) as answer:
                assert answer.status == 201
        yield server


@pytest.fixture(scope="session")
def homes(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name → a home in which that person is signed in; signing in is slow on purpose."""
    found = {}
    for name in ("asha", "ben"):
        terminal = Terminal(tmp_path_factory.mktemp(name), server.url)
        terminal.login(name)
        found[name] = terminal.home
    return found


@pytest.fixture
def asha(server: ServerProcess, homes: dict[str, Path], tmp_path: Path) -> Terminal:
    return Terminal(shutil.copytree(homes["asha"], tmp_path / "asha"), server.url)


@pytest.fixture
def ben(server: ServerProcess, homes: dict[str, Path], tmp_path: Path) -> Terminal:
    return Terminal(shutil.copytree(homes["ben"], tmp_path / "ben"), server.url)
