"""A process of its own that writes and edits: `python -m tests.metadata.mongo_writer URI NAME MESSAGES WRITERS`."""

from __future__ import annotations

import asyncio
import sys

from hypersend_server.metadata.chats import Chats, Draft
from hypersend_server.metadata.mongo import MongoMetadata

CHAT = "busy"
EDIT_EVERY = 5


async def write(chats: Chats, sender: str, prefix: str, count: int) -> None:
    """`count` messages one after the other; each fifth is edited afterwards."""
    for n in range(count):
        message_id = f"{prefix}-{n}"
        draft = Draft(id=message_id, chat_id=CHAT, sender_id=sender, client_id=message_id, text=f"text {n}", now=n + 1)
        await chats.append(draft, -1)
        if n % EDIT_EVERY == 0:
            await chats.edit(CHAT, message_id, sender, f"edited {n}", n + 2)


async def write_all(metadata: MongoMetadata, sender: str, messages: int, writers: int) -> None:
    share, rest = divmod(messages, writers)
    await asyncio.gather(*(
        write(metadata.chats, sender, f"{sender}-{number}", share + (number < rest)) for number in range(writers)))


async def main(uri: str, sender: str, messages: int, writers: int) -> None:
    metadata = MongoMetadata(uri, driver="pymongo")
    await metadata.open()
    await write_all(metadata, sender, messages, writers)
    await metadata.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
