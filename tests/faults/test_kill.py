"""`kill -9` of the real server at random moments: what was acknowledged is there, and nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
from pathlib import Path
from typing import Any

import aiohttp

from tests.harness import PASSWORD, Client
from tests.http_session import http_session
from tests.process import ServerProcess

CHUNK = 8 * 1024 * 1024
BOUND_S = 300  # of what takes a tenth of it; a server that does not start again is asked for ever
LOST = (aiohttp.ClientError, ConnectionError, TimeoutError)


class Phone:
    """A client that keeps trying, as a phone does: each answer that is lost is asked for again."""

    def __init__(self, server: ServerProcess, http: aiohttp.ClientSession) -> None:
        self.client = Client(http, server.url)

    async def call(self, method: str, path: str, json: Any = None, **options: Any) -> Any:
        while True:
            try:
                answer = await self.client.request(method, path, json, timeout=aiohttp.ClientTimeout(30), **options)
            except LOST:
                await asyncio.sleep(0.05)
                continue
            if answer.status in (429, 503):
                await asyncio.sleep(0.1)
                continue
            assert answer.status < 400 or answer.code in ("chunk_busy",), (answer.status, answer.body)
            return answer.json

    async def register(self, name: str) -> str:
        session = await self.call("POST", "/auth/register", {
            "email": f"{name}@example.org", "username": name, "password": PASSWORD})
        self.client.headers["Authorization"] = f"Bearer {session['access_token']}"
        return str(session["user"]["id"])


class Killer:
    """Kills the server and starts it again at random moments, until it is told to stop."""

    def __init__(self, server: ServerProcess, moments: random.Random, pause: tuple[float, float]) -> None:
        self.kills = 0
        self._server = server
        self._moments = moments
        self._pause = pause
        self._done = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._done.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), self._moments.uniform(*self._pause))
            await asyncio.to_thread(self._server.kill)
            await asyncio.to_thread(self._server.start)
            self.kills += 1

    async def stop(self) -> None:
        self._done.set()
        await self._task


async def test_twenty_uploads_survive_a_server_that_is_killed_again_and_again(tmp_path: Path) -> None:
    moments = random.Random(20)
    sent_again: dict[int, int] = {}

    async def upload(phone: Phone, number: int, content: bytes) -> str:
        file = await phone.call("POST", "/files/init", {"name": f"{number}.bin", "size": len(content)},
                                headers={"Idempotency-Key": f"upload-{number}"})
        acknowledged: set[int] = set()
        while True:
            state = await phone.call("GET", f"/files/{file['id']}")
            if state["state"] == "complete":
                return str(file["id"])
            have = {i for first, last in state["upload"]["received"] for i in range(first, last + 1)}
            checking = {i for first, last in state["upload"]["verifying"] for i in range(first, last + 1)}
            assert acknowledged <= have | checking, "an acknowledged chunk is gone"
            missing = [i for i in range(state["upload"]["chunk_count"]) if i not in have | checking]
            if not missing:
                await phone.call("POST", f"/files/{file['id']}/complete")
                continue
            index = missing[0]
            part = content[index * CHUNK : (index + 1) * CHUNK]
            try:
                answer = await phone.client.put(
                    f"/files/{file['id']}/chunk?index={index}", data=part, timeout=aiohttp.ClientTimeout(30))
            except LOST:
                sent_again[number] = sent_again.get(number, 0) + 1
                await asyncio.sleep(0.05)
                continue
            if answer.status == 200:
                assert answer.json["sha256"] == hashlib.sha256(part).hexdigest()
                acknowledged.add(index)

    server = ServerProcess(tmp_path / "data", RATE_LIMITS="off").start()
    try:
        async with asyncio.timeout(BOUND_S), http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            sizes = (0, 1, CHUNK, CHUNK + 1, 3 * CHUNK, 2 * CHUNK + 77)
            contents: list[bytes] = []
            ids: list[str] = []
            killer = Killer(server, moments, (0.1, 0.6))
            while len(contents) < 20 or killer.kills < 3:  # a fast machine has sent twenty before the third
                some = [os.urandom(moments.choice(sizes)) for _ in range(4)]
                ids += await asyncio.gather(*(upload(phone, n, each) for n, each in enumerate(some, len(contents))))
                contents += some
            await killer.stop()
            for file_id, content in zip(ids, contents, strict=True):
                answer = await phone.client.get(f"/files/{file_id}/download")
                assert hashlib.sha256(answer.body).digest() == hashlib.sha256(content).digest()
        # A kill costs each stream that was sending at most the chunk it was sending.
        assert all(again <= killer.kills for again in sent_again.values())
    finally:
        server.kill()


async def test_every_acknowledged_message_is_there_once_after_kills_in_twenty_bursts(tmp_path: Path) -> None:
    moments = random.Random(21)
    server = ServerProcess(tmp_path / "data", RATE_LIMITS="off").start()
    acknowledged: dict[str, int] = {}
    try:
        async with asyncio.timeout(BOUND_S), http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            chat = await phone.call("POST", "/chats", {"kind": "group", "title": "Burst", "member_ids": []})
            killer = Killer(server, moments, (0.05, 0.4))

            async def send(client_id: str) -> None:
                message = await phone.call(
                    "POST", f"/chats/{chat['id']}/messages", {"client_id": client_id, "text": client_id})
                acknowledged[client_id] = message["seq"]

            bursts = 0
            while bursts < 20 or killer.kills < 5:
                await asyncio.gather(*(send(f"{bursts}-{n}") for n in range(40)))
                bursts += 1
            await killer.stop()

            found: list[Any] = []
            after = 0
            path = f"/chats/{chat['id']}/messages?limit=200&after_seq="
            while page := (await phone.call("GET", f"{path}{after}"))["items"]:
                found += page
                after = page[-1]["seq"]
            assert [message["seq"] for message in found] == list(range(1, len(found) + 1))
            texts = {message["client_id"]: message["seq"] for message in found if message["kind"] == "text"}
            assert texts == acknowledged
            assert len(acknowledged) == 40 * bursts
    finally:
        server.kill()


async def test_a_mark_that_was_answered_outlives_a_kill(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", RATE_LIMITS="off").start()
    try:
        async with asyncio.timeout(BOUND_S), http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            chat = await phone.call("POST", "/chats", {"kind": "group", "title": "Marks", "member_ids": []})
            messages = [{"client_id": str(n), "text": "x"} for n in range(4)]
            for message in messages:
                await phone.call("POST", f"/chats/{chat['id']}/messages", message)
            # The second is within a second of the first, and so waits with what comes after it.
            await phone.call("POST", f"/chats/{chat['id']}/read", {"seq": 1})
            await asyncio.gather(
                phone.call("POST", f"/chats/{chat['id']}/read", {"seq": 2}),
                phone.call("POST", f"/chats/{chat['id']}/delivered", {"seq": 4}))
            server.kill()
            server.start()
            assert (await phone.call("GET", f"/chats/{chat['id']}"))["read_seq"] == 2
            [member] = (await phone.call("GET", f"/chats/{chat['id']}/members"))["items"]
            assert (member["delivered_seq"], member["read_seq"]) == (4, 2)
    finally:
        server.kill()
