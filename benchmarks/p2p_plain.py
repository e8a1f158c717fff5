"""The relay alone: frames of 64 KiB from one plain WebSocket client to another, not sealed, through HyperSend's relay
and through a bare aiohttp handler that does nothing but pass them on.

python -m benchmarks.p2p_plain bare                              serve the bare pump; prints its port
python -m benchmarks.p2p_plain send|receive URL TOKEN MIB        one end; the receiver prints its seconds
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

FRAME = 65_536


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


def main(arguments: list[str]) -> Any:
    match arguments:
        case ["bare"]:
            return bare()
        case ["send", url, token, mib]:
            return send(url, token, int(mib))
        case ["receive", url, token, mib]:
            return receive(url, token, int(mib))
    raise SystemExit(__doc__)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
