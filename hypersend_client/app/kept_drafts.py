"""Drafts that the browser keeps: there the client's own cache ends with the page, or with the server's process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from hypersend_client.sdk.store import Draft

KEY = "drafts"
MAX_DRAFTS = 50  # a browser's store is small


class Memory(Protocol):
    """A few small strings that this device keeps: `theme`, `language`, `address`, `accent`, `drafts`."""

    async def get(self, key: str) -> str | None: ...

    async def set(self, key: str, value: str) -> None: ...


class KeptDrafts:
    """Of one person at a time: another one's are not shown, and are gone with the first of their own."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def load(self, user_id: str) -> list[Draft]:
        """Nothing where what is kept is another person's, or not to be read."""
        try:
            kept = json.loads(await self._memory.get(KEY) or "null")
            if kept["user"] != user_id:
                return []
            return [Draft(str(chat_id), str(text), None if reply_to is None else str(reply_to))
                    for chat_id, text, reply_to in kept["drafts"]]
        except (ValueError, TypeError, KeyError):
            return []

    async def save(self, user_id: str, drafts: Sequence[Draft]) -> None:
        """The newest are last."""
        await self._memory.set(KEY, json.dumps({"user": user_id, "drafts": [
            [draft.chat_id, draft.text, draft.reply_to] for draft in drafts[-MAX_DRAFTS:]]}))

    async def forget(self) -> None:
        await self._memory.set(KEY, "")
