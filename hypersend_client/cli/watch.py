"""`hypersend watch`: messages as they come, also those that came while the line was down, each once."""

from __future__ import annotations

import asyncio
from argparse import Namespace

from hypersend_client.cli.people import all_chats, find_chat
from hypersend_client.cli.screen import Screen, clean
from hypersend_client.cli.words import reason, size
from hypersend_client.sdk.client import HyperSend
from hypersend_client.sdk.errors import ApiError, HyperSendError, SignedOut
from hypersend_client.sdk.events import ChatGone, MessageReceived, Ready, Resync, StateChanged
from hypersend_client.sdk.models import Chat, Message


class _Watch:
    """_seen: the last `seq` of each chat that was shown."""

    def __init__(self, hs: HyperSend, screen: Screen, only: str | None) -> None:
        self._hs = hs
        self._screen = screen
        self._only = only
        self._seen: dict[str, int] = {}
        self._chats: dict[str, Chat] = {}
        self._names: dict[str, str] = {}

    async def begin(self) -> None:
        for chat in await self._all():
            self._chats[chat.id] = chat
            self._seen[chat.id] = chat.seq

    async def catch_up(self) -> None:
        """Show what came meanwhile."""
        for chat in await self._all():
            self._chats[chat.id] = chat
            while self._seen.get(chat.id, 0) < chat.seq:
                items = (await self._hs.messages.page(chat.id, after_seq=self._seen.get(chat.id, 0), limit=200)).items
                for message in items:
                    await self._show(message)
                if not items:
                    self._seen[chat.id] = chat.seq

    async def take(self, message: Message) -> None:
        if self._only is not None and message.chat_id != self._only:
            return
        seen = self._seen.get(message.chat_id)
        if seen is None or message.seq > seen + 1:
            await self.catch_up()
        await self._show(message)

    def gone(self, chat_id: str) -> None:
        self._seen.pop(chat_id, None)

    async def _all(self) -> list[Chat]:
        if self._only is not None:
            return [await self._hs.chats.get(self._only)]
        return [*await all_chats(self._hs, archived=False), *await all_chats(self._hs, archived=True)]

    async def _show(self, message: Message) -> None:
        if message.seq <= self._seen.get(message.chat_id, 0):
            return
        self._seen[message.chat_id] = message.seq
        if self._screen.json:
            self._screen.put(message.to_json())
            return
        if message.deleted_at is not None:
            return
        chat = self._chats.get(message.chat_id)
        time = message.created_at.astimezone().strftime("%H:%M") if message.created_at else "     "
        parts = [clean(message.text, one_line=False)] if message.text else []
        parts += [f"[{clean(file.name)}, {size(file.size)}: hypersend get {file.id}]" for file in message.files]
        if message.system is not None:
            parts.append("* " + clean(str(message.system.get("kind") or message.system.get("event") or "")))
        title = clean(chat.title) if chat is not None and self._only is None else ""
        who = await self._name(message.sender_id)
        head = f"{time} {title + ' ' if title and title != who else ''}{who}: "
        self._screen.out(head + ("\n" + " " * 6).join("\n".join(parts).splitlines()))

    async def _name(self, user_id: str | None) -> str:
        if user_id is None:
            return "*"
        if user_id not in self._names:
            try:
                user = await self._hs.users.get(user_id)
                self._names[user_id] = clean(user.display_name or user.username or user_id)
            except HyperSendError:
                return user_id
        return self._names[user_id]


async def watch(hs: HyperSend, options: Namespace, screen: Screen) -> int:
    only = (await find_chat(hs, options.chat)).id if options.chat else None
    watching = _Watch(hs, screen, only)
    await watching.begin()
    events = hs.connection.events()
    hs.connection.start()
    was_down = False
    async for event in events:
        try:
            match event:
                case MessageReceived():
                    await watching.take(event.message)
                case Ready() | Resync():
                    await watching.catch_up()
                    if was_down or not options.json:
                        screen.say("Connected." if was_down else "Watching; Ctrl-C ends it.")
                    was_down = False
                case ChatGone():
                    watching.gone(event.chat_id)
                case StateChanged(state="signed_out"):
                    raise event.error if event.error is not None else SignedOut("session_ended")
                case StateChanged(state="offline") if event.error is not None and not was_down:
                    was_down = True
                    screen.say(f"Connecting again: {reason(event.error)}.")
                case _:
                    pass
        except ApiError as error:
            if error.status == 404 and only is not None:
                raise
            if not error.retryable:
                raise
            await asyncio.sleep(1)
        except SignedOut:
            raise
        except HyperSendError:
            pass  # the connection says so too, and catches up when it is back
    return 1
