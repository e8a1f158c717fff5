"""Marks are told until the server has written them down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from hypersend_client.sdk import ApiError, ConnectionFailed
from hypersend_client.sdk.marks import AT_ONCE, Marks
from hypersend_client.sdk.retry import Backoff
from hypersend_client.sdk.store import Store

CHATS = [f"c{n:03d}" for n in range(3 * AT_ONCE)]


class Told:
    """In place of the server's calls, which cannot be made to fail one by one. errors: what each chat answers first."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.heard: list[str] = []
        self.at_once = self.most_at_once = 0

    async def mark(self, chat_id: str, kind: str, seq: int) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
        if (error := self.errors.pop(chat_id, None)) is not None:
            raise error
        self.heard.append(chat_id)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store(":memory:", "me")
    await store.open()
    await store.write(lambda writer: [writer.to_tell(chat_id, "read", 5) for chat_id in CHATS])
    yield store
    await store.close()


async def left(store: Store) -> int:
    [(count,)] = await store.read(lambda db: db.execute("SELECT count(*) FROM marks").fetchall())
    return int(count)


@pytest.mark.parametrize("gone_for_good", [False, True])
async def test_each_is_told_until_it_was_heard(store: Store, gone_for_good: bool) -> None:
    told, connection = Told(), SimpleNamespace(state="connecting")
    told.errors["c001"] = ApiError("not_found", status=404) if gone_for_good else ConnectionFailed("cut", sent=True)
    stand_ins: tuple[Any, Any] = (told, connection)
    marks = Marks(store, *stand_ins, Backoff(60, 60), time.monotonic)
    marks.start()
    await asyncio.sleep(0.05)
    assert (told.heard, await left(store)) == ([], len(CHATS))
    connection.state = "online"
    marks.connected()
    async with asyncio.timeout(10):
        while told.at_once or len(told.heard) < AT_ONCE - 1:
            await asyncio.sleep(0.02)
        if not gone_for_good:
            assert "c001" not in told.heard  # and the next attempt is a minute away, but for a new connection
            marks.connected()
        while await left(store):
            await asyncio.sleep(0.02)
    await marks.stop()
    assert told.most_at_once == AT_ONCE
    assert sorted(set(told.heard)) == [chat_id for chat_id in CHATS if chat_id != "c001" or not gone_for_good]
    assert len(told.heard) == len(set(told.heard)), "one that was heard was told again"
