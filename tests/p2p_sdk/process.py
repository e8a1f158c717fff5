"""Ends of a transfer in processes of their own, perhaps in network namespaces of their own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.process import REPOSITORY

LIMIT_S = 600.0


class End:
    """ways: `relay`, `direct`, as the bytes went. done_bytes: as it said last."""

    def __init__(self, *arguments: str | Path, namespace: str | None = None) -> None:
        prefix = ["ip", "netns", "exec", namespace] if namespace else []
        self._command = [*prefix, sys.executable, "-m", "tests.p2p_sdk.worker", *map(str, arguments)]
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.ways: set[str] = set()
        self.states: list[str] = []
        self.rounds = 0
        self.done_bytes = 0
        self.said: list[str] = []

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            text = line.decode().strip()
            self.said.append(text)
            match text.split(" ", 4):
                case [state, ("relay" | "direct") as way, rounds, done, *_]:
                    self.states.append(state)
                    self.ways.add(way)
                    self.rounds, self.done_bytes = int(rounds), int(done)
            self._news.set()

    async def until_bytes(self, wanted: int) -> None:
        """Until so many are done."""
        async with asyncio.timeout(LIMIT_S):
            while self.done_bytes < wanted:
                assert self._process is not None
                assert self._process.returncode in (None, 0), self.said[-20:]
                self._news.clear()
                await self._news.wait()

    async def until_round(self, wanted: int) -> None:
        """Until both ends have come together so often."""
        async with asyncio.timeout(LIMIT_S):
            while self.rounds < wanted:
                self._news.clear()
                await self._news.wait()

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self.close()

    async def wait(self) -> None:
        """Until it has ended well."""
        assert self._process is not None
        async with asyncio.timeout(LIMIT_S):
            status = await self._process.wait()
        await self.close()
        assert status == 0, self.said[-20:]

    async def close(self) -> None:
        if self._reading is not None:
            await self._reading
