"""Two people with a device each, in a chat, over a real server and a network of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hypersend_client.sdk.p2p_calls import PeerTransfer
from hypersend_client.sdk.p2p_receiver import PeerReceiver
from hypersend_client.sdk.p2p_sender import PeerSender
from tests.sdk_transfers.device import Device, device

LIMIT_S = 60.0


@dataclass
class Pair:
    asha: Device
    ben: Device
    chat_id: str

    async def begin(self, path: Path) -> tuple[PeerSender, PeerReceiver]:
        """Asha sends, Ben receives."""
        sending = await self.asha.hs.p2p.send(self.chat_id, path)
        return sending, await self.ben.hs.p2p.receive(sending.transfer_id)

    async def status(self, transfer_id: str) -> PeerTransfer:
        return await self.ben.hs.p2p.calls.get(transfer_id)


@asynccontextmanager
async def pair(home: Path, asha_url: str, ben_url: str, *, direct: bool = False) -> AsyncIterator[Pair]:
    home.mkdir(exist_ok=True)
    async with (
        device(home / "asha", asha_url, "asha") as asha,
        device(home / "ben", ben_url, "ben") as ben,
    ):
        asha.hs.p2p.direct = ben.hs.p2p.direct = direct
        account = ben.hs.account
        assert account is not None
        chat = await asha.hs.chats.open_direct(account.user_id)
        yield Pair(asha, ben, chat.id)


async def both(sending: PeerSender, receiving: PeerReceiver) -> Path:
    """Until both have ended; where the file is."""
    async with asyncio.timeout(LIMIT_S):
        _, path = await asyncio.gather(sending.wait(), receiving.wait())
    return path


async def until(condition: object) -> None:
    """condition: called until it says yes."""
    assert callable(condition)
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.01)
