"""A conversation without a server: the store is the real one, the messages are kept here and sent as they would be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypersend_client.sdk import Chat, Entry, Member, Message, User
from hypersend_client.sdk.events import MessageChanged, MessageReceived, StateChanged
from hypersend_client.sdk.models import File, Page, Reaction
from hypersend_client.sdk.store import Store
from tests.app.fakes import ANN, ME, FakeClient, FakeOutbox, FakeSync, World
from tests.app.stage import Stage, staged

BEGAN = datetime(2026, 3, 1, 8, tzinfo=UTC)
APART = timedelta(minutes=7)


class Sync(FakeSync):
    """Reads the store, then what the house keeps."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self._house = house

    async def history(self, chat_id: str, *, before_seq: int | None = None, limit: int = 100) -> list[Message]:
        store = self._house.store
        found = await store.messages(chat_id, before_seq=before_seq, limit=limit)
        low = await store.low_seq(chat_id) or 1
        if len(found) >= limit or low <= 1:
            return found
        page = self._house.page(chat_id, before_seq=low, limit=limit).items
        await store.write(lambda w: w.older(chat_id, page, page[0].seq if len(page) == limit else 1))
        return await self.history(chat_id, before_seq=before_seq, limit=limit)

    async def members(self, chat_id: str, *, fresh: bool = False) -> list[Member]:
        return await self._house.store.members(chat_id)

    async def mark_read(self, chat_id: str, seq: int) -> None:
        await self._house.store.write(lambda w: w.read(chat_id, ME.id, seq))


class Outbox(FakeOutbox):
    """Online, what is put goes out at once; offline it waits; `refuse` makes it fail."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self._house = house
        self.refuse = ""

    async def put(self, chat_id: str, text: str = "", *, reply_to: str | None = None,
                  forward: tuple[str, str] | None = None, **more: Any) -> Entry:  # fmt: skip
        body = {"client_id": f"out-{len(self._house.sent)}", "text": text, "reply_to": reply_to, "forward": forward}
        entry = Entry(
            chat_id, str(body["client_id"]), {k: v for k, v in body.items() if v}, (), "queued", "", "",
            datetime.now(UTC),
        )  # fmt: skip
        self._house.sent.append(entry)
        self.waiting.append(entry)
        await self._changed(chat_id)
        if self._house.client.connection.state == "online":
            await self.go_out()
        return entry

    async def go_out(self) -> None:
        for entry in list(self.waiting):
            if self.refuse:
                self.waiting[self.waiting.index(entry)] = replace(entry, state="failed", code=self.refuse)
                await self._changed(entry.chat_id)
                continue
            self.waiting.remove(entry)
            forward = entry.body.get("forward")
            origin = self._house.find(*forward) if forward else None
            text = origin.text if origin is not None else entry.text
            await self._house.say(
                entry.chat_id, text, sender_id=ME.id, client_id=entry.client_id, reply_to=entry.body.get("reply_to")
            )
            await self._changed(entry.chat_id)

    async def retry(self, client_id: str) -> None:
        self.waiting = [replace(e, state="queued", code="") if e.client_id == client_id else e for e in self.waiting]
        await self.go_out()

    async def discard(self, client_id: str) -> bool:
        gone = [e for e in self.waiting if e.client_id == client_id]
        self.waiting = [e for e in self.waiting if e.client_id != client_id]
        for entry in gone:
            await self._changed(entry.chat_id)
        return bool(gone)

    async def _changed(self, chat_id: str) -> None:
        await self._house.store.write(lambda w: w.changes.outbox.add(chat_id))


class House(World):
    """kept: messages by chat. sent: what was put into the outbox, in order."""

    def __init__(self, **answers: Any) -> None:
        super().__init__(**answers)
        self.kept: dict[str, list[Message]] = {}
        self.sent: list[Entry] = []
        self.answers.setdefault("messages.page", self.page)
        self.answers.setdefault("messages.edit", self._edit)
        self.answers.setdefault("messages.react", lambda *a: self._react(*a, on=True))
        self.answers.setdefault("messages.unreact", lambda *a: self._react(*a, on=False))
        self.answers.setdefault("messages.delete", self._delete)
        self.answers.setdefault("users.get", ANN)
        self.answers.setdefault("chats.get", lambda chat_id: None)

    def _connect(self, url: str) -> FakeClient:
        client = super()._connect(url)
        client.sync, client.outbox = Sync(self), Outbox(self)
        return client

    @property
    def store(self) -> Store:
        return self.client.store

    @property
    def outbox(self) -> Outbox:
        found = self.client.outbox
        assert isinstance(found, Outbox)
        return found

    async def furnish(
        self, chat_id: str = "c-1", *, count: int = 0, unread: int = 0, members: tuple[User, ...] = (), **more: Any
    ) -> Chat:
        """A chat with so many messages of Ann's; the last `unread` are not read."""
        kind = more.pop("kind", "direct")
        self.kept[chat_id] = [self._line(chat_id, n, f"line {n}") for n in range(1, count + 1)]
        last = self.kept[chat_id][-1] if count else None
        chat = Chat(
            chat_id, kind=kind, peer=ANN if kind == "direct" else None, seq=count, rev=count, last_message=last,
            unread=unread, read_seq=count - unread, created_at=BEGAN,
            updated_at=last.created_at if last is not None else BEGAN,
            **{"title": "", "members_count": len(members) or 2, **more},
        )  # fmt: skip
        people = [Member(user, role="owner" if user is ME else "member") for user in (*members, ME, ANN)]

        def work(writer: Any) -> None:
            writer.chat(chat)
            writer.members(chat_id, people)
            writer.older(chat_id, self.kept[chat_id][-200:], max(1, count - 199))

        await self.store.write(work)
        return chat

    def _line(self, chat_id: str, seq: int, text: str, sender_id: str = ANN.id, **more: Any) -> Message:
        return Message(
            f"m-{chat_id}-{seq}", chat_id, seq, seq, sender_id=sender_id, text=text, created_at=BEGAN + seq * APART,
            **more,
        )  # fmt: skip

    def page(
        self, chat_id: str, *, before_seq: int | None = None, after_seq: int | None = None, limit: int = 100
    ) -> Page[Message]:
        kept = self.kept[chat_id]
        if after_seq is not None:
            return Page(kept[after_seq : after_seq + limit], None)
        end = len(kept) if before_seq is None else min(before_seq - 1, len(kept))
        return Page(kept[max(0, end - limit) : end], None)

    def find(self, chat_id: str, message_id: str) -> Message | None:
        return next((message for message in self.kept[chat_id] if message.id == message_id), None)

    async def say(self, chat_id: str, text: str, *, sender_id: str = ANN.id, **more: Any) -> Message:
        """A message comes in."""
        message = self._line(chat_id, len(self.kept[chat_id]) + 1, text, sender_id, **more)
        rev = max((m.rev for m in self.kept[chat_id]), default=0) + 1
        message = replace(message, rev=rev)
        self.kept[chat_id].append(message)
        await self.store.write(lambda w: w.message(message, live=True))
        self.client.connection.happen(MessageReceived(message))
        return message

    def _change(self, chat_id: str, message_id: str, **fields: Any) -> Message:
        kept = self.kept[chat_id]
        place = next(i for i, message in enumerate(kept) if message.id == message_id)
        rev = max(m.rev for m in kept) + 1
        kept[place] = message = replace(kept[place], rev=rev, **fields)

        async def tell() -> None:
            await self.store.write(lambda w: w.message(message, live=True))
            self.client.connection.happen(MessageChanged(message))

        self.app.spawn(tell())
        return message

    def _edit(self, chat_id: str, message_id: str, text: str) -> Message:
        return self._change(chat_id, message_id, text=text, edited_at=datetime.now(UTC))

    def _delete(self, chat_id: str, message_id: str, *, for_everyone: bool = False) -> None:
        if for_everyone:
            self._change(chat_id, message_id, text="", files=[], deleted_at=datetime.now(UTC))
        else:
            self.app.spawn(self.store.write(lambda w: w.hidden(chat_id, message_id)))

    def _react(self, chat_id: str, message_id: str, emoji: str, *, on: bool) -> Message:
        message = self.find(chat_id, message_id)
        assert message is not None
        others = [r for r in message.reactions if r.emoji != emoji]
        return self._change(chat_id, message_id, reactions=[*others, *([Reaction(emoji, [ME.id])] if on else [])])

    def go_online(self) -> None:
        self.client.connection.happen(StateChanged("online"))
        self.client.sync.become("current")


def picture(number: int, name: str = "") -> File:
    return File(
        f"f-{number}", name=name or f"picture {number}.png", size=40_000 + number, mime="image/png", state="complete",
        width=800, height=600, preview_url=f"/files/f-{number}/preview",
    )  # fmt: skip


@asynccontextmanager
async def lived_in(*, width: float = 400, height: float = 850, **answers: Any) -> AsyncIterator[tuple[House, Stage]]:
    """Signed in, online, with no chat yet."""
    house = House(**answers)
    from tests.app.fakes import ACCOUNT

    await house.tokens.put(ACCOUNT)
    async with staged(house.app, width=width, height=height) as stage:
        await stage.until(lambda: house.app.session.status == "signed_in")
        house.go_online()
        await asyncio.sleep(0)
        yield house, stage
