"""The servers, people and lines of a run, and what happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import random
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from hypersend_client.sdk import FileTokenStore, HyperSend
from tests.chaos.checks import check_passed, differences, find_all
from tests.chaos.client import lines
from tests.chaos.clock import NOTICED_S, WallClock, sweep
from tests.chaos.left_over import check_garbage, is_alone, until
from tests.chaos.writer import Writer, sha256_of
from tests.harness import PASSWORD
from tests.process import ServerProcess, command
from tests.sdk_transfers.line import Line, line_to

ROOM = 256 * 1024 * 1024  # that the disk must have left for what waits in the end
MIB = 1024 * 1024
JUMPS_S = (-86_400, -3600, -60, 60, 1200, 3600, 36_000)
FAILURE = re.compile(r"^Traceback|\b[A-Z]+ /\S* 500 \d", re.MULTILINE)
Fault = Callable[[], Awaitable[None]]
log = logging.getLogger("chaos")


class World:
    """folder: for everything. disk: a small file system that the server's data is on, or None. pause_s: people do
    something after at most so long."""

    def __init__(self, folder: Path, seed: int, disk: Path | None = None, pause_s: float = 0.2) -> None:
        self.folder = folder
        self.seed = seed
        self.moments = random.Random(seed)
        self.disk = disk
        self.pause_s = pause_s
        self.clocks = [WallClock(folder / "clock")]
        self.servers = [ServerProcess((disk or folder) / "data", RATE_LIMITS="off", **self.clocks[0].settings)]
        self.url = ""
        self.writers: list[Writer] = []
        self.lines: list[Line] = []
        self.done: dict[str, int] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> World:
        try:
            await self._begin()
            await self._make_people()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _begin(self) -> None:
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        """Begin to serve at `url`."""
        self.url = self.servers[0].start().url

    def _end(self) -> None:
        self.servers[0].kill()

    async def _make_people(self) -> None:
        people: list[HyperSend] = []
        for name in ("asha", "ben", "cleo"):
            line = await self._line(self.url)
            home = self.folder / name
            home.mkdir()
            hs = HyperSend(line.url, tokens=FileTokenStore(home / "accounts.json"))
            await hs.__aenter__()
            self._stack.push_async_callback(hs.close)
            await hs.register(f"{name}@example.org", name, PASSWORD)
            people.append(hs)
            self.writers.append(Writer(home, line, f"{self.seed} {name}", self.pause_s))
        ids = [hs.account.user_id for hs in people if hs.account is not None]
        await people[0].chats.create_group("Chaos", ids[1:])
        await people[0].chats.open_direct(ids[1])
        await people[1].chats.open_direct(ids[2])
        for hs in people:
            await hs.close()

    async def _line(self, url: str) -> Line:
        """A network to there that fails like the others."""
        line = await self._stack.enter_async_context(line_to(url))
        self.lines.append(line)
        return line

    async def __aexit__(self, *details: object) -> None:
        for writer in self.writers:
            await writer.kill()
        await self._stack.aclose()
        await asyncio.to_thread(self._end)
        sweep()

    # What goes wrong

    async def suffer(self, seconds: float) -> None:
        """Let people write while one thing after another happens: each once, in an order of the seed, and again; for
        so long at least, and until each has happened."""
        deck: list[Fault] = []
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end or len(self.done) < len(self.faults()):
            for writer in self.writers:
                await writer.start()
            await asyncio.sleep(self.moments.uniform(0.5, 3))
            if not deck:
                deck = self.faults()
                self.moments.shuffle(deck)
            fault = deck.pop()
            log.info("%s", fault.__name__)
            self.done[fault.__name__] = self.done.get(fault.__name__, 0) + 1
            await fault()
            if self.disk is not None and self._free() < 3 * ROOM:  # a fast machine sends more in the same time
                for writer in self.writers:
                    (writer.home / "frugal").touch()
        for line in self.lines:
            line.bytes_per_s = line.silent_after = None
            line.refusals = 0
            line.is_open = True
        for clock in self.clocks:
            clock.jump(0)
        await asyncio.sleep(2 * NOTICED_S)
        for writer in self.writers:
            await writer.start()

    def faults(self) -> list[Fault]:
        return [self.kill_server, self.stop_server, self.freeze_server, self.kill_client, self.cut, self.slow,
                self.silence, self.refuse, self.jump_clock, *([self.fill_disk] if self.disk else [])]

    def _someone(self) -> Writer:
        return self.moments.choice(self.writers)

    def _some_line(self) -> Line:
        return self.moments.choice(self.lines)

    def _some_server(self) -> ServerProcess:
        server = self.moments.choice(self.servers)
        require_running(server)
        return server

    async def kill_server(self) -> None:
        server = self._some_server()
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(self.moments.uniform(0, 2))
        await asyncio.to_thread(server.start)

    async def stop_server(self) -> None:
        server = self._some_server()
        assert await asyncio.to_thread(server.stop) == 0
        await asyncio.to_thread(server.start)

    async def freeze_server(self) -> None:
        server = self._some_server()
        os.kill(server.pid, signal.SIGSTOP)
        await asyncio.sleep(self.moments.uniform(0.5, 4))
        os.kill(server.pid, signal.SIGCONT)

    async def jump_clock(self) -> None:
        """Of one server, for a while; half the time it is killed and started again meanwhile."""
        number = self.moments.randrange(len(self.servers))
        server = self.servers[number]
        require_running(server)
        self.clocks[number].jump(self.moments.choice(JUMPS_S))
        await asyncio.sleep(NOTICED_S + self.moments.uniform(0.5, 3))
        if self.moments.random() < 0.5:
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await asyncio.sleep(self.moments.uniform(0, 2))
        self.clocks[number].jump(0)

    async def kill_client(self) -> None:
        await self._someone().kill()

    async def cut(self) -> None:
        for _ in range(self.moments.randint(1, 4)):
            self._some_line().cut()
            await asyncio.sleep(self.moments.uniform(0, 0.5))

    async def slow(self) -> None:
        line = self._some_line()
        line.bytes_per_s = self.moments.choice((20_000, 300_000, 3_000_000))
        await asyncio.sleep(self.moments.uniform(1, 4))
        line.bytes_per_s = None

    async def silence(self) -> None:
        line = self._some_line()
        line.silent_after = self.moments.choice((0, 1000, 2_000_000))
        await asyncio.sleep(self.moments.uniform(0.5, 3))
        line.silent_after = None
        line.cut()

    async def refuse(self) -> None:
        line = self._some_line()
        line.refusals = self.moments.randint(1, 8)
        line.is_open = self.moments.random() < 0.5
        line.cut()
        await asyncio.sleep(self.moments.uniform(0.2, 3))
        line.is_open, line.refusals = True, 0

    def _free(self) -> int:
        """Bytes that the disk has left."""
        assert self.disk is not None
        found = os.statvfs(self.disk)
        return found.f_bavail * found.f_frsize

    async def fill_disk(self) -> None:
        assert self.disk is not None
        ballast = self.disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, self._free() - 4 * MIB))
            file.seek(0, os.SEEK_END)
            while True:
                file.write(bytes(64 * 1024))
        await asyncio.sleep(self.moments.uniform(1, 4))
        ballast.unlink()

    # What has to hold

    async def check(self) -> dict[str, int]:
        """Raises: AssertionError naming what was lost, doubled or left over. Returns: what was counted."""
        if self.disk is not None and self._free() < ROOM:
            raise AssertionError("the disk is full of what was sent: this run needs a larger one")
        running = await self._settle()
        shown = await self._settle()
        for name, view in running.items():
            for chat_id, chat in shown[name].items():
                differs = differences(view.get(chat_id), chat)
                assert not differs, f"{name}'s client that ran all the while shows in {chat_id} what is not: {differs}"
        for server in self.servers:
            require_running(server)
            assert not (found := FAILURE.search(server.log())), f"{server.url} failed: {server.log()[found.start():]}"
        counted = {"messages": 0, "files": 0, "edits": 0, "reactions": 0, "downloads": self._check_downloaded(),
                   "passed on": self._check_passed(), **self.done}
        for writer in self.writers:
            name, said = writer.home.name, writer.said()
            for entry, message in zip(said.entries, find_all(name, said, shown), strict=True):
                counted["messages"] += 1
                if entry["sha256"]:
                    assert len(message[5]) == 1
                    await self._check_file(name, message[5][0], entry["sha256"])
                    counted["files"] += 1
            counted["edits"] += len(said.edited)
            counted["reactions"] += len(said.reacted)
            assert not writer.refused(), writer.refused()
            assert not (odd := lines(writer.home / "odd.jsonl")), f"{name} was refused what was right: {odd}"
            await self._check_read(writer)
        await self._check_left_over({file_id for view in shown.values() for chat in view.values()
                                     for message in chat["messages"] for file_id in message[5]})
        return counted

    async def _settle(self) -> dict[str, Any]:
        for writer in self.writers:
            (writer.home / "settled").unlink(missing_ok=True)
            (writer.home / "calm").touch()
        async with asyncio.TaskGroup() as group:
            tasks = {writer.home.name: group.create_task(writer.settle()) for writer in self.writers}
        return {name: task.result() for name, task in tasks.items()}

    def _check_passed(self) -> int:
        """What went from device to device: where it was to go, under its name, each once; once more for each kill of
        its sender before that had noted that it had arrived. Returns: how many files."""
        there = Counter(found for writer in self.writers for found in writer.received())
        passed: Counter[tuple[str, str, str]] = Counter()
        may_be: Counter[tuple[str, str, str]] = Counter()
        for writer in self.writers:
            offered = writer.offered()
            passed.update(offered[file] for file in writer.passed())
            for file, what in offered.items():
                may_be[what] += 1 + writer.unnoted[file]
        return check_passed(there, passed, may_be)

    def _check_downloaded(self) -> int:
        """Every file that was downloaded is one that was sent. Returns: how many."""
        sent = {line["sha256"] for writer in self.writers for line in lines(writer.home / "said.jsonl")}
        sent |= {sha256_of(path) for writer in self.writers for path in (writer.home / "sent").glob("*")}
        found = [entry for writer in self.writers for entry in writer.downloaded()]
        assert not (wrong := [path for path, sha256 in found if sha256 not in sent]), f"not as they were sent: {wrong}"
        return len(found)

    async def _check_read(self, writer: Writer) -> None:
        """The server knows how far each chat was read."""
        read: Counter[str] = Counter()
        for line in lines(writer.home / "read.jsonl"):
            read[line["chat_id"]] = max(read[line["chat_id"]], line["seq"])
        async with self._as(writer.home.name) as (http, headers):
            for chat_id, seq in read.items():
                async with http.get(f"{self.url}/api/v1/chats/{chat_id}", headers=headers) as answer:
                    known = (await answer.json())["read_seq"]
                assert known >= seq, f"{writer.home.name} read {chat_id} up to {seq}, and the server knows of {known}"

    async def _check_file(self, name: str, file_id: str, sha256: str) -> None:
        async with self._as(name) as (http, headers):
            url = f"{self.url}/api/v1/files/{file_id}/download"
            async with http.get(url, headers=headers) as answer:
                assert answer.status == 200, (file_id, answer.status)
                digest = hashlib.sha256()
                async for part in answer.content.iter_chunked(1 << 20):
                    digest.update(part)
        assert digest.hexdigest() == sha256, f"the file {file_id} has other bytes than were sent"

    async def _check_left_over(self, shown: set[str]) -> None:
        """Of what a client that was killed had attached to a message and not sent, the file may be there, as an upload
        that will expire or as one that nothing shows. Given up, nothing is left: no reservation, no bytes without a
        record, no digest that is wrong, no transfer that is open, no socket."""
        unfinished = [path for writer in self.writers for path in writer.unfinished()]
        assert not unfinished, f"unfinished downloads were left over: {unfinished}"
        complete: set[str] = set()
        for writer in self.writers:
            async with self._as(writer.home.name) as (http, headers):
                async with http.get(f"{self.url}/api/v1/p2p", headers=headers) as answer:
                    assert (await answer.json())["items"] == [], "a transfer was left open"
                uploads = await self._files(http, headers, "uploading")
                async with http.get(f"{self.url}/api/v1/users/me/storage", headers=headers) as answer:
                    assert (await answer.json())["reserved_bytes"] == sum(file["size"] for file in uploads)
                for file in uploads:
                    async with http.delete(f"{self.url}/api/v1/files/{file['id']}", headers=headers) as answer:
                        assert answer.status == 204, await answer.text()
                async with http.get(f"{self.url}/api/v1/users/me/storage", headers=headers) as answer:
                    assert (await answer.json())["reserved_bytes"] == 0
                done = await self._files(http, headers, "complete")
                complete |= {file["id"] for file in done}
                of_nobody = Counter(file["name"] for file in [*uploads, *done] if file["id"] not in shown)
                assert of_nobody <= writer.unsaid(), f"{writer.home.name}'s {of_nobody} came to nothing"
        assert shown <= complete, "a file that is shown has no record"
        server = self.servers[0]
        verified = await asyncio.to_thread(
            command, server.data_root, "verify", "--json", timeout_s=300, **server.settings)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        for server in self.servers:
            await until(partial(is_alone, server.pid), f"{server.url} holds connections of nobody")
            async with aiohttp.ClientSession() as http, http.get(f"{server.url}/metrics") as answer:
                numbers = await answer.text()
            sockets = next(line for line in numbers.splitlines() if line.startswith("hypersend_sockets "))
            assert float(sockets.split()[1]) == 0, sockets
        await until(self._has_no_parts, "bytes of an upload were left over")
        await asyncio.to_thread(self._check_database)
        await check_garbage(self.servers[0], complete - shown, self._stored, shown)

    def _has_no_parts(self) -> bool:
        """Whether the store holds nothing of uploads."""
        return not any((self.servers[0].data_root / "uploads").iterdir())

    def _check_database(self) -> None:
        """SQLite itself finds nothing wrong."""
        with contextlib.closing(sqlite3.connect(self.servers[0].data_root / "hypersend.sqlite3")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    def _stored(self) -> set[str]:
        """Ids of the files that the store holds."""
        return {path.name for path in self.servers[0].data_root.glob("files/*/*")}

    async def _files(self, http: aiohttp.ClientSession, headers: dict[str, str], state: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        query = {"state": state, "limit": "200"}
        while True:
            async with http.get(f"{self.url}/api/v1/files", headers=headers, params=query) as answer:
                assert answer.status == 200, await answer.text()
                page = await answer.json()
            found += page["items"]
            if not page.get("next_cursor"):
                return found
            query["cursor"] = page["next_cursor"]

    @contextlib.asynccontextmanager
    async def _as(self, name: str) -> Any:
        async with HyperSend(self.url, tokens=FileTokenStore(self.folder / name / "accounts.json")) as hs:
            await hs.me.get()
            assert hs.account is not None
            headers = {"Authorization": f"Bearer {hs.account.access_token}"}
            async with aiohttp.ClientSession() as http:
                yield http, headers


def require_running(server: ServerProcess) -> None:
    """Raises: AssertionError where it has ended and nobody ended it."""
    assert server.process is not None
    status = server.process.poll()
    assert status is None, f"{server.url} ended by itself with {status}: {server.log()[-4000:]}"
