"""Fills a stopped server's database through its own metadata module: a million messages one by one over HTTP would
take an hour, and leave the same rows. Each message goes through the function that a sent one goes through, many to a
transaction, and the search index is brought up to date as the server does it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from hypersend_server.auth.tokens import AccessTokens
from hypersend_server.chats.cursors import encode
from hypersend_server.clock import Ids, system_clock
from hypersend_server.keys import load_secret_key
from hypersend_server.metadata.accounts import NewSession, NewUser, SessionRecord
from hypersend_server.metadata.chats import Draft, SyncPosition
from hypersend_server.metadata.sqlite import FILE_NAME, SqliteMetadata
from hypersend_server.metadata.sqlite.chats_messages import append
from hypersend_server.metadata.sqlite.engine import Tx

BATCH = 2000  # messages a transaction
COMMON = "tomorrow"
"""Stands in every second message."""
_WORDS = 5000


class Words:
    """Texts of 4 to 20 made-up words, a few of which are frequent, as in a language."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        letters = "abcdefghijklmnoprstuvwz"
        self._words = ["".join(self._random.choices(letters, k=self._random.randint(3, 9))) for _ in range(_WORDS)]
        self._weights = [1 / (n + 5) for n in range(_WORDS)]

    def text(self) -> str:
        words = self._random.choices(self._words, self._weights, k=self._random.randint(4, 20))
        if self._random.random() < 0.5:
            words[self._random.randrange(len(words))] = COMMON
        return " ".join(words)


class Filling:
    def __init__(self, metadata: SqliteMetadata, words: Words) -> None:
        self._metadata = metadata
        self._words = words
        self.new_id = Ids(system_clock)

    async def people(self, names: Iterable[str]) -> None:
        """Accounts that nobody can sign in to, with their names as ids, each with a session of the same name."""
        await asyncio.gather(*(self._metadata.accounts.create_user(
            NewUser(id=name, email=f"{name}@example.org", email_key=f"{name}@example.org", username=name,
                    display_name=name.title(), name_key=name, password_hash="none"),
            now_ms=system_clock(), session=NewSession(id=name, user_id=name, device="", ip="", salt=bytes(16)))
            for name in names))

    async def tokens(self, names: Sequence[str]) -> list[str]:
        """Access tokens of these people, as signing in gives them, but without the time that a password takes."""
        identity = await self._metadata.server.identity()
        issuer = AccessTokens(load_secret_key("", self._metadata.path.parent), identity.server_id, system_clock)
        now = system_clock()
        return [issuer.issue(SessionRecord(
            id=name, user_id=name, device="", ip="", salt=bytes(16), generation=1, rotated_at=now, used_at=None,
            device_key=None, created_at=now, last_seen_at=now, ended_at=None), now) for name in names]

    async def direct(self, one: str, others: Sequence[str]) -> list[str]:
        """The ids of new direct chats of one person with each of the others."""
        return [made[0] for made in await asyncio.gather(*(
            self._metadata.chats.create_direct(one, other, self.new_id(), system_clock()) for other in others))]

    async def knows_all(self, user_id: str) -> str:
        """The /sync token of a device that has caught up; with 10,000 chats that takes a hundred pages."""
        page = await self._metadata.chats.sync(SyncPosition("", user_id, 0), 1)
        return encode(SyncPosition(page.position.epoch, user_id, page.position.upto or page.position.at))

    async def say(self, places: Sequence[tuple[str, str]], rare: dict[int, str] | None = None) -> None:
        """A message for each (chat, sender), in this order. rare: texts for some of them, by their place."""
        rare = rare or {}
        for start in range(0, len(places), BATCH):
            drafts = [
                Draft(id=(message_id := self.new_id()), chat_id=chat_id, sender_id=sender_id, client_id=message_id,
                      text=rare.get(n) or self._words.text(), now=system_clock())
                for n, (chat_id, sender_id) in enumerate(places[start:start + BATCH], start)]

            def job(tx: Tx, drafts: list[Draft] = drafts) -> None:
                for draft in drafts:
                    append(tx, draft, 1)

            await self._metadata.engine.write(job, durable=False)
        await self._metadata.chats.index_search()


@asynccontextmanager
async def filling(data_root: Path, words: Words) -> AsyncIterator[Filling]:
    """No server may have the folder open."""
    metadata = SqliteMetadata(data_root / FILE_NAME, new_id=Ids(system_clock))
    await metadata.open()
    try:
        yield Filling(metadata, words)
    finally:
        await metadata.close()
