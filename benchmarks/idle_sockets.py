"""What an idle WebSocket costs one server process: `python -m benchmarks.idle_sockets 1000 10000`.

Starts a real server on SQLite with one person, opens sockets with a plain TCP client (several loopback addresses, so
that ports suffice), and reads the server's own resident memory after each step. Each socket is signed in.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import sys
import tempfile
import urllib.request
from pathlib import Path

from tests.process import ServerProcess

AT_ONCE = 100
SOCKETS_A_SESSION = 16


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS")


def sign_in(url: str, email: str, path: str, extra: dict[str, str]) -> str:
    body = json.dumps({"email": email, "password": "correct horse battery", **extra}).encode()
    request = urllib.request.Request(
        f"{url}/api/v1/auth/{path}", body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["access_token"])


async def open_socket(port: int, number: int, token: str) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, local_addr=(f"127.0.1.{1 + number % 200}", 0), limit=1024)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /api/v1/ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"}")  # ready
    return writer


async def measure(server: ServerProcess, steps: list[int]) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    writers: list[asyncio.StreamWriter] = []
    tokens = [sign_in(server.url, "idle@example.org", "register", {"username": "idle"})]
    before = resident_kib(server.pid)
    base, base_count = before, 0
    print(f"0 sockets: {before / 1024:.1f} MiB")
    for step in steps:
        while len(tokens) * SOCKETS_A_SESSION < step:
            tokens.append(await asyncio.to_thread(sign_in, server.url, "idle@example.org", "login", {}))
        signed_in = resident_kib(server.pid)
        while len(writers) < step:
            first = len(writers)
            writers += await asyncio.gather(*(
                open_socket(port, number, tokens[number // SOCKETS_A_SESSION])
                for number in range(first, min(first + AT_ONCE, step))))
        now = resident_kib(server.pid)
        print(f"{step} sockets: {now / 1024:.1f} MiB; {(now - base) / (step - base_count):.1f} KiB a socket since"
              f" the step before ({(now - signed_in) / (step - base_count):.1f} without sign-ins)", flush=True)
        base, base_count = now, step
    for writer in writers:
        writer.transport.abort()


def main() -> None:
    steps = sorted(int(argument) for argument in sys.argv[1:]) or [1000, 10_000]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder) / "data", RATE_LIMITS="off") as server:
        asyncio.run(measure(server, steps))


if __name__ == "__main__":
    main()
