"""Two servers behind nginx are restarted, one after the other, while people write and upload: what an update is like.

    python -m tests.scale.rolling_restart

starts MongoDB's stand-in, Redis, two servers and nginx with the project's own configuration, and prints what became
of the messages and of the upload. For one's own servers the order is the same: stop one (SIGTERM: it closes its
sockets with 4012 and gives its lease back), start it, wait for /readyz, and go on with the next.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import aiohttp

from hypersend_client.sdk.transfers import Transfers
from tests.harness import PASSWORD, Server
from tests.mongo_server import MongoServer
from tests.redis_server import RedisServer
from tests.scale.deployment import Deployment
from tests.sdk.people import person, until, user_id

LONG_S = 120.0
PAUSE_S = 0.02
MIB = 1024 * 1024


class Outcome(NamedTuple):
    """sent: in order. received: those of them that the other person's app shows, as it shows them. restarts_s: how
    long each server was away. is_whole: whether the uploaded file has the bytes that were sent."""

    sent: list[str]
    received: list[str]
    restarts_s: list[float]
    is_whole: bool


async def rolling_restart(two: Deployment, folder: Path, size_bytes: int = 48 * MIB) -> Outcome:
    url = two.balance()
    source = folder / "film.bin"
    source.write_bytes(os.urandom(size_bytes))
    async with person(url, "alice") as alice, person(url, "bob") as bob:
        chat_id = (await alice.chats.open_direct(user_id(bob))).id
        sent: list[str] = []
        done = asyncio.Event()

        async def talk() -> None:
            while not done.is_set():
                sent.append(f"m{len(sent)}")
                await alice.outbox.put(chat_id, sent[-1])
                await asyncio.sleep(PAUSE_S)

        talking = asyncio.create_task(talk())
        transfers = Transfers(alice, folder / "transfers.sqlite", folder=folder / "Downloads")
        upload = await transfers.upload(source)
        clock, restarts_s = asyncio.get_running_loop().time, []
        for server in two.servers:
            began = clock()
            status = await asyncio.to_thread(server.stop)
            assert status == 0, f"the server ended with {status}"
            await asyncio.to_thread(server.start)  # until its /readyz is 200
            restarts_s.append(clock() - began)
        done.set()
        await talking
        file = await asyncio.wait_for(upload.wait(), LONG_S)
        await transfers.close()

        async def shown() -> list[str]:
            """As an app does that scrolls up: of a chat that was loaded anew only the end is here at first."""
            return [m.text for m in await bob.sync.history(chat_id, limit=1000) if m.text.startswith("m")]

        async def received() -> list[str]:
            return found if len(found := await shown()) >= len(sent) else []

        try:
            got = await until(bob, received, LONG_S)
        except TimeoutError:
            got = await shown()
        async with aiohttp.ClientSession() as http:
            again = await (await Server(http, url).login("alice@example.org", PASSWORD)).get(
                f"/files/{file.id}/download")
        is_whole = hashlib.sha256(again.body).digest() == hashlib.sha256(source.read_bytes()).digest()
        return Outcome(sent, got, restarts_s, is_whole)


def main() -> None:
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        mongo, redis = MongoServer(folder / "mongo"), RedisServer(folder / "redis")
        stack.callback(mongo.start().kill)
        stack.callback(redis.start().kill)
        outcome = asyncio.run(rolling_restart(stack.enter_context(Deployment(folder / "two", mongo, redis)), folder))
    lost = set(outcome.sent) - set(outcome.received)
    away = " and ".join(f"{seconds:.1f} s" for seconds in outcome.restarts_s)
    print(f"the servers were away for {away}, one after the other")
    print(f"{len(outcome.sent)} messages were written meanwhile: {len(lost)} lost,"
          f" {len(outcome.received) - len(set(outcome.received))} doubled,"
          f" {'in order' if outcome.received == outcome.sent else 'not in order'}")
    print(f"the upload that was under way is {'whole' if outcome.is_whole else 'broken'}")


if __name__ == "__main__":
    main()
