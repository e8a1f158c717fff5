"""Work that outlives a crash: what was noted as due is finished by the next process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.chats.test_http import group, say, upload
from tests.chats.world import opened
from tests.harness import running

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
