"""One person's client, to be killed at any moment.

python -m tests.chaos.client HOME URL SEED write     does things until it is killed
python -m tests.chaos.client HOME URL SEED settle    sends what waits, catches up, prints what it shows, and ends

HOME/said.jsonl has a line for every message that was put into the outbox, written after that was safe.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from hypersend_client.sdk import FileTokenStore, HyperSend, HyperSendError
from hypersend_client.sdk.transfers import Transfers

MIB = 1024 * 1024
SIZES = (0, 1, 70_000, 3 * MIB, 8 * MIB, 8 * MIB + 1, 11 * MIB)


class Person:
    def __init__(self, home: Path, hs: HyperSend, transfers: Transfers, moments: random.Random) -> None:
        self.home = home
        self.hs = hs
        self.transfers = transfers
        self.moments = moments
        self.count = 0

    async def write(self) -> None:
        """Something that people do, and then the next."""
        actions = [self.say] * 12 + [self.send_file] * 2 + [self.edit, self.react, self.read, self.fetch]
        while True:
            await asyncio.sleep(self.moments.uniform(0.005, 0.2))
            try:
                await self.moments.choice(actions)()
            except HyperSendError:
                pass  # the network is bad: what was not confirmed is not counted

    async def chat(self) -> str:
        return self.moments.choice(sorted(chat.id for chat in await self.hs.store.chats() if chat.kind != "saved"))

    async def say(self) -> None:
        await self._put(f"{self.home.name} {os.getpid()}.{self.count}")

    async def send_file(self) -> None:
        data = random.Random(f"{self.home.name} {os.getpid()} {self.count}").randbytes(self.moments.choice(SIZES))
        path = self.home / f"{os.getpid()}.{self.count}.bin"
        path.write_bytes(data)
        chat_id = await self.chat()
        ref = await self.transfers.attach(path, chat_id=chat_id)
        await self._put(f"file {path.name}", chat_id, ref, hashlib.sha256(data).hexdigest())

    async def _put(self, text: str, chat_id: str = "", ref: str = "", sha256: str = "") -> None:
        self.count += 1
        chat_id = chat_id or await self.chat()
        entry = await self.hs.outbox.put(chat_id, text, local_files=[ref] if ref else ())
        with (self.home / "said.jsonl").open("a") as said:
            said.write(json.dumps(
                {"chat_id": chat_id, "client_id": entry.client_id, "text": text, "sha256": sha256}) + "\n")

    async def _message(self, *, mine: bool) -> Any:
        me = self.hs.account.user_id if self.hs.account else ""
        found = [message for message in await self.hs.store.messages(await self.chat(), limit=50)
                 if message.kind in ("text", "file") and not (mine and message.sender_id != me)]
        return self.moments.choice(found) if found else None

    async def edit(self) -> None:
        if (message := await self._message(mine=True)) is not None and message.kind == "text":
            await self.hs.messages.edit(message.chat_id, message.id, f"{message.text} (edited)")

    async def react(self) -> None:
        if (message := await self._message(mine=False)) is not None:
            await self.hs.messages.react(message.chat_id, message.id, self.moments.choice("👍🎉😮"))

    async def read(self) -> None:
        chat_id = await self.chat()
        if (chat := await self.hs.store.chat(chat_id)) is not None:
            await self.hs.sync.mark_read(chat_id, chat.seq)

    async def fetch(self) -> None:
        message = await self._message(mine=False)
        if message is not None and message.files:
            await self.transfers.download(message.files[0])

    async def settle(self) -> dict[str, Any]:
        """Everything is sent and known; what is shown now."""
        while entries := await self.hs.outbox.entries():
            for entry in entries:
                if entry.state == "failed":
                    await self.hs.outbox.retry(entry.client_id)
            await asyncio.sleep(0.2)
        await self.hs.sync.wait_current()
        shown = {}
        for chat in await self.hs.store.chats():
            page: list[Any] = []
            while True:
                before = page[0].seq if page else None
                # As an app does that scrolls up: of a chat that was loaded anew only the end is here at first.
                older = await self.hs.sync.history(chat.id, before_seq=before, limit=1000)
                if not older:
                    break
                page = [*older, *page]
            shown[chat.id] = {
                "seq": chat.seq,
                "messages": [[m.seq, m.rev, m.client_id, m.text, sorted((r.emoji, sorted(r.user_ids))
                              for r in m.reactions), [f.id for f in m.files]] for m in page]}
        return shown


async def main(home: Path, url: str, seed: str, what: str) -> None:
    moments = random.Random(f"{seed} {os.getpid()}")
    async with HyperSend(url, tokens=FileTokenStore(home / "accounts.json"), cache_dir=home) as hs:
        transfers = Transfers(hs, home / "transfers.sqlite", folder=home / "Downloads")
        hs.uploads = transfers
        try:
            await hs.start()
            await transfers.resume()
            person = Person(home, hs, transfers, moments)
            if what == "write":
                await hs.sync.wait_current()
                await person.write()
            shown = await person.settle()
            for download in transfers.all:
                await download.wait()
            print(json.dumps(shown))
        finally:
            await transfers.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:5]))
