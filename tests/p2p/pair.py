"""Two people, a chat, an offer, and the two ends of a transfer as raw sockets."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.harness import Answer, Person, Server

FRAME = 65_536 + 25
KEY = base64.urlsafe_b64encode(bytes(range(32))).rstrip(b"=").decode()  # the same in every worker that collects tests


@dataclass
class Pair:
    asha: Person
    ben: Person
    chat_id: str

    async def offer(self, size: int = 1000, client_id: str = "k1", **fields: Any) -> dict[str, Any]:
        answer = await self.try_offer(size, client_id, **fields)
        assert answer.status == 201, answer.body
        return dict(answer.json)

    async def try_offer(self, size: int = 1000, client_id: str = "k1", **fields: Any) -> Answer:
        return await self.asha.post(
            "/p2p/send", {"chat_id": self.chat_id, "name": "film.mkv", "size": size, "client_id": client_id, **fields})

    async def accepted(self, size: int = 1000, **fields: Any) -> dict[str, Any]:
        offer = await self.offer(size, **fields)
        answer = await self.ben.post(f"/p2p/{offer['id']}/accept")
        assert answer.status == 200, answer.body
        return dict(answer.json)

    async def status(self, transfer_id: str) -> dict[str, Any]:
        return dict((await self.asha.get(f"/p2p/status/{transfer_id}")).json)

    async def until(self, transfer_id: str, status: str) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while (found := await self.status(transfer_id))["status"] != status:
                await asyncio.sleep(0.02)
        return found


async def pair(server: Server) -> Pair:
    asha, ben = await server.person("asha"), await server.person("ben")
    chat = (await asha.post("/chats", {"kind": "direct", "user_id": ben.id})).json
    return Pair(asha, ben, chat["id"])


class End:
    """A raw socket of one end."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse[Any]) -> None:
        self.ws = ws

    async def text(self) -> dict[str, Any]:
        """The next frame, which has to be text. Raises: ConnectionError with the close code."""
        found = await self.next()
        assert isinstance(found, dict), found
        return found

    async def next(self) -> dict[str, Any] | bytes:
        async with asyncio.timeout(30):  # of `receive` itself, every ping would begin the time anew
            message = await self.ws.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        if message.type is aiohttp.WSMsgType.TEXT:
            return dict(message.json())
        # A server that is gone by the time of our answer makes `close_code` 1006.
        raise ConnectionError(message.data if message.type is aiohttp.WSMsgType.CLOSE else self.ws.close_code)

    async def until(self, kind: str) -> dict[str, Any]:
        while True:
            found = await self.next()
            if isinstance(found, dict) and found["type"] == kind:
                return found

    async def closed(self) -> int:
        """The code that it is closed with, after whatever comes before."""
        try:
            while True:
                await self.next()
        except ConnectionError as error:
            return int(error.args[0])

    async def send(self, **frame: Any) -> None:
        await self.ws.send_json(frame)


async def end(person: Person, role: str, transfer_id: str, **options: Any) -> End:
    """Raises: aiohttp.WSServerHandshakeError."""
    url = f"{person.url.replace('http', 'ws', 1)}/api/v1/p2p/{role}/{transfer_id}"
    options.setdefault("headers", person.headers)
    return End(await person.http.ws_connect(url, compress=0, max_msg_size=0, **options))


async def meet(both: Pair, transfer_id: str) -> tuple[End, End, int]:
    """(sender, receiver, round), both of which know that the other is there."""
    sender = await end(both.asha, "sender", transfer_id)
    receiver = await end(both.ben, "receiver", transfer_id)
    found = []
    for each in (sender, receiver):  # whichever is served first hears of itself alone
        while not (frame := await each.until("peer"))["present"]:
            pass
        found.append(frame)
    assert found[0] == found[1]
    return sender, receiver, int(found[0]["round"])


async def begun(both: Pair, transfer_id: str) -> tuple[End, End, int]:
    """As `meet`, and the receiver has said that it is ready for all of it."""
    sender, receiver, number = await meet(both, transfer_id)
    await receiver.send(type="ready", round=number, key=KEY, offset=0)
    await sender.until("ready")
    return sender, receiver, number


async def push(sender: End) -> None:
    """Frames without end, as fast as they are taken."""
    while True:
        await sender.ws.send_bytes(bytes(FRAME))


async def fill(sender: End) -> tuple[asyncio.Task[None], int]:
    """Push until nothing moves any more: (the task, which pushes on where there is room again, bytes sent so far)."""
    sent = 0

    async def push() -> None:
        nonlocal sent
        while True:
            await sender.ws.send_bytes(bytes(FRAME))
            sent += FRAME

    pushing = asyncio.create_task(push())
    before = -1
    async with asyncio.timeout(60):
        while sent != before:
            before = sent
            await asyncio.sleep(0.5)
    return pushing, sent
