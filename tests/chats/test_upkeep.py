"""Work that outlives a crash: what was noted as due is finished by the next process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from hypersend_server.app import PARTS
from hypersend_server.chats import upkeep
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import MemberChange
from tests.chats.test_http import group, say, upload
from tests.chats.world import opened
from tests.harness import PASSWORD, running

FILE_GONE = "UPDATE files SET state = 'deleted', deleted_at = 1 WHERE id = ?"


async def test_messages_of_a_removed_file_change_after_a_crash_in_between(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        alice = await server.person("alice")
        chat_id = await group(alice)
        file_id = await upload(alice)
        said = [await say(alice, chat_id, f"t{n}", file_ids=[file_id]) for n in range(3)]
        email = alice.email
        token = (await alice.post("/sync", {})).json["token"]
    # As the file's removal leaves it when the process dies before the messages were told.
    async with opened(tmp_path / "hypersend.sqlite3") as world:
        await world.run(FILE_GONE, file_id)
        await world.run("INSERT INTO jobs VALUES (?, 'restamp_file', ?)", f"restamp_file:{file_id}", file_id.encode())
    async with running(tmp_path) as server:
        alice = await server.login(email)
        async with asyncio.timeout(10):
            while True:
                synced = (await alice.post("/sync", {"token": token})).json
                if len(synced["messages"]) == 3:
                    break
                await asyncio.sleep(0.02)
        assert [m["id"] for m in synced["messages"]] == [m["id"] for m in said]
        assert {m["files"][0]["state"] for m in synced["messages"]} == {"deleted"}


async def unavailable(*_: object) -> Any:
    raise HyperSendError("metadata_unavailable")


async def test_messages_of_a_removed_file_change_though_that_fails_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RETRY_S", 0.1)
    async with running(tmp_path) as server:
        alice = await server.person("alice")
        chat_id = await group(alice)
        file_id = await upload(alice)
        said = await say(alice, chat_id, "look", file_ids=[file_id])
        live = await alice.socket()
        with monkeypatch.context() as patch:
            patch.setattr(server.app[PARTS].metadata.chats, "restamp_for_file", unavailable)
            assert (await alice.delete(f"/files/{file_id}")).status == 204
            await asyncio.sleep(0.3)  # failed again meanwhile
        changed = (await live.until("message.changed"))["message"]
        assert (changed["id"], changed["files"][0]["state"]) == (said["id"], "deleted")


async def test_of_an_account_that_ends_each_chat_hears_though_the_next_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RETRY_S", 0.1)
    async with running(tmp_path) as server:
        alice, bob = await server.person("alice"), await server.person("bob")
        groups = [await group(alice, bob) for _ in range(3)]
        live = await bob.socket()
        chats, left = server.app[PARTS].metadata.chats, list[str]()
        forget_user = chats.forget_user

        async def first_alone(*given: Any) -> AsyncGenerator[MemberChange | None]:
            async for change in forget_user(*given):
                if change is not None:
                    left.append(change.audience.chat_id)
                    yield change
                    raise HyperSendError("metadata_unavailable")

        with monkeypatch.context() as patch:
            patch.setattr(chats, "forget_user", first_alone)
            assert (await alice.delete("/users/me", {"password": PASSWORD})).code == "metadata_unavailable"
        assert (await live.until("message"))["message"]["chat_id"] == left[0]
        await server.app[PARTS].account_deletion.resume()
        told = {(await live.until("message"))["message"]["chat_id"] for _ in groups[1:]}
        assert told == {*groups} - {*left}


async def test_a_file_named_for_a_chat_is_unshown_when_its_last_message_goes(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        alice = await server.person("alice")
        chat_id = await group(alice)
        file_id = await upload(alice, chat_id=chat_id)
        first, second = [await say(alice, chat_id, text, file_ids=[file_id]) for text in "ab"]

        async def unshown() -> bool:
            async with opened(tmp_path / "hypersend.sqlite3") as world:
                [(since,)] = await world.rows("SELECT unshown_since FROM files WHERE id = ?", file_id)
                return since is not None

        assert not await unshown()
        await alice.delete(f"/chats/{chat_id}/messages/{first['id']}?for=everyone")
        assert not await unshown()
        await alice.delete(f"/chats/{chat_id}/messages/{second['id']}?for=everyone")
        assert await unshown()
        await say(alice, chat_id, "c", file_ids=[file_id])
        assert not await unshown()
        await alice.delete(f"/chats/{chat_id}")
        async with asyncio.timeout(10):
            while not await unshown():
                await asyncio.sleep(0.02)
