"""What people type, found on the server: accounts, chats, messages."""

from __future__ import annotations

import os
import socket
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypersend_client.cli.screen import clean
from hypersend_client.sdk.client import HyperSend
from hypersend_client.sdk.errors import ApiError, HyperSendError, SignedOut
from hypersend_client.sdk.models import Chat, Message
from hypersend_client.sdk.places import state_folder
from hypersend_client.sdk.tokens import Account, FileTokenStore

NEWEST = 200


class UsageError(Exception):
    """What was typed cannot be right."""


class NotFound(HyperSendError):
    """Nothing, or more than one thing, has this name."""

    code = "not_found"


def token_store() -> FileTokenStore:
    return FileTokenStore(state_folder() / "accounts.json")


def device_name() -> str:
    return f"hypersend on {socket.gethostname()}"[:64]


def told_server(options: Namespace) -> str | None:
    return options.server or os.environ.get("API_BASE_URL") or os.environ.get("API_URL") or None


@asynccontextmanager
async def signed_in(options: Namespace) -> AsyncIterator[HyperSend]:
    """The account that is meant. Raises: UsageError, NotFound, SignedOut."""
    store = token_store()
    url, account = told_server(options), None
    accounts = await store.accounts()
    if options.account:
        account = _choose(options.account, url, accounts)
        url = url or account.url
    elif url is None:
        if not accounts:
            raise UsageError("say which server: --server ADDRESS, or set API_BASE_URL")
        account = accounts[0]
        url = account.url
    async with HyperSend(url, tokens=store, account=account, device=device_name()) as hs:
        if hs.account is None:
            await hs.connect()  # the server may have moved: its account is known by its `server_id`
        if hs.account is None:
            raise SignedOut
        try:
            yield hs
        except SignedOut as error:  # the account is forgotten by now, and its server with it
            raise SignedOut(error.reason, hs.url) from error


def _choose(name: str, url: str | None, accounts: list[Account]) -> Account:
    wanted = name.lower().removeprefix("@")
    found = [a for a in accounts if wanted in (a.username.lower(), a.email.lower(), a.user_id.lower())]
    if url is not None and len(found) > 1:
        found = [a for a in found if url.rstrip("/").endswith(a.url.split("://")[-1])] or found
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{a.username} ({a.email}) on {a.url}" for a in (found or accounts)) or "nobody"
    if found:
        raise NotFound(f"Several accounts are called “{name}”: {listed}. Say which with --server.")
    raise NotFound(f"“{name}” is not signed in on this device. Signed in: {listed}.")


async def find_chat(hs: HyperSend, name: str) -> Chat:
    """By id, @username (the direct chat, made where there is none), or title. Raises: NotFound."""
    if name.startswith("@"):
        wanted = name[1:].lower()
        for user in (await hs.users.find(wanted)).items:
            if (user.username or "").lower() == wanted:
                if hs.account is not None and user.id == hs.account.user_id:
                    return next(chat for chat in await all_chats(hs) if chat.kind == "saved")
                return await hs.chats.open_direct(user.id)
        for chat in await all_chats(hs):  # somebody whom one has blocked is not found, and may be written to
            if chat.peer is not None and (chat.peer.username or "").lower() == wanted:
                return chat
        raise NotFound(f"Nobody is called {name} on this server.")
    try:
        return await hs.chats.get(name)
    except ApiError as error:
        if error.status not in (400, 404, 422):
            raise
    chats = await all_chats(hs)
    exactly = [chat for chat in chats if chat.title == name]
    for found in (exactly, [chat for chat in chats if chat.title.casefold() == name.casefold()]):
        if len(found) == 1:
            return found[0]
        if found:
            listed = "\n".join(f"  {chat.id}  {clean(chat.title)}  ({chat.members_count} members)" for chat in found)
            raise NotFound(f"Several chats are called “{name}”. Give the id of the one that is meant:\n{listed}")
    raise NotFound(f"There is no chat “{name}”. `hypersend chats` lists them.")


async def all_chats(hs: HyperSend, *, archived: bool | None = None) -> list[Chat]:
    found: list[Chat] = []
    cursor: str | None = None
    while True:
        page = await hs.chats.page(archived=archived, limit=200, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


async def find_message(hs: HyperSend, message_id: str) -> Message | None:
    """A message by its id alone, in whichever chat: ids sort by time, so each chat is searched by halves."""
    for archived in (False, True):
        for chat in await all_chats(hs, archived=archived):
            newest = chat.last_message
            if newest is not None and newest.id == message_id:
                return newest
            if newest is not None and newest.id >= message_id:
                found = await _find_in(hs, chat, message_id)
                if found is not None:
                    return found
    return None


async def _find_in(hs: HyperSend, chat: Chat, message_id: str) -> Message | None:
    low, high = 0, chat.seq  # it is above `low` and not above `high`
    while low < high:
        middle = max(low, high - NEWEST) if high == chat.seq else (low + high) // 2
        items = (await hs.messages.page(chat.id, after_seq=middle, limit=NEWEST)).items
        for message in items:
            if message.id == message_id:
                return message
        if items and items[0].id <= message_id:
            if items[-1].id >= message_id or items[-1].seq >= high:
                return None  # it would stand between two of these
            low = items[-1].seq
        elif middle <= low:
            return None
        else:
            high = middle
    return None
