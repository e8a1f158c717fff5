"""`hypersend p2p list|store|decline|cancel`: transfers that are there already, by their id."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Awaitable, Callable

from hypersend_client.cli.p2p import live
from hypersend_client.cli.people import find_chat
from hypersend_client.cli.screen import Screen, clean
from hypersend_client.cli.words import size
from hypersend_client.sdk.client import HyperSend
from hypersend_client.sdk.errors import ConnectionFailed
from hypersend_client.sdk.models import Message
from hypersend_client.sdk.p2p import PeerTransfer

MOVING = frozenset({"accepted", "active", "paused"})


async def _list(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    if options.chat is None:
        found = await hs.p2p.open()
    else:
        found = await _all_of(hs, (await find_chat(hs, options.chat)).id)
    names: dict[str, str] = {}
    rows = []
    for info in found:
        is_own = info.sender_id == (hs.account.user_id if hs.account else "")
        other_id = info.receiver_id if is_own else info.sender_id
        if other_id and other_id not in names:
            names[other_id] = (await hs.users.get(other_id)).username or ""
        other = f"@{clean(names[other_id])}" if other_id else "anyone in the chat"
        rows.append((
            info.id, ("to " if is_own else "from ") + other, size(info.size), _standing(info), clean(info.name)))
    empty = "Nothing waits and nothing moves." if options.chat is None else "Nothing was sent that way in this chat."
    text = screen.table(rows, empty)
    screen.result({"items": [info.to_json() for info in found]}, text)
    return 0


async def _all_of(hs: HyperSend, chat_id: str) -> list[PeerTransfer]:
    """The oldest first, as the others are listed."""
    found: list[PeerTransfer] = []
    cursor: str | None = None
    while True:
        page = await hs.p2p.calls.history(chat_id, limit=200, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found[::-1]


def _standing(info: PeerTransfer) -> str:
    if info.file_id is not None:
        return "on the server"
    if info.status in MOVING and info.size:
        return f"{info.status}, {100 * info.transferred_bytes // info.size} %"
    return info.status


async def _store(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    async with live(hs, options) as transfers:
        transfers.upload_limit.bytes_per_s = options.limit_rate
        info = await hs.p2p.calls.get(options.transfer)
        message = await _stored_before(hs, info)
        if message is None:
            upload = await hs.p2p.store(info.id)
            posting = asyncio.ensure_future(hs.p2p.posted(info.id))
            screen.say(f"{clean(info.name)} ({size(info.size)}) goes to the server, which keeps it.")
            await screen.follow([upload])
            await upload.wait()
            message = await posting
        assert message is not None
    screen.result(message, f"Sent through the server: {clean(info.name)}")
    return 0


async def _stored_before(hs: HyperSend, info: PeerTransfer) -> Message | None:
    """The message, where an earlier call did it all: with the same client_id the server answers with that one."""
    own = hs.account
    if info.file_id is None or own is None or info.sender_id != own.user_id or await hs.p2p.is_sending(info.id):
        return None
    return await hs.messages.send(info.chat_id, "", file_ids=[info.file_id], client_id=f"stored-{info.id}")


async def _decline(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    info = await hs.p2p.decline(options.transfer)
    screen.result(info, f"Declined: {clean(info.name)}")
    return 0


async def _cancel(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    async with live(hs, options):
        try:
            info = await hs.p2p.calls.get(options.transfer)
            own = hs.account
            if info.status in MOVING and own is not None and info.receiver_session == own.session_id:
                await hs.p2p.receive(info.id)  # so that what has arrived on this device is thrown away with it
            await hs.p2p.cancel(info.id)
            info = await hs.p2p.calls.get(info.id)
        except ConnectionFailed:
            is_heard = await hs.p2p.cancel(options.transfer)
            text = "" if is_heard else " The other side hears it as soon as this device reaches the server again."
            screen.result({"id": options.transfer, "status": "cancelled"}, f"Called off.{text}")
            return 0
    screen.result(info, f"Called off: {clean(info.name)}")
    return 0


COMMANDS: dict[str, Callable[[HyperSend, Namespace, Screen], Awaitable[int]]] = {
    "list": _list,
    "store": _store,
    "decline": _decline,
    "cancel": _cancel,
}
