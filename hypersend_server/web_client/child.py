"""The process that runs the screens: started by the server, watched, started again when it ends.

It is a Python of its own, since rebuilding a screen would hold up the API for as long, and a crash there must not
take the API along. It gets an environment without a single secret, and dies with the server.

The server listens and the child only accepts: what connects while no child runs waits for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

FIRST_DELAY_S, MAX_DELAY_S = 0.5, 30.0
STEADY_S = 60.0  # a child that ran this long is started again without delay growing
STOP_S = 3.0
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
log = logging.getLogger(__name__)


class Child:
    """package_parent: the folder that holds `hypersend_client`."""

    def __init__(self, package_parent: Path) -> None:
        self._package_parent = package_parent
        self._folder: Path | None = None
        self._listener: socket.socket | None = None
        self._watching: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    @property
    def socket_path(self) -> str:
        assert self._folder is not None, "the child is started first"
        return str(self._folder / "socket")

    def start(self, api_url: str) -> None:
        """api_url: where the child reaches the API. Starting it again does nothing."""
        if self._watching is not None:
            return
        self._folder = Path(tempfile.mkdtemp(prefix="hypersend-web-"))  # 0700: nobody else connects
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket_path)
        self._listener.listen(128)
        self._watching = asyncio.create_task(self._watch(api_url))

    async def _watch(self, api_url: str) -> None:
        delay_s = FIRST_DELAY_S
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._process = await self._spawn(api_url)
            self.starts += 1
            status = await self._process.wait()
            if loop.time() - began >= STEADY_S:
                delay_s = FIRST_DELAY_S
            log.error("the web client's process ended with %d; starting it again in %.1f s", status, delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, MAX_DELAY_S)

    async def _spawn(self, api_url: str) -> asyncio.subprocess.Process:
        assert self._listener is not None
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= {"HOME": str(self._folder), "API_BASE_URL": api_url, "PYTHONUNBUFFERED": "1"}
        number = self._listener.fileno()
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hypersend_client.web.child", "--fd", str(number), "--parent", str(os.getpid()),
            cwd=self._package_parent, env=environment, pass_fds=[number], stdin=asyncio.subprocess.DEVNULL,
            process_group=0)  # Ctrl-C is for us: a child that is still importing would answer it with a traceback

    async def close(self) -> None:
        watching, self._watching = self._watching, None
        if watching is None:
            return
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        assert self._listener is not None
        assert self._folder is not None
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)
