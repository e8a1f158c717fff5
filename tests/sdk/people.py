"""People with a live client each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from hypersend_client.sdk import HyperSend
from tests.harness import PASSWORD


@asynccontextmanager
async def person(url: str, name: str, **options: Any) -> AsyncIterator[HyperSend]:
    """Registered, signed in, live and up to date."""
    async with HyperSend(url, **{"rand": lambda: 0.0, **options}) as hs:
        await hs.register(f"{name}@example.org", name, PASSWORD, display_name=name.title())
        await hs.start()
        await current(hs)
        yield hs


async def current(hs: HyperSend) -> None:
    async with asyncio.timeout(20):
        await hs.sync.wait_current()


async def until(hs: HyperSend, holds: Callable[[], Awaitable[Any]], timeout_s: float = 20) -> Any:
    """Wait, from one change of the store to the next, until this answers something true; answers that."""
    changed = asyncio.Event()
    unsubscribe = hs.store.on_change(lambda changes: changed.set())
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                changed.clear()
                if answer := await holds():
                    return answer
                await changed.wait()
    finally:
        unsubscribe()


async def texts(hs: HyperSend, chat_id: str) -> list[str]:
    return [message.text for message in await hs.store.messages(chat_id, limit=1000)]


async def shows(hs: HyperSend, chat_id: str, *wanted: str) -> None:
    """Wait until the chat shows exactly these texts."""
    async def holds() -> bool:
        return await texts(hs, chat_id) == list(wanted)

    try:
        await until(hs, holds)
    except TimeoutError:
        raise AssertionError(f"{await texts(hs, chat_id)} in place of {list(wanted)}") from None


async def sent(hs: HyperSend) -> None:
    """Wait until nothing waits in the outbox."""
    async def holds() -> bool:
        return not [entry for entry in await hs.outbox.entries() if entry.state != "failed"]

    await until(hs, holds)


def user_id(hs: HyperSend) -> str:
    assert hs.account is not None
    return hs.account.user_id
