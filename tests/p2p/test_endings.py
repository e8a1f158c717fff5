"""What ends elsewhere ends transfers: sessions, blocks, messages, memberships."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hypersend_server.app import PARTS
from hypersend_server.p2p import endings, service, wire
from hypersend_server.users.types import PatchUser
from tests.harness import PASSWORD, Person, Server, Socket, running
from tests.p2p.pair import Pair, end, meet, pair


async def told(socket: Socket, transfer_id: str) -> None:
    """Wait until this socket hears that the transfer was cancelled, and until its message shows it."""
    kinds: set[str] = set()
    while kinds < {"transfer", "message.changed"}:
        frame = await socket.receive()
        shown = frame.get("transfer") or frame.get("message", {}).get("transfer") or {}
        if (shown.get("id"), shown.get("status")) == (transfer_id, "cancelled"):
            kinds.add(frame["type"])


async def sign_out(server: Server, asha: Person) -> None:
    assert (await asha.post("/auth/logout")).status == 204


async def revoke(server: Server, asha: Person) -> None:
    other = await server.login(asha.email)
    assert (await other.delete(f"/auth/sessions/{asha.session['session_id']}")).status == 204


async def change_password(server: Server, asha: Person) -> None:
    other = await server.login(asha.email)
    body = {"current_password": PASSWORD, "new_password": "another horse battery"}
    assert (await other.put("/auth/password", body)).status == 204


async def disable(server: Server, asha: Person) -> None:
    await server.app[PARTS].admin.patch_user(None, asha.id, PatchUser(disabled=True))


@pytest.mark.parametrize("how", [sign_out, revoke, change_password, disable])
async def test_offers_of_a_session_end_with_it(
    tmp_path: Path, how: Callable[[Server, Person], Awaitable[None]]
) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        offer = await both.offer()
        socket = await both.ben.socket()
        await how(server, both.asha)
        await told(socket, offer["id"])
        late = await both.ben.post(f"/p2p/{offer['id']}/accept")
        assert (late.status, late.code, late.json["transfer_status"]) == (409, "transfer_closed", "cancelled")
        assert (await both.ben.get("/p2p")).json["items"] == []


async def test_what_another_device_of_the_person_offers_stays_open(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        other = await server.login(both.asha.email)
        kept = (await other.post(
            "/p2p/send", {"chat_id": both.chat_id, "name": "a", "size": 1, "client_id": "other device"})).json
        offer = await both.offer()
        socket = await both.ben.socket()
        await sign_out(server, both.asha)
        await told(socket, offer["id"])
        assert (await both.ben.post(f"/p2p/{kept['id']}/accept")).status == 200


async def test_a_receiver_who_signs_out_ends_what_it_took_and_no_mere_offer(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        taken = await both.accepted(1000)
        offer = await both.offer(client_id="k2")
        sender = await end(both.asha, "sender", taken["id"])
        await sender.until("joined")
        socket = await both.asha.socket()
        await both.ben.post("/auth/logout")
        await told(socket, taken["id"])
        assert await sender.closed() == wire.OVER
        assert (await both.status(offer["id"]))["status"] == "offered"  # to the person, who has other devices
        again = await server.login(both.ben.email)
        assert (await again.post(f"/p2p/{offer['id']}/accept")).status == 200


async def test_an_offer_whose_session_ended_unheard_is_not_accepted(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        offer = await both.offer()
        parts = server.app[PARTS]
        await parts.sessions.close()  # what others end is not heard of any more
        await parts.metadata.accounts.end_sessions(both.asha.id, now_ms=parts.clock())
        late = await both.ben.post(f"/p2p/{offer['id']}/accept")
        assert (late.status, late.code, late.json["transfer_status"]) == (409, "transfer_closed", "cancelled")
        assert (await both.ben.get(f"/p2p/status/{offer['id']}")).json["status"] == "cancelled"


async def test_what_was_missed_is_found_by_the_sweep(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        offer = await both.offer()
        parts = server.app[PARTS]
        await parts.sessions.close()
        socket = await both.ben.socket()
        await parts.transfer_endings.sweep()
        assert (await both.status(offer["id"]))["status"] == "offered"
        await parts.metadata.accounts.end_sessions(both.asha.id, now_ms=parts.clock())
        await parts.transfer_endings.sweep()
        await told(socket, offer["id"])


def who_blocks(both: Pair, by: str) -> tuple[Person, Person]:
    return (both.ben, both.asha) if by == "ben" else (both.asha, both.ben)


@pytest.mark.parametrize("by", ["ben", "asha"])
async def test_a_block_cancels_what_is_open_between_the_two(tmp_path: Path, by: str) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        offer = await both.offer()
        back = (await both.ben.post(
            "/p2p/send", {"chat_id": both.chat_id, "name": "b", "size": 1, "client_id": "back"})).json
        taken = await both.accepted(1000, client_id="k2")
        ends = (await meet(both, taken["id"]))[:2]
        blocking, blocked = who_blocks(both, by)
        assert (await blocking.put(f"/users/me/blocks/{blocked.id}")).status == 204
        assert [await each.closed() for each in ends] == [wire.OVER, wire.OVER]
        for each in (offer, back, taken):
            assert (await both.status(each["id"]))["status"] == "cancelled"
        page = (await both.ben.get(f"/chats/{both.chat_id}/messages")).json["items"]
        assert {message["transfer"]["status"] for message in page} == {"cancelled"}
        refused = await both.ben.post(f"/p2p/{offer['id']}/accept")
        assert (refused.status, refused.code) == (403, "blocked")
        for person in (both.asha, both.ben):
            refused = await person.post(
                "/p2p/send", {"chat_id": both.chat_id, "name": "c", "size": 1, "client_id": "after"})
            assert (refused.status, refused.code) == (403, "blocked")


@pytest.mark.parametrize("by", ["ben", "asha"])
async def test_an_offer_to_a_group_stays_open_for_those_whom_no_block_concerns(tmp_path: Path, by: str) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        cyd = await server.person("cyd")
        group = (await both.asha.post(
            "/chats", {"kind": "group", "title": "g", "member_ids": [both.ben.id, cyd.id]})).json["id"]
        offer = (await both.asha.post(
            "/p2p/send", {"chat_id": group, "name": "a", "size": 1, "client_id": "k"})).json
        blocking, blocked = who_blocks(both, by)
        await blocking.put(f"/users/me/blocks/{blocked.id}")
        refused = await both.ben.post(f"/p2p/{offer['id']}/accept")
        assert (refused.status, refused.code) == (403, "blocked")
        assert (await cyd.post(f"/p2p/{offer['id']}/accept")).status == 200


@pytest.mark.parametrize("way", ["http", "socket"])
async def test_deleting_its_message_for_everyone_cancels_a_transfer(tmp_path: Path, way: str) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        offer = await both.offer()
        other = await both.offer(client_id="k2")
        await both.ben.delete(f"/chats/{both.chat_id}/messages/{offer['message_id']}?for=me")
        assert (await both.status(offer["id"]))["status"] == "offered"
        if way == "http":
            path = f"/chats/{both.chat_id}/messages/{offer['message_id']}?for=everyone"
            assert (await both.asha.delete(path)).status == 204
        else:
            socket = await both.asha.socket()
            answer = await socket.call(
                type="message.delete", chat_id=both.chat_id, message_id=offer["message_id"], **{"for": "everyone"})
            assert answer["type"] == "ack"
        late = await both.ben.post(f"/p2p/{offer['id']}/accept")
        assert (late.status, late.code) == (409, "transfer_closed")
        assert [transfer["id"] for transfer in (await both.ben.get("/p2p")).json["items"]] == [other["id"]]


async def test_who_leaves_ends_more_transfers_than_are_looked_at_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((endings, "BATCH"), (service, "MOST_OPEN")):
        monkeypatch.setattr(module, name, 2)
    async with running(tmp_path) as server:
        asha, ben, cyd = [await server.person(name) for name in ("asha", "ben", "cyd")]
        group = (await asha.post(
            "/chats", {"kind": "group", "title": "g", "member_ids": [ben.id, cyd.id]})).json["id"]
        offers = [
            (await person.post("/p2p/send", {
                "chat_id": group, "receiver_id": ben.id, "name": "a", "size": 1, "client_id": f"k{n}"})).json["id"]
            for person in (asha, cyd) for n in range(2)]
        assert (await ben.delete(f"/chats/{group}/members/{ben.id}")).status == 204
        found = [(await asha.get(f"/p2p/status/{offer}")).json["status"] for offer in offers]
        assert found == ["cancelled"] * 4
