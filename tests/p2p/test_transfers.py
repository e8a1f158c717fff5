"""The life of a transfer, as two people and a stranger meet it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hypersend_server.app import PARTS
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.transfers import OPEN
from tests.harness import SettableClock, running
from tests.p2p.pair import KEY, pair

DAY_S = 86_400


async def test_an_offer_is_a_message_and_reaches_all_devices(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        await both.asha.put("/auth/device-key", {"public_key": KEY})
        phone, laptop = await both.ben.socket(), await both.ben.socket()
        offer = await both.offer(5 * 10**9, mime="video/x-matroska")
        assert offer["status"] == "offered"
        assert (offer["sender_id"], offer["receiver_id"]) == (both.asha.id, both.ben.id)
        assert (offer["sender_key"], offer["receiver_key"]) == (KEY, None)
        assert offer["sender_session"] == both.asha.session["session_id"]
        for socket in (phone, laptop):
            frames = {}
            while frames.keys() < {"message", "transfer"}:
                frame = await socket.receive()
                frames[frame["type"]] = frame
            assert frames["message"]["message"]["kind"] == "transfer"
            assert frames["message"]["message"]["transfer"]["id"] == offer["id"]
            assert frames["transfer"]["transfer"]["status"] == "offered"
        page = (await both.ben.get(f"/chats/{both.chat_id}/messages")).json["items"]
        assert page[-1]["id"] == offer["message_id"]
        assert page[-1]["transfer"] == (await both.ben.get(f"/p2p/status/{offer['id']}")).json


async def test_the_same_client_id_is_the_same_offer(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        answers = await asyncio.gather(*(both.try_offer() for _ in range(5)))
        assert sorted(answer.status for answer in answers) == [200] * 4 + [201]
        assert len({answer.json["id"] for answer in answers}) == 1
        page = (await both.ben.get(f"/chats/{both.chat_id}/messages")).json["items"]
        assert [message["kind"] for message in page] == ["transfer"]
        await both.asha.post(f"/chats/{both.chat_id}/messages", {"client_id": "said", "text": "hello"})
        clash = await both.try_offer(client_id="said")
        assert (clash.status, clash.code) == (409, "idempotency_conflict")


async def test_one_device_accepts_and_the_others_see_it_taken(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        other = await server.login(both.ben.email)
        socket = await other.socket()
        offer = await both.offer()
        path = f"/p2p/{offer['id']}/accept"
        await both.ben.put("/auth/device-key", {"public_key": KEY})
        taken = await both.ben.post(path)
        assert (taken.json["status"], taken.json["receiver_key"]) == ("accepted", KEY)
        assert (await both.ben.post(path)).json == taken.json
        refused = await other.post(path)
        assert (refused.status, refused.code) == (409, "transfer_taken")
        while (frame := await socket.receive())["type"] != "transfer" or frame["transfer"]["status"] != "accepted":
            pass
        changed = await socket.until("message.changed")
        assert changed["message"]["transfer"]["status"] == "accepted"


@pytest.mark.parametrize("how", ["decline", "cancel"])
async def test_what_is_over_stays_over(tmp_path: Path, how: str) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        offer = await both.offer()
        status = {"decline": "declined", "cancel": "cancelled"}[how]
        ended = await both.ben.post(f"/p2p/{offer['id']}/{how}")
        assert (ended.status, ended.json["status"]) == (200, status)
        assert (await both.ben.post(f"/p2p/{offer['id']}/{how}")).json == ended.json
        late = await both.ben.post(f"/p2p/{offer['id']}/accept")
        assert (late.status, late.code) == (409, "transfer_closed")
        page = (await both.asha.get(f"/chats/{both.chat_id}/messages")).json["items"]
        assert page[-1]["transfer"]["status"] == status


async def test_only_its_people_see_and_touch_a_transfer(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        eve = await server.person("eve")
        offer = await both.offer()
        assert (await eve.get(f"/p2p/status/{offer['id']}")).status == 404
        assert (await eve.get(f"/p2p/history/{both.chat_id}")).status == 404
        for call in ("accept", "decline", "cancel", "store"):
            assert (await eve.post(f"/p2p/{offer['id']}/{call}")).status == 404
        assert (await both.asha.post(f"/p2p/{offer['id']}/accept")).status == 403
        assert (await both.asha.post(f"/p2p/{offer['id']}/decline")).status == 403
        assert (await both.ben.post(f"/p2p/{offer['id']}/store")).status == 403
        assert (await both.ben.post("/p2p/00000000000000000000000000/accept")).status == 404
        assert (await eve.post(
            "/p2p/send", {"chat_id": both.chat_id, "name": "a", "size": 1, "client_id": "k"})).status == 404


async def test_in_a_group_the_one_named_accepts_or_the_first_who_does(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        asha, ben, cleo = [await server.person(name) for name in ("asha", "ben", "cleo")]
        eve = await server.person("eve")
        group = (await asha.post(
            "/chats", {"kind": "group", "title": "Film club", "member_ids": [ben.id, cleo.id]})).json["id"]
        body = {"chat_id": group, "name": "film.mkv", "size": 10, "client_id": "k1"}
        stranger = await asha.post("/p2p/send", {**body, "receiver_id": eve.id})
        assert stranger.status == 404
        named = (await asha.post("/p2p/send", {**body, "receiver_id": ben.id})).json
        early = await cleo.post(f"/p2p/{named['id']}/accept")
        assert (early.status, early.code) == (403, "not_allowed")
        assert (await ben.post(f"/p2p/{named['id']}/accept")).status == 200
        anyone = (await asha.post("/p2p/send", {**body, "client_id": "k2"})).json
        assert anyone["receiver_id"] is None
        assert (await asha.post(f"/p2p/{anyone['id']}/accept")).status == 403
        assert (await cleo.post(f"/p2p/{anyone['id']}/accept")).json["receiver_id"] == cleo.id
        assert (await ben.post(f"/p2p/{anyone['id']}/accept")).code == "transfer_taken"


async def test_to_oneself_it_goes_to_another_device(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        asha = await server.person("asha")
        laptop = await server.login(asha.email)
        saved = next(chat for chat in (await asha.get("/chats")).json["items"] if chat["kind"] == "saved")
        offer = (await asha.post(
            "/p2p/send", {"chat_id": saved["id"], "name": "a", "size": 1, "client_id": "k"})).json
        assert (await asha.post(f"/p2p/{offer['id']}/accept")).status == 403
        assert (await laptop.post(f"/p2p/{offer['id']}/accept")).status == 200


async def test_who_is_blocked_offers_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        group = (await both.asha.post(
            "/chats", {"kind": "group", "title": "g", "member_ids": [both.ben.id]})).json["id"]
        await both.ben.put(f"/users/me/blocks/{both.asha.id}")
        refused = await both.try_offer()
        assert (refused.status, refused.code) == (403, "blocked")
        body = {"chat_id": group, "receiver_id": both.ben.id, "name": "a", "size": 1, "client_id": "k"}
        assert (await both.asha.post("/p2p/send", body)).code == "blocked"
        assert (await both.asha.get("/p2p")).json["items"] == []


async def test_an_offer_that_nobody_takes_expires_and_the_message_says_so(tmp_path: Path) -> None:
    clock = SettableClock()
    async with running(tmp_path, clock=clock) as server:
        both = await pair(server)
        offer = await both.offer()
        assert [t["id"] for t in (await both.ben.get("/p2p")).json["items"]] == [offer["id"]]
        clock.advance(4 * DAY_S)
        await server.app[PARTS].transfers.tidy()
        both.asha = await server.login(both.asha.email)
        assert (await both.status(offer["id"]))["status"] == "expired"
        page = (await both.asha.get(f"/chats/{both.chat_id}/messages")).json["items"]
        assert page[-1]["transfer"]["status"] == "expired"
        assert (await both.asha.get("/p2p")).json["items"] == []


async def test_a_transfer_whose_process_died_while_its_clock_was_ahead_is_paused_and_a_living_one_not(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        parts = server.app[PARTS]
        records, now = parts.metadata.transfers, parts.clock()
        dead, living = [(await both.accepted(client_id=key))["id"] for key in ("k1", "k2")]
        for transfer_id in (dead, living):
            await records.claim(transfer_id, "there", now + 3_600_000, now + 3_630_000)
            await records.change(transfer_id, OPEN, now, status="active")
        await parts.transfers.tidy()
        await records.claim(living, "there", now, now + 30_000)  # its clock was set back, and it goes on
        await parts.transfers.tidy()
        assert [(await both.status(each))["status"] for each in (dead, living)] == ["paused", "active"]


async def test_that_offers_expired_is_told_of_all_though_the_message_of_one_cannot_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> bool:
        raise HyperSendError("metadata_unavailable")

    clock = SettableClock()
    async with running(tmp_path, clock=clock) as server:
        both = await pair(server)
        offers = [await both.offer(client_id=f"k{number}") for number in range(3)]
        clock.advance(4 * DAY_S)
        both.asha = await server.login(both.asha.email)
        live = await both.asha.socket()
        transfers = server.app[PARTS].transfers
        with monkeypatch.context() as patch:
            patch.setattr(transfers._chats, "show_transfer", unavailable)
            with pytest.raises(HyperSendError):
                await transfers.tidy()
        told = [(await live.until("transfer"))["transfer"] for _ in offers]
        assert {(each["id"], each["status"]) for each in told} == {(offer["id"], "expired") for offer in offers}
        clock.advance(10)
        await transfers.tidy()
        page = (await both.asha.get(f"/chats/{both.chat_id}/messages")).json["items"]
        assert {message["transfer"]["status"] for message in page} == {"expired"}


async def test_it_becomes_an_upload_under_the_rules_of_uploads(tmp_path: Path) -> None:
    async with running(tmp_path, MAX_FILE_SIZE="1000") as server:
        both = await pair(server)
        offer = await both.accepted(1000)
        stored = (await both.asha.post(f"/p2p/{offer['id']}/store")).json
        assert stored["status"] == "cancelled"
        file = (await both.asha.get(f"/files/{stored['file_id']}")).json
        assert (file["name"], file["size"], file["state"]) == ("film.mkv", 1000, "uploading")
        assert (await both.asha.post(f"/p2p/{offer['id']}/store")).json == stored
        large = await both.offer(1001, client_id="k2")
        refused = await both.asha.post(f"/p2p/{large['id']}/store")
        assert (refused.status, refused.code) == (413, "file_too_large")
        assert (await both.status(large["id"]))["status"] == "offered"


async def test_an_upload_for_what_was_received_meanwhile_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        transfer = await both.accepted(1000)
        transfers = server.app[PARTS].transfers
        begin = transfers._begin_upload

        async def slow(*arguments: Any) -> str:
            file_id = await begin(*arguments)
            await transfers.finished(transfer["id"], "done")
            return file_id

        monkeypatch.setattr(transfers, "_begin_upload", slow)
        late = await both.asha.post(f"/p2p/{transfer['id']}/store")
        assert (late.status, late.code, late.json["transfer_status"]) == (409, "transfer_closed", "done")
        assert (await both.asha.get("/files?state=uploading")).json["items"] == []
        use = (await both.asha.get("/users/me/storage")).json
        assert (use["used_bytes"], use["reserved_bytes"], use["files"]) == (0, 0, 0)


async def test_the_slower_of_two_calls_to_store_leaves_the_upload_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        transfer = await both.accepted(1000)
        transfers = server.app[PARTS].transfers
        begin, quicker = transfers._begin_upload, []

        async def slow(*arguments: Any) -> str:
            file_id = await begin(*arguments)
            if not quicker:
                quicker.append(None)
                quicker[0] = await both.asha.post(f"/p2p/{transfer['id']}/store")
            return file_id

        monkeypatch.setattr(transfers, "_begin_upload", slow)
        stored = await both.asha.post(f"/p2p/{transfer['id']}/store")
        assert stored.status == 200
        assert stored.json == quicker[0].json
        assert (await both.asha.get(f"/files/{stored.json['file_id']}")).json["state"] == "uploading"


async def test_only_the_sender_vouches_and_only_for_what_was_stored(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        offer = await both.accepted(1000)
        path, body = f"/p2p/{offer['id']}/vouch", {"vouch": "a" * 64}
        assert (await both.asha.post(path, body)).code == "transfer_closed"
        await both.asha.post(f"/p2p/{offer['id']}/store")
        assert (await both.ben.post(path, body)).code == "not_allowed"
        for wrong in ("", "a" * 63, "A" * 64, "a" * 64 + "\n", 5):
            assert (await both.asha.post(path, {"vouch": wrong})).code == "validation_failed"
        assert (await both.asha.post(path, body)).json["vouch"] == "a" * 64
        assert (await both.status(offer["id"]))["vouch"] == "a" * 64


async def test_history_is_the_chats_newest_first_in_pages(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        made = [(await both.offer(client_id=f"k{n}"))["id"] for n in range(5)]
        seen, cursor = [], ""
        while True:
            page = (await both.ben.get(f"/p2p/history/{both.chat_id}?limit=2{cursor}")).json
            seen += [transfer["id"] for transfer in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert seen == made[::-1]


async def test_a_deleted_account_leaves_no_open_transfer(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        offer = await both.offer()
        gone = await both.asha.delete("/users/me", {"password": "correct horse battery"})
        assert gone.status in (200, 204), gone.body
        assert (await both.ben.get(f"/p2p/status/{offer['id']}")).json["status"] == "cancelled"
        assert (await both.ben.get("/p2p")).json["items"] == []


@pytest.mark.parametrize("wrong", [
    {"size": -1}, {"size": 2**53}, {"name": ""}, {"client_id": ""}, {"mime": "nonsense"}, {"more": 1}, {"chat_id": 5}])
async def test_a_wrong_offer_is_refused_by_field(tmp_path: Path, wrong: dict[str, object]) -> None:
    async with running(tmp_path) as server:
        both = await pair(server)
        body = {"chat_id": both.chat_id, "name": "a", "size": 1, "client_id": "k", **wrong}
        answer = await both.asha.post("/p2p/send", body)
        assert (answer.status, answer.json["errors"][0]["field"]) == (422, next(iter(wrong)))
