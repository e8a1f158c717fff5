"""Too much of what costs the server something, by somebody who is signed in: held back, and nobody else with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from hypersend_server.app import SEARCHES_BURST, SEARCHES_PER_S, UPLOADS_BURST, UPLOADS_PER_S
from hypersend_server.clock import system_clock
from hypersend_server.http import MAX_UNKNOWN_JSON_BYTES
from hypersend_server.realtime import unknown
from tests.harness import Answer, Client, running
from tests.p2p.pair import pair

FILE = {"name": "tea.txt", "size": 3}
KEYS_PER_S = 7  # somebody who types fast
REPEATS_PER_S = 30  # a key that is held


class HeldClock:
    """A clock that stands, so that a burst takes no time."""

    def __init__(self) -> None:
        self._now = system_clock()

    def __call__(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += int(seconds * 1000)


def assert_held_back(answer: Answer, per_s: float) -> int:
    """Returns: the seconds after which to try again."""
    assert (answer.status, answer.code) == (429, "rate_limited"), answer
    assert answer.json["retryable"] is True
    wait_s = int(answer.headers["Retry-After"])
    assert 1 <= wait_s <= 1 + 1 / per_s
    return wait_s


async def stored(person: Client, file_id: str) -> bool:
    await person.put(f"/files/{file_id}/chunk?index=0", data=b"tea")
    return (await person.post(f"/files/{file_id}/complete")).status == 201


async def test_a_burst_of_uploads_is_held_back_and_those_begun_go_on(tmp_path: Path) -> None:
    clock = HeldClock()
    async with running(tmp_path, clock=clock) as server:
        asha, bina = await server.person("asha"), await server.person("bina")
        begun: list[str] = []
        refused: list[Answer] = []

        async def begin(times: int) -> None:
            for _ in range(times):
                answer = await asha.post("/files/init", FILE)
                if answer.status == 201:
                    begun.append(answer.json["id"])
                else:
                    refused.append(answer)

        await asyncio.gather(*(begin((UPLOADS_BURST + 100) // 20) for _ in range(20)))
        assert len(begun) == UPLOADS_BURST
        assert len(refused) == 100
        wait_s = max(assert_held_back(answer, UPLOADS_PER_S) for answer in refused)
        use = (await asha.get("/users/me/storage")).json
        assert use["reserved_bytes"] == FILE["size"] * UPLOADS_BURST  # what was refused holds no room
        # Another way in is the same person, and another session too; somebody else is not.
        ticket = (await asha.post("/files/upload-ticket", {})).json["url"].partition("#ticket=")[2]
        guest = Client(asha.http, asha.url, {"Authorization": f"Bearer {ticket}"})
        for again in (guest, await server.login(asha.email)):
            assert_held_back(await again.post("/files/init", FILE), UPLOADS_PER_S)
        assert (await bina.post("/files/init", FILE)).status == 201
        # What was begun is as good as ever.
        for file_id in (begun[0], begun[-1]):
            assert await stored(asha, file_id)
        clock.advance(wait_s)
        answer = await asha.post("/files/init", FILE)
        assert answer.status == 201
        assert await stored(asha, answer.json["id"])


async def test_a_burst_of_searches_is_held_back_and_all_else_goes_on(tmp_path: Path) -> None:
    clock = HeldClock()
    async with running(tmp_path, clock=clock) as server:
        asha, bina = await server.person("asha"), await server.person("bina")
        chat = (await asha.post("/chats", {"kind": "group", "title": "Tea", "member_ids": [bina.id]})).json
        said = (await asha.post(f"/chats/{chat['id']}/messages", {"client_id": "1", "text": "tea at four"})).json
        answers = await asyncio.gather(*(asha.get("/search?q=tea") for _ in range(SEARCHES_BURST + 20)))
        found = [answer for answer in answers if answer.status == 200]
        assert len(found) == SEARCHES_BURST
        assert all([hit["id"] for hit in answer.json["items"]] == [said["id"]] for answer in found)
        wait_s = max(assert_held_back(answer, SEARCHES_PER_S) for answer in answers if answer.status != 200)
        # A chat alone and another session are the same person; somebody else is not.
        assert_held_back(await asha.get(f"/search?q=tea&chat_id={chat['id']}"), SEARCHES_PER_S)
        assert_held_back(await (await server.login(asha.email)).get("/search?q=tea"), SEARCHES_PER_S)
        assert (await bina.get("/search?q=tea")).status == 200
        assert (await asha.get(f"/chats/{chat['id']}/messages")).status == 200
        again = await asha.post(f"/chats/{chat['id']}/messages", {"client_id": "2", "text": "or at five"})
        assert again.status == 201
        clock.advance(wait_s)
        assert (await asha.get("/search?q=tea")).status == 200


async def test_searching_at_every_key_is_not_held_back(tmp_path: Path) -> None:
    clock = HeldClock()
    async with running(tmp_path, clock=clock) as server:
        asha = await server.person("asha")
        words = "the picture of the tea stall at the corner of the old market, चाय की दुकान की तस्वीर, and who was there"
        typed = [words[:end] for end in range(1, len(words) + 1)]
        deleted = typed[: -SEARCHES_BURST : -1]
        for needles, per_s in ((typed, KEYS_PER_S), (deleted, REPEATS_PER_S)):
            for needle in needles:
                assert (await asha.get(f"/search?q={quote(needle)}")).status == 200, needle
                clock.advance(1 / per_s)


async def test_ends_of_transfers_that_say_nobodys_name_are_refused_with_the_other_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown, "MAX_UNKNOWN", 4)
    async with running(tmp_path) as server:
        both = await pair(server)
        transfer = await both.accepted()
        paths = [f"/api/v1/p2p/{role}/{transfer['id']}" for role in ("sender", "receiver")] + ["/api/v1/ws"]

        async def opened(path: str, **headers: str) -> aiohttp.ClientWebSocketResponse[Any]:
            return await server.http.ws_connect(server.url.replace("http", "ws", 1) + path, headers=headers)

        silent = [await opened(path) for path in (*paths, paths[0])]
        for path in paths:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await opened(path)
            assert refused.value.status == 429
        with pytest.raises(aiohttp.WSServerHandshakeError):  # nor does a token help that is none
            await opened("/api/v1/ws", Authorization="Bearer x")
        known = await opened(paths[0], **both.asha.headers)  # a token in the header tells at once
        await opened("/api/v1/ws", **both.asha.headers)
        await silent[1].send_json({"type": "auth", "token": both.ben.token})
        assert (await silent[1].receive()).type is aiohttp.WSMsgType.TEXT  # in, and so it makes room
        await opened(paths[1])
        assert not known.closed


async def test_who_has_not_signed_in_sends_no_large_bodies(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        asha = await server.person("asha")
        large = b'{"refresh_token": "' + b"x" * MAX_UNKNOWN_JSON_BYTES + b'"}'
        for path in ("/auth/login", "/auth/register", "/auth/refresh", "/auth/reset", f"{server.url}/web/token"):
            answer = await server.post(path, data=large, headers={"Content-Type": "application/json"})
            assert (answer.status, answer.code) == (413, "body_too_large"), path
        same = await asha.post("/sync", data=large, headers={"Content-Type": "application/json"})
        assert (same.status, same.code) == (422, "validation_failed")
