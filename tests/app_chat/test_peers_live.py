"""A file from device to device, between the app and another device, over the real server."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

from hypersend_client.app.state import AppState
from hypersend_client.sdk import HyperSend, MemoryTokenStore
from hypersend_client.sdk.transfers import Transfers
from tests.app.fakes import FakeMemory
from tests.app.stage import staged
from tests.harness import PASSWORD, running
from tests.sdk.people import person, user_id

MIB = 1024 * 1024
LIMIT_S = 60


async def test_the_app_takes_a_file_from_a_device_and_sends_one_back_that_goes_through_the_server(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(tmp_path / "server"))
        ann = await stack.enter_async_context(person(server.url, "ann"))
        movers = Transfers(ann, tmp_path / "ann.sqlite", folder=tmp_path / "ann")
        stack.push_async_callback(movers.close)
        async with HyperSend(server.url) as once:
            await once.register("bob@example.org", "bob", PASSWORD, display_name="Bob")
            bob_id = user_id(once)
        chat = await ann.chats.open_direct(bob_id)
        tokens = MemoryTokenStore()
        app = AppState(
            connect=lambda url: HyperSend(url, tokens=tokens, rand=lambda: 0.0), tokens=tokens, memory=FakeMemory(),
            built_in=server.url, transfers=lambda hs: Transfers(hs, tmp_path / "bob.sqlite", folder=tmp_path / "bob"),
        )  # fmt: skip
        stage = await stack.enter_async_context(staged(app))
        await stage.sees("sign-in")
        await app.sign_in("bob@example.org", PASSWORD)
        film = tmp_path / "film.mkv"
        film.write_bytes(os.urandom(3 * MIB))
        await stage.sees(f"chat-row-{chat.id}")
        await stage.go(f"/chat/{chat.id}")
        await stage.sees("composer")

        sending = await ann.p2p.send(chat.id, film)
        await stage.reads("Ann wants to send it to this device")
        await stage.click(f"peer-accept-{sending.transfer_id}")
        async with asyncio.timeout(LIMIT_S):
            await sending.wait()
        await stage.reads("3.1 MB · received")
        await stage.sees(f"peer-open-{sending.transfer_id}")
        assert (tmp_path / "bob" / "film.mkv").read_bytes() == film.read_bytes()

        await stage.go(f"/details/{chat.id}")
        await stage.sees("safety-number")
        assert sending.safety_number is not None
        await stage.reads(sending.safety_number)

        await stage.go(f"/chat/{chat.id}")
        back = tmp_path / "back.bin"
        back.write_bytes(os.urandom(2 * MIB))
        await app.peers.send(chat.id, str(back))
        await stage.reads("waiting for Ann to accept")
        [offer] = [view for view in app.peers.views if view.name == "back.bin"]
        await stage.click(f"peer-store-{offer.id}")
        await stage.click("confirm-yes")
        await stage.reads("It went on as a file on the server")

        async def arrived() -> bool:
            found = await ann.files.page(chat_id=chat.id, state="complete")
            return any(file.name == "back.bin" for file in found.items)

        async with asyncio.timeout(LIMIT_S):
            while not await arrived():
                await asyncio.sleep(0.2)
