"""People, groups and messages for the suites about chats."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal

import pytest

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import NewUser
from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.chats import (
    Chats,
    Draft,
    MemberChange,
    MessageRecord,
    Posted,
    SyncPage,
    SyncPosition,
)

NOW = 1_800_000_000_000


async def people(metadata: Metadata, *names: str) -> None:
    """Accounts whose ids are their names."""
    for name in names:
        await metadata.accounts.create_user(
            NewUser(
                id=name,
                email=f"{name}@example.org",
                email_key=f"{name}@example.org",
                username=name,
                display_name=name.title(),
                name_key=name,
                password_hash="x",  # noqa: S106
                is_admin=False,
            ),
            now_ms=NOW,
            session=None,
        )


async def refused(code: str, call: Awaitable[object]) -> None:
    with pytest.raises(HyperSendError) as caught:
        await call
    assert caught.value.code == code


async def group(
    chats: Chats, owner: str, *members: str, chat_id: str = "g", history: Literal["all", "since_join"] = "all"
) -> MemberChange:
    return await chats.create_group(owner, members, "Tea", history, chat_id, f"{chat_id}-made", NOW)


async def say(chats: Chats, chat_id: str, sender: str, text: str, **fields: object) -> MessageRecord:
    return (await post(chats, chat_id, sender, text, **fields)).message  # type: ignore[arg-type]


async def post(chats: Chats, chat_id: str, sender: str, text: str, client_id: str = "", **fields: object) -> Posted:
    draft = Draft(
        id=f"m-{chat_id}-{sender}-{text}",
        chat_id=chat_id,
        sender_id=sender,
        client_id=client_id or text,
        text=text,
        now=NOW,
        **fields,  # type: ignore[arg-type]
    )
    return await chats.append(draft, -1)


async def texts(chats: Chats, chat_id: str, user_id: str) -> list[str]:
    page = await chats.messages_by_seq(chat_id, user_id, 200)
    return [message.text for message in page.messages if message.kind != "system"]


async def synced(chats: Chats, user_id: str) -> SyncPosition:
    """Where a device is that knows everything."""
    position = SyncPosition("", user_id, 0)
    while True:
        page = await chats.sync(position, 100)
        position = page.position
        if not page.more:
            return position


async def rest(chats: Chats, position: SyncPosition, limit: int = 100) -> list[SyncPage]:
    pages = [await chats.sync(position, limit)]
    while pages[-1].more:
        pages.append(await chats.sync(pages[-1].position, limit))
    return pages
