"""The real `hypersend-server` as a process of its own, to be killed and started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
START_S = 60
STOP_S = 60


def environment(data_root: Path, **settings: str) -> dict[str, str]:
    """The environment of a server that inherits no setting from whoever runs the tests."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**inherited, "DATA_ROOT": str(data_root), "PORT": "0", "REGISTRATION": "open", **settings}


def command(data_root: Path, *arguments: str, stdin: str | None = None, timeout_s: float = 60, **settings: str
            ) -> subprocess.CompletedProcess[str]:
    """Run an operator's command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "hypersend_server", *arguments], cwd=REPOSITORY, input=stdin,
        env=environment(data_root, **settings), capture_output=True, text=True, timeout=timeout_s, check=False)


class ServerProcess:
    """A server process; `start` again after `kill` serves the same data at the same port."""

    def __init__(self, data_root: Path, **settings: str) -> None:
        self.data_root = data_root
        self.settings = settings
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.said: list[str] = []

    def start(self) -> ServerProcess:
        """Raises: RuntimeError with what it printed where it ends instead of serving."""
        if self.url:
            self.settings["PORT"] = self.url.rsplit(":", 1)[1]
        log = (self.data_root.parent / f"{self.data_root.name}.log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hypersend_server", "serve"], cwd=REPOSITORY, text=True,
            env=environment(self.data_root, **self.settings), stdout=subprocess.PIPE, stderr=log)
        log.close()
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if match := re.search(r"is at (http://\S+)", line):
                self.url = match[1]
                break
        else:
            raise RuntimeError(f"the server ended with {self.process.wait()}: {self.log()}")
        self._wait_until_ready()
        return self

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(self.url + "/readyz", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:  # refused, cut, or slow: a machine may be busy
                if time.monotonic() > until:
                    raise
            time.sleep(0.02)

    def log(self) -> str:
        return (self.data_root.parent / f"{self.data_root.name}.log").read_text()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self.signal(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        return self.signal(signal.SIGTERM)

    def signal(self, number: int) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        status = process.wait(STOP_S)
        if process.stdout is not None:
            process.stdout.close()
        return status

    def __enter__(self) -> ServerProcess:
        return self.start()

    def __exit__(self, *details: Any) -> None:
        self.kill()
