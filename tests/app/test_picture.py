"""One's own picture, chosen in the browser."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

from PIL import Image

from hypersend_client.sdk import HyperSend
from tests.app.driver import Screen
from tests.harness import PASSWORD
from tests.web.chromium import chromium
from tests.web.site import site


def noise(side: int) -> bytes:
    """A JPEG that hardly shrinks."""
    out = BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(out, "JPEG", quality=90)
    return out.getvalue()


async def choose(screen: Screen, name: str, data: bytes) -> None:
    async with screen.page.expect_file_chooser(timeout=30_000) as chooser:
        # The browser opens its dialog only for a click of the person's own.
        box = await (await screen.sees("choose-picture")).bounding_box()
        assert box is not None
        await screen.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await (await chooser.value).set_files([{"name": name, "mimeType": "image/jpeg", "buffer": data}])


async def test_a_picture_is_chosen_in_the_browser_and_what_is_no_picture_refused(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser:
        ann = await Screen.open(browser, server.url)
        await ann.register("ann", "Ann Lee")
        await ann.sees("start-chat")
        await ann.go("/settings/profile")
        await choose(ann, "me.jpg", b"this is no picture at all" * 40)
        async with HyperSend(server.url) as device:
            me = await device.login("ann@example.org", PASSWORD)
            assert not me.avatar_url
        await choose(ann, "me.jpg", noise(400))
        await ann.reads("Remove")
        assert ann.watched.errors == []
