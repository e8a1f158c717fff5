"""The web app in a real browser: what it loads, from where, and that it finds back."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from playwright.async_api import Page

from tests.web.chromium import Watched, choose_files, chromium, watch
from tests.web.site import Site, site

FIRST_LOAD_BYTES = 5_500_000
SECOND_LOAD_BYTES = 50_000


async def loaded(page: Page) -> None:
    await page.locator("#loading").wait_for(state="detached", timeout=90_000)


async def quiet(watched: Watched) -> None:
    """Once nothing was loaded for two seconds: the screens ask for fonts when they are drawn first."""
    seen = -1
    while seen != len(watched.urls) + len(watched.sizes):
        seen = len(watched.urls) + len(watched.sizes)
        await asyncio.sleep(2)


async def connected(server: Site, starts: int) -> None:
    """Once a page is joined to the screens' process that was started `starts` times."""
    child, proxy = server.web_client.child, server.web_client._proxy
    assert child is not None
    assert proxy is not None
    async with asyncio.timeout(60):
        while child.starts < starts or not proxy._lines:
            await asyncio.sleep(0.05)


async def test_app_loads_small_from_one_server_and_comes_back_for_almost_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser:
        watched = await watch(browser)
        await watched.page.goto(server.url)
        await loaded(watched.page)
        await connected(server, 1)
        await quiet(watched)
        first = sum(watched.sizes.values())
        watched.sizes.clear()
        await watched.page.reload()
        await loaded(watched.page)
        await quiet(watched)
        second = sum(watched.sizes.values())
        assert 2_000_000 < first <= FIRST_LOAD_BYTES
        assert 0 < second < SECOND_LOAD_BYTES
        assert watched.foreign(server.url) == []
        assert watched.errors == []


async def test_page_reconnects_when_the_screens_were_killed(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser:
        watched = await watch(browser)
        await watched.page.goto(server.url)
        await loaded(watched.page)
        await connected(server, 1)
        child = server.web_client.child
        assert child is not None
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await connected(server, 2)
        assert watched.foreign(server.url) == []


async def test_upload_page_works_in_a_frame_of_the_app(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser:
        alice = await server.person("alice")
        url = (await alice.post("/files/upload-ticket")).json["url"]
        watched = await watch(browser)
        await watched.page.goto(server.url)
        await loaded(watched.page)
        await watched.page.evaluate(
            "url => { const frame = document.createElement('iframe'); frame.src = url; document.body.append(frame) }",
            url)
        frame = watched.page.frame_locator("iframe")
        await choose_files(frame, [{"name": "a.txt", "mimeType": "text/plain", "buffer": b"hi"}])
        await frame.locator("li.done").wait_for()
        assert watched.errors == []
