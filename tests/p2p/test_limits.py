"""What is not taken: from the web app, too often, or over the quota."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from hypersend_server.app import OFFERS_BURST, OFFERS_PER_S, PARTS
from hypersend_server.p2p import wire
from hypersend_server.p2p.edge import OPENINGS_BURST, OPENINGS_PER_S
from tests.harness import Person, Server, running
from tests.p2p.pair import end, pair


class StoppedClock:
    """Real time would give tokens back while the burst is being used up."""

    def __init__(self) -> None:
        self.now = 1_900_000_000_000

    def __call__(self) -> int:
        return self.now


async def become_web(server: Server, person: Person) -> None:
    """The person's session is that of the app in a browser from now on."""
    kept = await server.app[PARTS].metadata.accounts.keep_web_session(
        person.session["session_id"], person.id, b"h" * 32)
    assert kept


async def test_the_web_app_neither_offers_nor_accepts(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        offer = await both.offer()
        await become_web(server, both.ben)
        refused = await both.ben.post(f"/p2p/{offer['id']}/accept")
        assert (refused.status, refused.code) == (403, "device_needed")
        assert (await both.status(offer["id"]))["status"] == "offered"
        refused = await both.ben.post(
            "/p2p/send", {"chat_id": both.chat_id, "name": "a", "size": 1, "client_id": "web"})
        assert (refused.status, refused.code) == (403, "device_needed")
        assert [item["id"] for item in (await both.ben.get("/p2p")).json["items"]] == [offer["id"]]
        # It shows offers, and may refuse them.
        assert (await both.ben.post(f"/p2p/{offer['id']}/decline")).json["status"] == "declined"


async def test_offers_come_in_a_burst_and_then_two_a_second(tmp_path: Path) -> None:
    clock = StoppedClock()
    async with running(tmp_path, clock=clock) as server:
        both = await pair(server)
        answers = [await both.try_offer()]
        answers += await asyncio.gather(*(both.try_offer() for _ in range(OFFERS_BURST - 1)))
        assert [answer.status for answer in answers] == [201] + [200] * (OFFERS_BURST - 1)
        refused = await both.try_offer(client_id="one more")
        assert (refused.status, refused.code, refused.headers["Retry-After"]) == (429, "rate_limited", "1")
        assert len((await both.asha.get("/p2p")).json["items"]) == 1
        theirs = await both.ben.post("/p2p/send", {
            "chat_id": both.chat_id, "name": "a", "size": 1, "client_id": "another person"})
        assert theirs.status == 201
        clock.now += 1000
        statuses = [(await both.try_offer(client_id=f"k{n}")).status for n in range(2, OFFERS_PER_S + 3)]
        assert statuses == [201] * OFFERS_PER_S + [429]


async def test_an_end_is_opened_in_a_burst_and_then_twice_a_second(tmp_path: Path) -> None:
    clock = StoppedClock()
    async with running(tmp_path, clock=clock) as server:
        both = await pair(server)
        transfer = await both.accepted()
        for _ in range(OPENINGS_BURST):
            await (await end(both.asha, "sender", transfer["id"])).until("joined")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await end(both.asha, "sender", transfer["id"])
        assert (refused.value.status, (refused.value.headers or {})["Retry-After"]) == (429, "1")
        late = await end(both.asha, "sender", transfer["id"], headers={})
        await late.send(type="auth", token=both.asha.token)
        assert await late.closed() == wire.STOPPING  # connect again, later
        await (await end(both.ben, "receiver", transfer["id"])).until("joined")
        other = await both.accepted(client_id="k2")
        await (await end(both.asha, "sender", other["id"])).until("joined")
        clock.now += 1000
        for _ in range(OPENINGS_PER_S):
            await (await end(both.asha, "sender", transfer["id"])).until("joined")
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await end(both.asha, "sender", transfer["id"])


async def test_without_limits_an_end_is_opened_as_often_as_one_likes(tmp_path: Path) -> None:
    async with running(tmp_path, clock=StoppedClock(), RATE_LIMITS="off") as server:
        both = await pair(server)
        transfer = await both.accepted()
        for _ in range(OPENINGS_BURST + 1):
            await (await end(both.asha, "sender", transfer["id"])).until("joined")


async def test_over_the_quota_a_transfer_stays_what_it_is(tmp_path: Path) -> None:
    async with running(tmp_path, USER_QUOTA="1000") as server:
        both = await pair(server)
        transfer = await both.accepted(1001)
        refused = await both.asha.post(f"/p2p/{transfer['id']}/store")
        assert (refused.status, refused.code) == (403, "quota_exceeded")
        assert await both.status(transfer["id"]) == transfer
        assert (await both.asha.get("/files?state=uploading")).json["items"] == []
        use = (await both.asha.get("/users/me/storage")).json
        assert (use["used_bytes"], use["reserved_bytes"], use["files"]) == (0, 0, 0)
        small = await both.offer(1000, client_id="k2")
        assert (await both.asha.post(f"/p2p/{small['id']}/store")).json["status"] == "cancelled"
