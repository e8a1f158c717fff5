"""What Flutter is to the packaged app: it connects, says what the phone is like, answers, and is told what to draw."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgpack

REGISTER, PATCH, EVENT, UPDATE, INVOKE, CRASHED = 1, 2, 3, 4, 5, 6


class Phone:
    """One connection. Source of the frames: flet.messaging.flet_socket_server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.drawn: list[str] = []
        self.asked: list[str] = []

    @classmethod
    async def connect(cls, socket: Path, process: asyncio.subprocess.Process) -> Phone:
        """Once the app listens; fails when it ended instead."""
        while True:
            try:
                return cls(*await asyncio.open_unix_connection(str(socket), limit=2**24))
            except (FileNotFoundError, ConnectionRefusedError):
                assert process.returncode is None, "the app ended before it listened"
                await asyncio.sleep(0.05)

    async def register(self, platform: str = "android") -> None:
        page = {
            "web": False, "platform": platform, "width": 400, "height": 850, "route": "/", "pwa": False, "wasm": False,
            "platform_brightness": "light", "debug": False, "test": False}
        await self._send(REGISTER, {"session_id": "", "page_name": "", "page": page})

    async def _send(self, action: int, body: dict[str, Any]) -> None:
        packet = b"\x00" + msgpack.packb([action, body])
        self._writer.write(len(packet).to_bytes(4, "little") + packet)
        await self._writer.drain()

    async def see(self, wanted: str) -> None:
        """Until a text that has `wanted` in it was drawn. Raises: AssertionError where the app broke."""
        while not any(wanted in text for text in self.drawn):
            length = int.from_bytes(await self._reader.readexactly(4), "little")
            packet = await self._reader.readexactly(length)
            if packet[0] != 0:
                continue
            action, body = msgpack.unpackb(packet[1:], strict_map_key=False)
            assert action != CRASHED, body
            self.drawn += _texts(body)
            if action == INVOKE:
                self.asked.append(body["name"])
                await self._send(INVOKE, {
                    "control_id": body["control_id"], "call_id": body["call_id"], "result": None, "error": None})

    def close(self) -> None:
        self._writer.close()


def _texts(what: Any) -> list[str]:
    if isinstance(what, str):
        return [what]
    if isinstance(what, dict):
        what = what.values()
    elif not isinstance(what, list):
        return []
    return [text for part in what for text in _texts(part)]
