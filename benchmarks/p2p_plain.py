"""The relay alone: frames of 64 KiB from one plain WebSocket client to another, not sealed, through HyperSend's relay
and through a bare aiohttp handler that does nothing but pass them on.

python -m benchmarks.p2p_plain bare                              serve the bare pump; prints its port
python -m benchmarks.p2p_plain send|receive URL TOKEN MIB        one end; the receiver prints its seconds
python -m benchmarks.p2p_plain cost MIB                          the processor's time that the server takes for a GiB
python -m benchmarks.p2p_plain raw send|receive URL TOKEN MIB masked|clear

The last are ends that cost next to nothing themselves: one frame, masked once, over and over. A mask of zeros, as the
SDK has it on what is sealed anyway, saves the server the unmasking.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import WSMsgType, web

FRAME = 65_536
SEALED = FRAME + 25


async def bare() -> None:
    ends: dict[str, web.WebSocketResponse] = {}
    both = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(compress=False, max_msg_size=FRAME + 100)
        await ws.prepare(request)
        role = request.match_info["role"]
        ends[role] = ws
        if len(ends) == 2:
            both.set()
        await both.wait()
        other = ends["receiver" if role == "sender" else "sender"]
        if role == "sender":
            await ws.send_str('{"type": "peer", "present": true}')
        async for message in ws:
            if message.type is WSMsgType.BINARY:
                await other.send_bytes(message.data)
        ends.clear()
        both.clear()
        return ws

    app = web.Application()
    app.router.add_get("/{role:sender|receiver}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def send(url: str, token: str, mib: int) -> None:
    async with _socket(url, token) as http, http.ws_connect(url, compress=0, max_msg_size=0) as ws:
        while True:
            frame = json.loads((await ws.receive()).data)
            if frame["type"] == "peer" and frame["present"]:
                break
        data = os.urandom(FRAME)
        for _ in range(mib * 16):
            await ws.send_bytes(data)
        await ws.receive()  # the receiver ends it


async def receive(url: str, token: str, mib: int) -> None:
    left, began = mib * 16, 0.0
    async with _socket(url, token) as http, http.ws_connect(url, compress=0, max_msg_size=0) as ws:
        async for message in ws:
            if message.type is WSMsgType.BINARY:
                began = began or time.monotonic()
                left -= 1
                if not left:
                    break
        if left:
            raise SystemExit(f"the relay ended with {left} of {mib * 16} frames to come")
        print(time.monotonic() - began, flush=True)


def _socket(url: str, token: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"} if token else None)


def pump(sender: tuple[str, str], receiver: tuple[str, str], mib: int, *, nice: int = 0) -> float:
    """Seconds. sender, receiver: (URL, token). nice: of the two ends."""
    base = ["nice", "-n", str(nice), sys.executable, "-m", "benchmarks.p2p_plain"]
    with (
        subprocess.Popen([*base, "receive", *receiver, str(mib)], stdout=subprocess.PIPE, text=True) as receiving,
        subprocess.Popen([*base, "send", *sender, str(mib)]) as sending,
    ):
        out, _ = receiving.communicate(timeout=300)
        sending.kill()
    return float(out)


def raw(role: str, url: str, token: str, mib: int, mask: str) -> None:
    place = urlsplit(url)
    assert place.hostname is not None
    with socket.create_connection((place.hostname, place.port or 80)) as line, line.makefile("rb") as lines:
        line.sendall("\r\n".join([
            f"GET {place.path} HTTP/1.1", "Host: relay", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            f"Authorization: Bearer {token}", "", ""]).encode())
        while lines.readline() != b"\r\n":
            pass
        while b'"present":true' not in (text := _text(lines)):
            assert text
        if role == "send":
            head = b"\x82\xff" + SEALED.to_bytes(8, "big") + (bytes(4) if mask == "clear" else b"\x12\x9a\x45\xd1")
            frame = head + os.urandom(SEALED)
            for _ in range(mib * 16):
                line.sendall(frame)
            lines.read(1)  # the receiver ends it
            return
        left, room = mib * 16 * (SEALED + 10), bytearray(1024 * 1024)
        while left > 0:
            count = lines.readinto1(room)
            assert count
            left -= count


def _text(lines: Any) -> bytes:
    """The next frame, which has to be a text of less than 64 KiB."""
    kind, size = lines.read(2)
    assert kind == 0x81
    return bytes(lines.read(int.from_bytes(lines.read(2), "big") if size == 126 else size))


async def cost(mib: int) -> None:
    from benchmarks.measure_p2p import _accepted, _two, cpu_s
    from tests.process import ServerProcess

    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder) / "data", RATE_LIMITS="off") as server:
        async with aiohttp.ClientSession() as http:
            one, other, chat_id = await _two(http, server.url)
            for repeat in range(4):
                for mask in ("masked", "clear"):
                    sender, receiver = await _accepted(one, other, chat_id, mib)
                    before = cpu_s(server.pid)
                    base = [sys.executable, "-m", "benchmarks.p2p_plain", "raw"]
                    sending = await asyncio.create_subprocess_exec(*base, "send", *sender, str(mib), mask)
                    receiving = await asyncio.create_subprocess_exec(*base, "receive", *receiver, str(mib), mask)
                    assert await receiving.wait() == 0
                    took = cpu_s(server.pid) - before
                    with contextlib.suppress(ProcessLookupError):
                        sending.kill()
                    await sending.wait()
                    if repeat:  # the first ones touch memory that is new
                        print(f"{mask}: {took / mib * 1024:.2f} CPU s/GiB", flush=True)


def main(arguments: list[str]) -> Any:
    match arguments:
        case ["bare"]:
            return bare()
        case ["send", url, token, mib]:
            return send(url, token, int(mib))
        case ["receive", url, token, mib]:
            return receive(url, token, int(mib))
        case ["cost", mib]:
            return cost(int(mib))
        case ["raw", role, url, token, mib, mask]:
            return asyncio.to_thread(raw, role, url, token, int(mib), mask)
    raise SystemExit(__doc__)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
