"""What the browser keeps of a session: there the client's own cache ends with the page, or with the server's process.

Each draft has a key of its own, so that two tabs take nothing from each other.
"""

from __future__ import annotations

import asyncio
import json
from typing import Protocol

from hypersend_client.sdk.store import Draft

PREFIX = "draft."
SENDING = "sending"  # [user, chat, its title], while the upload page moves bytes
TYPED = "typed"  # [chat, text], what its field held when the screens were found gone; written by web/line.js
UPLOADS = "uploads"  # what that page had not finished; written by web/upload/page.js
MAX_DRAFTS = 100
MAX_TEXT = 20_000  # characters; more is not kept, since a browser's store is small and each pause sends it whole


class Memory(Protocol):
    """A few small strings that this device keeps: `theme`, `language`, `address`, `accent`; in a browser also drafts,
    and where something is being sent."""

    async def get(self, key: str) -> str | None: ...

    async def set(self, key: str, value: str) -> None: ...

    async def remove(self, key: str) -> None: ...

    async def keys(self, prefix: str) -> list[str]: ...


class KeptInBrowser:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def drafts(self, user_id: str) -> list[Draft]:
        prefix = f"{PREFIX}{user_id}."
        keys = (await self._memory.keys(prefix))[:MAX_DRAFTS]
        found = await asyncio.gather(*(self._memory.get(key) for key in keys))
        drafts = []
        for key, value in zip(keys, found, strict=True):
            try:
                text, reply_to = json.loads(value or "")
                drafts.append(Draft(key.removeprefix(prefix), str(text), None if reply_to is None else str(reply_to)))
            except (ValueError, TypeError):
                continue  # another program's, or another version's
        return await self._with_typed(user_id, drafts)

    async def _with_typed(self, user_id: str, drafts: list[Draft]) -> list[Draft]:
        """What was typed last is newer than the draft of the same chat."""
        try:
            chat_id, text = json.loads(await self._memory.get(TYPED) or "")
        except (ValueError, TypeError):
            return drafts
        reply_to = next((draft.reply_to for draft in drafts if draft.chat_id == chat_id), None)
        typed = Draft(str(chat_id), str(text), reply_to)
        await self.save_draft(user_id, typed)
        await self._memory.remove(TYPED)
        return [*(draft for draft in drafts if draft.chat_id != typed.chat_id), typed]

    async def save_draft(self, user_id: str, draft: Draft) -> None:
        key = f"{PREFIX}{user_id}.{draft.chat_id}"
        if (draft.text or draft.reply_to) and len(draft.text) <= MAX_TEXT:
            await self._memory.set(key, json.dumps([draft.text, draft.reply_to], ensure_ascii=False))
        else:
            await self._memory.remove(key)

    async def forget(self, user_id: str = "") -> None:
        """What is kept of this person; "": of whoever was signed in, but for what an upload page of a link may need."""
        await self._memory.remove(TYPED)
        try:
            sender_id = str(json.loads(await self._memory.get(SENDING) or "")[0])
        except (ValueError, TypeError, LookupError):
            sender_id = ""
        if not user_id or sender_id in ("", user_id):  # else of somebody who signed in meanwhile
            await self._memory.remove(SENDING)
            if user_id:
                await self._memory.remove(UPLOADS)
        for key in await self._memory.keys(f"{PREFIX}{user_id}." if user_id else PREFIX):
            await self._memory.remove(key)
