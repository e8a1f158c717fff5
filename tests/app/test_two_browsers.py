"""Two people, each with a browser of their own: registering, chatting, a large file, a cut line, signing out.

`HYPERSEND_BIG=1` sends 1 GiB in place of 64 MiB.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from pathlib import Path

from playwright.async_api import Frame, Page

from hypersend_client.sdk import HyperSend
from tests.app.driver import Screen
from tests.harness import PASSWORD
from tests.web.chromium import choose_files, chromium
from tests.web.relay import relay
from tests.web.site import site

MIB = 1024 * 1024
SIZE = 1024 * MIB if os.environ.get("HYPERSEND_BIG") == "1" else 64 * MIB
TRANSFER_MS = 600_000


def make(path: Path, size: int) -> str:
    """A file of noise; answers its digest."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            part = os.urandom(min(MIB, size - start))
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def upload_page(page: Page) -> Frame:
    """The frame that sends files, once it is there."""
    await page.locator("iframe").first.wait_for(state="attached", timeout=60_000)
    async with asyncio.timeout(60):
        while not (frames := [frame for frame in page.frames if "/upload" in frame.url]):
            await page.wait_for_timeout(50)
    return frames[0]


async def write(screen: Screen, text: str) -> None:
    await screen.fill("composer", text)
    await screen.page.keyboard.press("Enter")


async def test_two_people_register_chat_send_a_large_file_lose_the_line_and_sign_out(tmp_path: Path) -> None:
    film = tmp_path / "Our film.mkv"
    digest = await asyncio.to_thread(make, film, SIZE)
    async with site(tmp_path / "server") as server, relay(server.url) as line, chromium() as browser:
        ann = await Screen.open(browser, line.url, width=1280, height=800)
        bo = await Screen.open(browser, server.url)
        await ann.register("ann", "Ann Lee")
        await bo.register("bodhi", "Bodhi Sharma")
        await asyncio.gather(ann.sees("start-chat"), bo.sees("start-chat"))

        await ann.go("/new")
        await ann.fill("find-people", "bodhi")
        await ann.click("user-bodhi")
        await ann.sees("composer")
        await write(ann, "The film is ready")
        await ann.reads("The film is ready. Delivered")
        await bo.reads("Ann Lee, The film is ready")
        async with HyperSend(server.url) as device:
            await device.login("bodhi@example.org", PASSWORD)
            chat = await device.chats.open_direct((await device.users.find("ann")).items[0].id)
            await bo.go(f"/chat/{chat.id}")
            await bo.sees("composer")
            await ann.reads("The film is ready. Read")

            await ann.click("attach")
            await ann.click("attach-file")
            frame = await upload_page(ann.page)
            await choose_files(frame, film)
            await frame.locator("li.done").wait_for(timeout=TRANSFER_MS)
            await bo.reads("Our film.mkv")
            (message,) = [m for m in (await device.messages.page(chat.id)).items if m.files]
        async with bo.page.expect_download(timeout=60_000) as download:
            await bo.click(f"file-{message.files[0].id}")
        saved = await (await download.value).path()
        assert await asyncio.to_thread(digest_of, Path(saved)) == digest

        assert ann.watched.errors + bo.watched.errors == []
        line.cut()
        await bo.fill("composer", "")
        await write(bo, "Got it while you were away")
        line.is_down = False
        await ann.reads("Got it while you were away")
        await write(ann, "Back again")
        await bo.reads("Back again")

        await bo.go("/settings")
        await bo.click("sign-out")
        await bo.click("confirm-yes")
        await bo.sees("sign-in")
        await bo.page.reload()
        await bo.see_semantics()
        await bo.sees("sign-in")
        assert bo.watched.errors == []
        assert bo.watched.foreign(server.url) == []
        # The cut line is the only thing that may have been complained about: a bare exception of Flet's socket.
        assert [error for error in ann.watched.errors if not re.search("^Exception$|WebSocket|ERR_", error)] == []
        assert ann.watched.foreign(line.url) == []
