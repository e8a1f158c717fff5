"""The servers, people and lines of a run, and what happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from hypersend_client.sdk import FileTokenStore, HyperSend
from tests.harness import PASSWORD
from tests.process import REPOSITORY, ServerProcess, command
from tests.sdk_transfers.line import Line, line_to

SETTLE_S = 240
Fault = Callable[[], Awaitable[None]]
log = logging.getLogger("chaos")


class Writer:
    """A person's client process."""

    def __init__(self, home: Path, line: Line, seed: str) -> None:
        self.home = home
        self.line = line
        self._seed = seed
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        if self.process is None or self.process.returncode is not None:
            self.process = await self._run("write", stdout=asyncio.subprocess.DEVNULL)

    async def _run(self, what: str, **options: Any) -> asyncio.subprocess.Process:
        errors = (self.home / "errors.log").open("a")
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.chaos.client", str(self.home), self.line.url, self._seed, what,
                cwd=REPOSITORY, stderr=errors, **options)
        finally:
            errors.close()

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def settle(self) -> dict[str, Any]:
        """What this person's client shows when it has sent and received all."""
        process = await self._run("settle", stdout=asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(SETTLE_S):
                out, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"{self.home.name}'s client did not settle; see {self.home}/errors.log") from None
        assert process.returncode == 0, (self.home / "errors.log").read_text()[-4000:]
        return dict(json.loads(out))

    def said(self) -> list[dict[str, str]]:
        path = self.home / "said.jsonl"
        found = []
        for text in path.read_text().splitlines() if path.exists() else []:
            with contextlib.suppress(json.JSONDecodeError):  # the line it was killed in
                found.append(json.loads(text))
        return found


class World:
    """folder: for everything. disk: a small file system that the server's data is on, or None."""

    def __init__(self, folder: Path, seed: int, disk: Path | None = None) -> None:
        self.folder = folder
        self.seed = seed
        self.moments = random.Random(seed)
        self.disk = disk
        self.servers = [ServerProcess((disk or folder) / "data", RATE_LIMITS="off")]
        self.url = ""
        self.writers: list[Writer] = []
        self.done: dict[str, int] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> World:
        try:
            await asyncio.to_thread(self._start)
            await self._make_people()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def _start(self) -> None:
        """Begin to serve at `url`."""
        self.url = self.servers[0].start().url

    def _end(self) -> None:
        self.servers[0].kill()

    async def _make_people(self) -> None:
        people: list[HyperSend] = []
        for name in ("asha", "ben", "cleo"):
            line = await self._stack.enter_async_context(line_to(self.url))
            home = self.folder / name
            home.mkdir()
            hs = HyperSend(line.url, tokens=FileTokenStore(home / "accounts.json"))
            await hs.__aenter__()
            self._stack.push_async_callback(hs.close)
            await hs.register(f"{name}@example.org", name, PASSWORD)
            people.append(hs)
            self.writers.append(Writer(home, line, f"{self.seed} {name}"))
        ids = [hs.account.user_id for hs in people if hs.account is not None]
        await people[0].chats.create_group("Chaos", ids[1:])
        await people[0].chats.open_direct(ids[1])
        await people[1].chats.open_direct(ids[2])
        for hs in people:
            await hs.close()

    async def __aexit__(self, *details: object) -> None:
        for writer in self.writers:
            await writer.kill()
        await self._stack.aclose()
        await asyncio.to_thread(self._end)

    # What goes wrong

    async def suffer(self, seconds: float) -> None:
        """Let people write while one thing after another happens."""
        faults = self.faults()
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            for writer in self.writers:
                await writer.start()
            await asyncio.sleep(self.moments.uniform(0.5, 3))
            fault = self.moments.choice(faults)
            log.info("%s", fault.__name__)
            self.done[fault.__name__] = self.done.get(fault.__name__, 0) + 1
            await fault()
        for writer in self.writers:
            await writer.kill()
            writer.line.bytes_per_s = writer.line.silent_after = None
            writer.line.refusals = 0
            writer.line.is_open = True

    def faults(self) -> list[Fault]:
        return [self.kill_server, self.stop_server, self.freeze_server, self.kill_client, self.cut, self.slow,
                self.silence, self.refuse, *([self.fill_disk] if self.disk else [])]

    def _someone(self) -> Writer:
        return self.moments.choice(self.writers)

    async def kill_server(self) -> None:
        server = self.moments.choice(self.servers)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(self.moments.uniform(0, 2))
        await asyncio.to_thread(server.start)

    async def stop_server(self) -> None:
        server = self.moments.choice(self.servers)
        assert await asyncio.to_thread(server.stop) == 0
        await asyncio.to_thread(server.start)

    async def freeze_server(self) -> None:
        server = self.moments.choice(self.servers)
        os.kill(server.pid, signal.SIGSTOP)
        await asyncio.sleep(self.moments.uniform(0.5, 4))
        os.kill(server.pid, signal.SIGCONT)

    async def kill_client(self) -> None:
        await self._someone().kill()

    async def cut(self) -> None:
        for _ in range(self.moments.randint(1, 4)):
            self._someone().line.cut()
            await asyncio.sleep(self.moments.uniform(0, 0.5))

    async def slow(self) -> None:
        line = self._someone().line
        line.bytes_per_s = self.moments.choice((20_000, 300_000, 3_000_000))
        await asyncio.sleep(self.moments.uniform(1, 4))
        line.bytes_per_s = None

    async def silence(self) -> None:
        line = self._someone().line
        line.silent_after = self.moments.choice((0, 1000, 2_000_000))
        await asyncio.sleep(self.moments.uniform(0.5, 3))
        line.silent_after = None
        line.cut()

    async def refuse(self) -> None:
        line = self._someone().line
        line.refusals = self.moments.randint(1, 8)
        line.is_open = self.moments.random() < 0.5
        line.cut()
        await asyncio.sleep(self.moments.uniform(0.2, 3))
        line.is_open, line.refusals = True, 0

    async def fill_disk(self) -> None:
        assert self.disk is not None
        ballast = self.disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))
        await asyncio.sleep(self.moments.uniform(1, 4))
        ballast.unlink()

    # What has to hold

    async def check(self) -> dict[str, int]:
        """Raises: AssertionError naming what was lost, doubled or left over. Returns: what was counted."""
        for writer in self.writers:  # once each, so that all is sent before anybody is asked what they show
            await writer.settle()
        shown = {writer.home.name: await writer.settle() for writer in self.writers}
        counted = {"messages": 0, "files": 0, **self.done}
        said = {writer.home.name: writer.said() for writer in self.writers}
        for name, views in shown.items():
            for chat_id, view in views.items():
                seqs = [message[0] for message in view["messages"]]
                assert seqs == list(range(1, view["seq"] + 1)), f"{name} misses messages of {chat_id}"
                for other, others in shown.items():
                    if chat_id in others:
                        assert others[chat_id] == view, f"{name} and {other} see {chat_id} differently"
        for name, entries in said.items():
            for entry in entries:
                view = shown[name][entry["chat_id"]]["messages"]
                found = [message for message in view if message[2] == entry["client_id"]]
                assert len(found) == 1, f"{name} said {entry} and it is there {len(found)} times"
                counted["messages"] += 1
                if entry["sha256"]:
                    assert len(found[0][5]) == 1
                    await self._check_file(name, found[0][5][0], entry["sha256"])
                    counted["files"] += 1
        await self._check_left_over()
        return counted

    async def _check_file(self, name: str, file_id: str, sha256: str) -> None:
        async with self._as(name) as (http, headers):
            url = f"{self.url}/api/v1/files/{file_id}/download"
            async with http.get(url, headers=headers) as answer:
                assert answer.status == 200, (file_id, answer.status)
                digest = hashlib.sha256()
                async for part in answer.content.iter_chunked(1 << 20):
                    digest.update(part)
        assert digest.hexdigest() == sha256, f"the file {file_id} has other bytes than were sent"

    async def _check_left_over(self) -> None:
        """Uploads that nobody goes on with may be there (a client was killed between init and its journal); they
        expire. Nothing else: no reservation without an upload, no bytes without a record, no digest that is wrong."""
        reserved = uploads = 0
        for writer in self.writers:
            async with self._as(writer.home.name) as (http, headers):
                async with http.get(f"{self.url}/api/v1/users/me/storage", headers=headers) as answer:
                    reserved += (await answer.json())["reserved_bytes"]
                url = f"{self.url}/api/v1/files?state=uploading&limit=200"
                async with http.get(url, headers=headers) as answer:
                    uploads += sum(file["size"] for file in (await answer.json())["items"])
        assert reserved == uploads
        server = self.servers[0]
        verified = await asyncio.to_thread(
            command, server.data_root, "verify", "--json", timeout_s=300, **server.settings)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        for server in self.servers:
            async with aiohttp.ClientSession() as http, http.get(f"{server.url}/metrics") as answer:
                numbers = await answer.text()
            sockets = next(line for line in numbers.splitlines() if line.startswith("hypersend_sockets "))
            assert float(sockets.split()[1]) == 0, sockets

    @contextlib.asynccontextmanager
    async def _as(self, name: str) -> Any:
        async with HyperSend(self.url, tokens=FileTokenStore(self.folder / name / "accounts.json")) as hs:
            await hs.me.get()
            assert hs.account is not None
            headers = {"Authorization": f"Bearer {hs.account.access_token}"}
            async with aiohttp.ClientSession() as http:
                yield http, headers
