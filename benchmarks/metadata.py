"""Messages a second into the metadata store alone: SQLite beside MongoDB.

    .venv/bin/python -m benchmarks.metadata [--messages 2000] [--writers 50] [--mongodb-uri URI]

Without a URI the stand-in of the tests (`secantusdb`) is started. It is there for correctness: its figures say what
HyperSend costs around it, and nothing about MongoDB.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from pathlib import Path

from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.chats import Draft
from hypersend_server.metadata.conformance.chats_people import group, people
from hypersend_server.metadata.mongo import MongoMetadata
from hypersend_server.metadata.sqlite import FILE_NAME, SqliteMetadata
from tests.mongo_server import MongoServer


async def measure(metadata: Metadata, messages: int, writers: int) -> tuple[float, float, float]:
    """(messages a second by one writer, by all in one group, by all in pairs)."""
    await metadata.open()
    try:
        names = [f"p{n}" for n in range(writers)]
        await people(metadata, *names)
        await group(metadata.chats, names[0], *names[1:], chat_id="all")
        for n in range(0, writers - 1, 2):
            await metadata.chats.create_direct(names[n], names[n + 1], f"pair{n}", 1)

        async def write(sender: str, chat_id: str, count: int) -> None:
            for n in range(count):
                message_id = f"{chat_id}-{sender}-{n}-{count}"
                await metadata.chats.append(
                    Draft(id=message_id, chat_id=chat_id, sender_id=sender, client_id=message_id, text="x" * 100,
                          now=n + 1), -1)

        async def timed(*plan: tuple[str, str, int]) -> float:
            began = time.perf_counter()
            await asyncio.gather(*(write(*one) for one in plan))
            return sum(count for _, _, count in plan) / (time.perf_counter() - began)

        each = messages // writers
        return (
            await timed((names[0], "pair0", max(50, messages // 10))),
            await timed(*((name, "all", each) for name in names)),
            await timed(*((name, f"pair{n - n % 2}", each + 1) for n, name in enumerate(names[: writers // 2 * 2]))))
    finally:
        await metadata.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--writers", type=int, default=50)
    parser.add_argument("--mongodb-uri", default="")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        stand_in = None if arguments.mongodb_uri else MongoServer(root / "mongo").start()
        uri = arguments.mongodb_uri or (stand_in.fresh_uri() if stand_in else "")
        named = "the stand-in for MongoDB" if stand_in else "MongoDB"
        try:
            print(f"messages/s, {arguments.writers} writers: one writer / all in one group / all in pairs")
            for name, metadata in (
                ("SQLite", SqliteMetadata(root / FILE_NAME)),
                (f"{named}, over motor", MongoMetadata(uri)),
                (f"{named}, over pymongo", MongoMetadata(uri + "&appName=b" if not stand_in else stand_in.fresh_uri(),
                                                         driver="pymongo")),
            ):
                figures = asyncio.run(measure(metadata, arguments.messages, arguments.writers))
                print(f"{name}: " + " / ".join(f"{figure:.0f}" for figure in figures), flush=True)
        finally:
            if stand_in is not None:
                stand_in.stop()


if __name__ == "__main__":
    main()
