"""One person's client, to be killed at any moment.

python -m tests.chaos.client HOME URL RUN PAUSE write     does things until it is killed, or all is calm (HOME/calm)
python -m tests.chaos.client HOME URL RUN PAUSE settle    as it is from then on

RUN: of this start alone; what it does follows from it. PAUSE: at most so many seconds between two things. Once it is
calm it sends what waits, stays until those beside it have nothing left to pass on either (HOME/settled), waits to be
told what they said, prints what it shows, and ends. It writes down, a line of HOME/….jsonl for each:

    attaching  files that are to go into a message, before they are uploaded
    said       messages that were put into the outbox, after that was safe
    failed     those that were refused for good
    editing    edits, and deletions for everyone, before they are asked for
    edited     those that were confirmed
    reacted    reactions that were confirmed
    read       how far chats were read, after that was safe
    passing    files that are to go to somebody's device, before they are offered
    passed     those that the other device is known to have
    odd        what was refused though nothing was wrong with it, and will not pass by itself
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

from hypersend_client.sdk import FileTokenStore, HyperSend, HyperSendError
from hypersend_client.sdk.models import Chat, Message
from hypersend_client.sdk.p2p_receiver import PeerReceiver
from hypersend_client.sdk.p2p_sender import PeerSender
from hypersend_client.sdk.transfers import Transfers
from hypersend_server.metadata.transfers import OPEN
from tests.chaos.checks import EDITED, Note

MIB = 1024 * 1024
SIZES = (*(0, 1, 70_000, 3 * MIB, 8 * MIB, 8 * MIB + 1, 11 * MIB) * 3, 33 * MIB)
SMALL_SIZES = (0, 1, 70_000)
PASSED_SIZES = (0, 1, 70_000, 1 * MIB + 1, 9 * MIB)
MOST_TO_PASS = 3
MOST_TO_FETCH = 2
TOLD_S = 10.0  # after which a client that runs shows what others said


def lines(path: Path) -> list[Note]:
    """Without the one that a killed process was writing."""
    found = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return found


def add_line(path: Path, **what: str | int) -> None:
    is_torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a") as file:
        file.write(("\n" if is_torn else "") + json.dumps(what) + "\n")


class Person:
    def __init__(
        self, home: Path, hs: HyperSend, transfers: Transfers, moments: random.Random, pause_s: float, run: str
    ) -> None:
        self.home = home
        self.hs = hs
        self.transfers = transfers
        self.moments = moments
        self.pause_s = pause_s
        self.run = run
        self.count = 0
        self.sending: dict[str, PeerSender] = {}
        self.receiving: dict[str, PeerReceiver] = {}
        self.is_resumed = False

    async def write(self) -> None:
        """Something that people do, and then the next."""
        actions = [self.say] * 12 + [self.send_file] * 2 + [
            self.edit, self.delete, self.react, self.read, self.fetch, self.offer_file]
        while not (self.home / "calm").exists():
            await asyncio.sleep(self.moments.uniform(0.005, self.pause_s))
            action = self.moments.choice(actions)
            try:
                await action()
            except HyperSendError as error:  # the network is bad: what was not confirmed is not counted
                self._wonder(action.__name__, error)

    def _wonder(self, what: str, error: HyperSendError) -> None:
        if not error.retryable and error.code != "message_deleted":
            add_line(self.home / "odd.jsonl", what=what, code=error.code, error=repr(error))

    async def chat(self, *kinds: str) -> str:
        return self.moments.choice(sorted(
            chat.id for chat in await self.hs.store.chats() if chat.kind in (kinds or ("direct", "group"))))

    async def say(self) -> None:
        await self._put(f"{self.home.name} {self.run}.{self.count}")

    def _file(self, folder: str, sizes: tuple[int, ...]) -> tuple[Path, str]:
        """A new one, and its SHA-256."""
        data = random.Random(f"{self.home.name} {self.run} {self.count}").randbytes(self.moments.choice(sizes))
        path = self.home / folder / f"{self.home.name}.{self.run}.{self.count}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path, hashlib.sha256(data).hexdigest()

    async def send_file(self) -> None:
        is_frugal = (self.home / "frugal").exists()  # the disk has no room for more large ones
        path, sha256 = self._file("sent", SMALL_SIZES if is_frugal else SIZES)
        chat_id = await self.chat()
        add_line(self.home / "attaching.jsonl", file=path.name)
        ref = await self.transfers.attach(path, chat_id=chat_id)
        await self._put(f"file {path.name}", chat_id, ref, sha256)

    async def _put(self, text: str, chat_id: str = "", ref: str = "", sha256: str = "") -> None:
        self.count += 1
        chat_id = chat_id or await self.chat()
        entry = await self.hs.outbox.put(chat_id, text, local_files=[ref] if ref else ())
        add_line(self.home / "said.jsonl", chat_id=chat_id, client_id=entry.client_id, text=text, sha256=sha256)

    async def _message(self, *kinds: str, mine: bool) -> Any:
        """One of those last said in a chat."""
        me = self.hs.account.user_id if self.hs.account else ""
        found = [message for message in await self.hs.store.messages(await self.chat(), limit=50)
                 if message.kind in (kinds or ("text", "file")) and message.deleted_at is None
                 and not (mine and message.sender_id != me)]
        return self.moments.choice(found) if found else None

    async def edit(self) -> None:
        if (message := await self._message("text", mine=True)) is not None:
            self.count += 1
            what = {"chat_id": message.chat_id, "client_id": message.client_id,
                    "text": f"{message.text.partition(EDITED)[0]}{EDITED}{self.run}.{self.count})"}
            add_line(self.home / "editing.jsonl", **what)
            edited = await self.hs.messages.edit(message.chat_id, message.id, what["text"])
            add_line(self.home / "edited.jsonl", **what, rev=edited.rev)

    async def delete(self) -> None:
        if (message := await self._message("text", mine=True)) is not None:
            what = {"chat_id": message.chat_id, "client_id": message.client_id, "text": ""}
            add_line(self.home / "editing.jsonl", **what)
            await self.hs.messages.delete(message.chat_id, message.id, for_everyone=True)
            add_line(self.home / "edited.jsonl", **what, rev=message.rev)

    async def react(self) -> None:
        if (message := await self._message(mine=False)) is not None:
            emoji = self.moments.choice("👍🎉😮")
            await self.hs.messages.react(message.chat_id, message.id, emoji)
            add_line(self.home / "reacted.jsonl", chat_id=message.chat_id, client_id=message.client_id, emoji=emoji,
                     user_id=self.hs.account.user_id)

    async def read(self) -> None:
        chat_id = await self.chat()
        if (chat := await self.hs.store.chat(chat_id)) is not None:
            await self.hs.sync.mark_read(chat_id, chat.seq)
            add_line(self.home / "read.jsonl", chat_id=chat_id, seq=chat.seq)

    async def fetch(self) -> None:
        under_way = [download for download in self.transfers.downloads.values() if not download.ended]
        if len(under_way) < MOST_TO_FETCH and (message := await self._message("file", mine=False)) is not None:
            await self.transfers.download(message.files[0])

    # From device to device

    def to_pass(self) -> list[Note]:
        passed = {line["file"] for line in lines(self.home / "passed.jsonl")}
        return [line for line in lines(self.home / "passing.jsonl") if line["file"] not in passed]

    async def offer_file(self) -> None:
        if len(self.to_pass()) < MOST_TO_PASS:
            path, sha256 = self._file("passed", PASSED_SIZES)
            self.count += 1
            chat = await self.hs.store.chat(await self.chat("direct"))
            if chat is not None and chat.peer is not None:
                add_line(self.home / "passing.jsonl", chat_id=chat.id, to=str(chat.peer.username), file=str(path),
                         sha256=sha256)

    async def pass_on(self) -> None:
        """Offer what is to go, again where it came to nothing, and take what is offered."""
        while True:
            try:
                await self._pass_once()
            except HyperSendError as error:
                self._wonder("pass on", error)
            await asyncio.sleep(0.5)

    async def _pass_once(self) -> None:
        for line in self.to_pass():
            path = line["file"]
            end = self.sending.get(path)
            if end is None:
                self.sending[path] = await self.hs.p2p.send(line["chat_id"], path)
            elif end.ended:
                del self.sending[path]
                await end.wait()
                add_line(self.home / "passed.jsonl", file=path, transfer_id=end.transfer_id)
        if not self.is_resumed:  # after those to send: one whose offer was not answered is offered again as it was
            for resumed in await self.hs.p2p.resume():
                if isinstance(resumed, PeerReceiver):
                    self.receiving[resumed.transfer_id] = resumed
            self.is_resumed = True
        me = self.hs.account.user_id if self.hs.account else ""
        for transfer_id, receiver in list(self.receiving.items()):
            if receiver.ended:
                del self.receiving[transfer_id]
        for info in await self.hs.p2p.open():
            if info.receiver_id == me and info.id not in self.receiving:
                self.receiving[info.id] = await self.hs.p2p.receive(info.id, self.home / "received")

    # At the end

    async def settle(self) -> dict[str, Any]:
        """Everything is sent and known; what is shown now."""
        while entries := await self.hs.outbox.entries():
            for entry in entries:
                if entry.state == "failed":
                    add_line(self.home / "failed.jsonl", client_id=entry.client_id, code=entry.code,
                             detail=entry.detail)
                    await self.hs.outbox.retry(entry.client_id)
            await asyncio.sleep(0.2)
        while self.to_pass() or not self.is_resumed:
            await asyncio.sleep(0.2)
        me = self.hs.account.user_id if self.hs.account else ""
        for info in await self.hs.p2p.open():
            if info.sender_id == me:  # offered by a process that was killed before it could note that
                await self.hs.p2p.cancel(info.id)
        (self.home / "settled").touch()
        while not all((home.parent / "settled").exists() for home in self.home.parent.glob("*/accounts.json")):
            await asyncio.sleep(0.2)
        while not all(receiver.ended for receiver in self.receiving.values()):
            await asyncio.sleep(0.2)
        await self.hs.sync.wait_current()
        await asyncio.sleep(TOLD_S)
        shown = await self._shown()
        # A server that was killed between a transfer's end and its message lets that show it within half a minute.
        while any(message.transfer and message.transfer["status"] in OPEN for _, page in shown for message in page):
            await asyncio.sleep(0.5)
            shown = await self._shown()
        return {chat.id: {
            "seq": chat.seq,
            "messages": [[m.seq, m.rev, m.client_id, m.text, sorted((r.emoji, sorted(r.user_ids))
                          for r in m.reactions), [f.id for f in m.files], m.sender_id] for m in page]}
                for chat, page in shown}

    async def _shown(self) -> list[tuple[Chat, list[Message]]]:
        """All chats with all their messages. As an app does that scrolls up: of a chat that was loaded anew only the
        end is here at first."""
        shown = []
        for chat in await self.hs.store.chats():
            page: list[Message] = []
            while older := await self.hs.sync.history(chat.id, before_seq=page[0].seq if page else None, limit=1000):
                page = [*older, *page]
            shown.append((chat, page))
        return shown


async def main(home: Path, url: str, run: str, pause: str, what: str) -> None:
    moments = random.Random(f"{home.name} {run}")
    async with HyperSend(url, tokens=FileTokenStore(home / "accounts.json"), cache_dir=home) as hs:
        transfers = Transfers(hs, home / "transfers.sqlite", folder=home / "Downloads")
        hs.uploads = transfers
        hs.p2p.direct = False  # past the line, and with it past what happens to the line
        person = Person(home, hs, transfers, moments, float(pause), run)
        passing = asyncio.create_task(person.pass_on())
        try:
            await hs.start()
            await transfers.resume()
            if what == "write":
                await hs.sync.wait_current()
                await person.write()
            shown = await person.settle()
            for download in transfers.all:
                await download.wait()
            print(json.dumps(shown))
        finally:
            passing.cancel()
            await transfers.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:6]))
