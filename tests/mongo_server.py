"""The stand-in for MongoDB: `secantusdb`, which speaks its wire protocol over WiredTiger, in a process of its own.

It announces itself as a replica set of one member. It keeps a table of retryable writes that slows down with its
length, hence `retryWrites=false`. Killed, it may forget what it acknowledged, unless it is started with
`--sync-on-commit`, which is slow: only then its journal reaches the system before the answer. On an index of several
fields it takes `$lte` on one before the last for `$lt`, so the backend asks with `$lt` and one more. It is for
correctness, not speed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.parts import require

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hypersend-tests" / "mongo" / "bin"
START_S = 60.0
_numbers = itertools.count()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def binary() -> str:
    """The path of the stand-in's program, or the test is skipped."""
    path = shutil.which("secantusd-py", path=os.pathsep.join([str(CACHE), os.environ.get("PATH", "")]))
    require("secantusd-py", path is not None)
    assert path is not None
    return path


class MongoServer:
    """`start` again after `kill` or `stop` serves the same data at the same port. options: of the program."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> MongoServer:
        program = binary()
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder.parent / f"{self._folder.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "--host", "127.0.0.1", "--port", str(self.port), "--storage-path", str(self._folder),
                 *self._options], stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"the stand-in for MongoDB did not start: see {self._folder}.log")

    def uri(self, database: str) -> str:
        return f"mongodb://127.0.0.1:{self.port}/{database}?retryWrites=false"

    def fresh_uri(self) -> str:
        """Of a database that nobody has used."""
        return self.uri(f"test{os.getpid()}x{next(_numbers)}")

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """As the OOM killer would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
