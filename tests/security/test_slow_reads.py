"""Downloads that are asked for and never read, at the real server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp

from tests.harness import PASSWORD, Client
from tests.process import REPOSITORY, ServerProcess, environment

MIB = 1024 * 1024
FILE_BYTES = 48 * MIB
READERS = 100
UNREAD_S = 5
GROWTH_BYTES = 48 * MIB  # one file's, of the hundred that were asked for
PROGRAM = """\
import sys
from hypersend_server.__main__ import main
from hypersend_server.commands import serve
serve.UNREAD_MS = int(sys.argv[1])
sys.exit(main(["serve"]))
"""


class Impatient(ServerProcess):
    """A server whose patience with who reads nothing is UNREAD_S in place of two minutes."""

    def start(self) -> Impatient:
        with (self.data_root.parent / "data.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(UNREAD_S * 1000)], cwd=REPOSITORY, text=True,
                env=environment(self.data_root, RATE_LIMITS="off", **self.settings), stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"is at (http://\S+)", line):
                self.url = found[1]
                break
        self._wait_until_ready()
        return self

    @property
    def memory_bytes(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def open_downloads(self) -> int:
        """How many descriptors of stored files it holds."""
        found = 0
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found += f"{self.data_root}/files/" in str(descriptor.readlink())
        return found


def unread(url: str, path: str, token: str) -> socket.socket:
    """A download that was asked for, whose answer nobody takes."""
    asking = socket.socket()
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    asking.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
    asking.sendall(f"GET /api/v1{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    return asking


def taken(asked: socket.socket) -> int:
    """The bytes that still come, up to the end or the reset."""
    total = 0
    asked.settimeout(30)
    with contextlib.suppress(ConnectionError):
        while part := asked.recv(MIB):
            total += len(part)
    return total


async def test_downloads_that_nobody_reads_hold_no_memory_and_end(tmp_path: Path) -> None:
    data = os.urandom(MIB) * (FILE_BYTES // MIB)
    with Impatient(tmp_path / "data") as server:
        async with aiohttp.ClientSession() as http:
            asha = Client(http, server.url)
            session = (await asha.post("/auth/register", {
                "email": "asha@example.org", "username": "asha", "password": PASSWORD})).json
            asha.headers["Authorization"] = f"Bearer {session['access_token']}"
            file = (await asha.post("/files/init", {"name": "film.mp4", "size": len(data)})).json
            for index, start in enumerate(range(0, len(data), file["chunk_size"])):
                part = data[start : start + file["chunk_size"]]
                assert (await asha.put(f"/files/{file['id']}/chunk?index={index}", data=part)).status == 200
            assert (await asha.post(f"/files/{file['id']}/complete")).status == 201
            path = f"/files/{file['id']}/download"
            digest = hashlib.sha256(data).digest()
            assert hashlib.sha256((await asha.get(path)).body).digest() == digest
            before = server.memory_bytes

            readers = [unread(server.url, path, session["access_token"]) for _ in range(READERS)]
            try:
                async with asyncio.timeout(30):
                    while server.open_downloads() < READERS:  # all at once
                        await asyncio.sleep(0.05)
                most = 0
                async with asyncio.timeout(UNREAD_S + 60):
                    while server.open_downloads():
                        answer = await asha.get(path)  # others go on meanwhile
                        assert hashlib.sha256(answer.body).digest() == digest
                        most = max(most, server.memory_bytes)
                assert most - before < GROWTH_BYTES
                for reader in readers:
                    assert await asyncio.to_thread(taken, reader) < FILE_BYTES / 2
            finally:
                for reader in readers:
                    reader.close()
        await asyncio.to_thread(server.stop)
    # Whoever does this does not fill the log, nor the count of the server's own failures.
    assert "Traceback" not in server.log()
    assert not re.search(r"/download 5\d\d ", server.log())
