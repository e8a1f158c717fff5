"""Who does not belong to a chat any more, or never saw an offer, and what ended elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hypersend_server.app import PARTS, RELAY
from hypersend_server.errors import HyperSendError
from hypersend_server.p2p import relay, wire
from hypersend_server.p2p.service import UNPOSTED_MS
from tests.harness import Person, Server, SettableClock, running
from tests.p2p.pair import KEY, Pair, end, meet, pair


async def test_offers_from_before_one_joined_stay_closed_where_the_group_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        asha, ben, cyd = [await server.person(name) for name in ("asha", "ben", "cyd")]
        group = (await asha.post("/chats", {
            "kind": "group", "title": "g", "member_ids": [ben.id], "history": "since_join"})).json["id"]
        body = {"chat_id": group, "name": "secret plan.pdf", "size": 5, "client_id": "before"}
        before = (await asha.post("/p2p/send", body)).json
        await asha.post(f"/chats/{group}/members", {"user_ids": [cyd.id]})
        after = (await asha.post("/p2p/send", body | {"client_id": "after"})).json
        assert [item["id"] for item in (await cyd.get(f"/p2p/history/{group}")).json["items"]] == [after["id"]]
        assert [item["id"] for item in (await ben.get(f"/p2p/history/{group}")).json["items"]] == [
            after["id"], before["id"]]
        assert (await cyd.get(f"/p2p/status/{before['id']}")).status == 404
        assert (await cyd.post(f"/p2p/{before['id']}/accept")).status == 404
        assert (await cyd.post(f"/p2p/{after['id']}/accept")).status == 200


@pytest.mark.parametrize("how", ["removed", "left"])
async def test_who_is_no_member_any_more_receives_nothing(tmp_path: Path, how: str) -> None:
    async with running(tmp_path) as server:
        asha, ben = [await server.person(name) for name in ("asha", "ben")]
        group = (await asha.post("/chats", {"kind": "group", "title": "g", "member_ids": [ben.id]})).json["id"]
        transfer = (await asha.post("/p2p/send", {
            "chat_id": group, "name": "a", "size": 5000, "client_id": "x"})).json
        assert (await ben.post(f"/p2p/{transfer['id']}/accept")).status == 200
        receiver = await end(ben, "receiver", transfer["id"])
        await receiver.until("joined")
        who = asha if how == "removed" else ben
        assert (await who.delete(f"/chats/{group}/members/{ben.id}")).status in (200, 204)
        assert await receiver.closed() == wire.OVER
        assert (await asha.get(f"/p2p/status/{transfer['id']}")).json["status"] == "cancelled"
        assert (await ben.get("/p2p")).json["items"] == []
        for call in ("accept", "decline", "cancel", "store"):  # over, and nothing of it is told to who has gone
            answer = await ben.post(f"/p2p/{transfer['id']}/{call}")
            assert (answer.status, answer.code) == (404, "not_found"), call
        assert (await ben.get(f"/p2p/status/{transfer['id']}")).status == 404


@pytest.mark.parametrize("by", ["ben", "asha"])
async def test_while_one_blocks_the_other_no_end_opens(tmp_path: Path, by: str) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        transfer = await both.accepted(1000)
        accounts = server.app[PARTS].metadata.accounts
        blocking, blocked = (both.ben, both.asha) if by == "ben" else (both.asha, both.ben)
        await accounts.block(blocking.id, blocked.id, now_ms=0)  # nobody was told of it yet
        for who, role in ((both.asha, "sender"), (both.ben, "receiver")):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await end(who, role, transfer["id"])
            assert refused.value.status == 403
        assert (await both.ben.post(f"/p2p/{transfer['id']}/cancel")).json["status"] == "cancelled"


async def test_what_ended_while_its_ends_were_coming_joins_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        transfer = await both.accepted(1000)
        relay = server.app[RELAY]
        claim, came, go = relay._claim, asyncio.Event(), asyncio.Event()

        async def slow(*arguments: Any) -> str:
            came.set()
            await go.wait()
            return await claim(*arguments)

        monkeypatch.setattr(relay, "_claim", slow)
        coming = asyncio.create_task(end(both.asha, "sender", transfer["id"]))
        await came.wait()
        assert (await both.ben.post(f"/p2p/{transfer['id']}/cancel")).status == 200
        go.set()
        assert await (await coming).closed() == wire.OVER
        assert relay.meetings == 0


async def unavailable(*_: Any) -> Any:
    raise HyperSendError("metadata_unavailable")


async def test_who_was_removed_loses_their_transfers_though_nobody_could_be_shown_the_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as server:
        asha, ben = await server.person("asha"), await server.person("ben")
        group = (await asha.post("/chats", {"kind": "group", "title": "g", "member_ids": [ben.id]})).json["id"]
        body = {"chat_id": group, "receiver_id": ben.id, "name": "a", "size": 5, "client_id": "k"}
        offer = (await asha.post("/p2p/send", body)).json
        live = await asha.socket()
        with monkeypatch.context() as patch:
            patch.setattr(server.app[PARTS].chats.groups._publisher._presenter, "members", unavailable)
            assert (await asha.delete(f"/chats/{group}/members/{ben.id}")).status == 204
        await live.until("resync")
        assert (await asha.get(f"/p2p/status/{offer['id']}")).json["status"] == "cancelled"


async def test_an_end_that_leaves_while_the_end_is_recorded_takes_the_word_with_it_from_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "STOP_S", 0.05)
    async with running(tmp_path) as server:
        both = await pair(server)
        transfer = await both.accepted()
        sender, receiver, number = await meet(both, transfer["id"])
        await receiver.send(type="ready", round=number, key=KEY, offset=0)
        await sender.until("ready")
        transfers = server.app[PARTS].metadata.transfers
        change, recorded, go_on = transfers.change, asyncio.Event(), asyncio.Event()

        async def slow(*given: Any, **fields: Any) -> Any:
            found = await change(*given, **fields)
            if found.status == "done":
                recorded.set()
                await go_on.wait()
            return found

        monkeypatch.setattr(transfers, "change", slow)
        live = await both.asha.socket()
        await receiver.send(type="done")
        async with asyncio.timeout(10):
            await recorded.wait()
            receiver.ws._response.connection.transport.abort()  # type: ignore[union-attr]
            while server.app[RELAY].sockets > 1:
                await asyncio.sleep(0.02)
            go_on.set()
            while (await live.until("transfer"))["transfer"]["status"] != "done":
                pass
            assert await sender.closed() == 1000


def full() -> None:
    raise HyperSendError("storage_full")


async def open_of(person: Person) -> list[tuple[str, str]]:
    return [(item["name"], item["status"]) for item in (await person.get("/p2p")).json["items"]]


async def history_of(person: Person, chat_id: str) -> list[str]:
    return [item["name"] for item in (await person.get(f"/p2p/history/{chat_id}")).json["items"]]


async def unposted(server: Server, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """One of them has offered a file while there was no room for the message that says so."""
    both = await pair(server)
    with monkeypatch.context() as patch:
        patch.setattr(server.app[PARTS].chats, "_require_room", full)
        assert (await both.try_offer()).code == "storage_full"
    return both


async def test_a_full_server_leaves_the_offer_to_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SettableClock()
    async with running(tmp_path, clock=clock) as server:
        both = await unposted(server, monkeypatch)
        clock.advance(600)
        await server.app[PARTS].transfers.tidy()
        assert len(await open_of(both.asha)) == len(await history_of(both.asha, both.chat_id)) == 1
        assert await open_of(both.ben) == await history_of(both.ben, both.chat_id) == []
        again = await both.try_offer()
        assert (again.status, again.json["status"]) == (200, "offered")
        assert await open_of(both.ben) == await open_of(both.asha) != []
        assert await history_of(both.ben, both.chat_id) == await history_of(both.asha, both.chat_id) != []
        [message] = (await both.ben.get(f"/chats/{both.chat_id}/messages")).json["items"]
        assert message["transfer"]["status"] == "offered"


async def test_an_offer_that_could_not_be_posted_and_is_not_tried_again_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SettableClock()
    async with running(tmp_path, clock=clock) as server:
        both = await unposted(server, monkeypatch)
        clock.advance(UNPOSTED_MS / 1000 + 1)
        await server.app[PARTS].transfers.tidy()
        both.asha = await server.login(both.asha.email)
        both.ben = await server.login(both.ben.email)
        assert await open_of(both.asha) == await open_of(both.ben) == []


async def test_another_file_under_the_same_client_id_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        body = {"chat_id": both.chat_id, "name": "a.txt", "size": 5, "client_id": "k"}
        first = (await both.asha.post("/p2p/send", body)).json
        for change in ({"size": 6}, {"name": "b.txt"}):
            refused = await both.asha.post("/p2p/send", body | change)
            assert (refused.status, refused.code) == (409, "idempotency_conflict")
        assert (await both.asha.post("/p2p/send", body)).json == first
