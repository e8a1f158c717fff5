"""One's own picture, chosen in the browser."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

from PIL import Image

from hypersend_client.sdk import HyperSend
from tests.app.driver import WAIT_MS, Screen
from tests.harness import PASSWORD
from tests.web.chromium import choose_files, chromium
from tests.web.site import site

PAGE = 'iframe[src*="picture.html"]'


def noise(side: int) -> bytes:
    """A JPEG that hardly shrinks."""
    out = BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(out, "JPEG", quality=90)
    return out.getvalue()


async def choose(screen: Screen, name: str, data: bytes) -> None:
    """In the page that opens over the screen."""
    await screen.click("choose-picture")
    frame = screen.page.frame_locator(PAGE)
    await choose_files(frame, [{"name": name, "mimeType": "image/jpeg", "buffer": data}])


async def test_a_phones_photo_is_made_small_in_the_browser_and_set(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser:
        ann = await Screen.open(browser, server.url)
        await ann.register("ann", "Ann Lee")
        await ann.sees("start-chat")
        await ann.go("/settings/profile")
        await choose(ann, "me.jpg", b"this is no picture at all" * 40)
        frame = ann.page.frame_locator(PAGE)
        await frame.get_by_text("This picture cannot be read.").wait_for(timeout=WAIT_MS)
        photo = noise(2400)
        assert len(photo) > 4 * 1024 * 1024
        await frame.locator("#files").set_input_files([{"name": "me.jpg", "mimeType": "image/jpeg", "buffer": photo}])
        await frame.locator("#use").click(timeout=WAIT_MS)
        await ann.reads("Remove")
        assert await ann.page.locator(PAGE).count() == 0
        async with HyperSend(server.url) as device:
            me = await device.login("ann@example.org", PASSWORD)
            assert me.avatar_url
            assert (await device.me.storage()).used_bytes == 0
        assert ann.watched.errors == []


async def test_a_group_gets_a_picture_and_loses_it_again(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser, HyperSend(server.url) as device:
        ann = await Screen.open(browser, server.url)
        await ann.register("ann", "Ann Lee")
        await ann.sees("start-chat")
        await device.login("ann@example.org", PASSWORD)
        group = await device.chats.create_group("Hills", [])
        await ann.go(f"/group/{group.id}")
        await choose(ann, "hills.jpg", noise(600))
        await ann.page.frame_locator(PAGE).locator("#use").click(timeout=WAIT_MS)
        await ann.click("remove-picture")
        await ann.named("remove-picture").wait_for(state="detached", timeout=WAIT_MS)
        assert (await device.chats.get(group.id)).avatar_url is None
        assert ann.watched.errors == []
