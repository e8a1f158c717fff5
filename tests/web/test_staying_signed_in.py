"""Staying signed in, in a real Chromium: over a reload, a new tab and a restart, and not a moment longer."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from playwright.async_api import Browser, Route

from hypersend_client.sdk import HyperSend
from tests.app.driver import Screen
from tests.sdk.people import person, user_id
from tests.web.chromium import Watched, choose_files, chromium, watch
from tests.web.site import Site, site

LONG_S = 60
CHUNKS = re.compile(r"/chunk\?index=")


async def session_cookie(screen: Screen) -> dict[str, Any] | None:
    cookies = await screen.watched.context.cookies()
    return next((dict(cookie) for cookie in cookies if cookie["name"].startswith("hypersend_session")), None)


async def kept(screen: Screen) -> dict[str, Any]:
    """The browser's cookie, once it has one and the page knows it."""
    async with asyncio.timeout(LONG_S):
        while (cookie := await session_cookie(screen)) is None or await screen.page.locator("iframe").count():
            await screen.page.wait_for_timeout(100)
    return cookie


async def reload(screen: Screen) -> None:
    await screen.page.bring_to_front()
    await screen.page.reload()
    await screen.see_semantics()


async def new_tab(screen: Screen) -> Screen:
    page = await screen.watched.context.new_page()
    tab = Screen(Watched(page, screen.watched.context), screen.origin)
    await page.goto(screen.origin)
    await tab.see_semantics()
    return tab


async def sign_out(screen: Screen) -> None:
    await screen.page.bring_to_front()
    await screen.go("/settings")
    await screen.click("sign-out")
    await screen.click("confirm-yes")
    await screen.sees("sign-in")


@asynccontextmanager
async def signed_in(server: Site, browser: Browser) -> AsyncIterator[tuple[Screen, HyperSend]]:
    """Ann's browser, which keeps her, and her other device; she has a chat with Bob."""
    async with AsyncExitStack() as stack:
        device = await stack.enter_async_context(person(server.url, "ann"))
        bob = await stack.enter_async_context(person(server.url, "bob"))
        chat = await device.chats.open_direct(user_id(bob))
        await bob.messages.send(chat.id, "Shall we have tea?")
        ann = await Screen.open(browser, server.url)
        await ann.sign_in("ann")
        await ann.reads("Bob, Shall we have tea?")
        yield ann, device


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_chats_are_there_after_a_reload_in_a_new_tab_and_after_a_restart_of_the_server(tmp_path: Path) -> None:
    port = free_port()
    async with chromium() as browser:
        async with site(tmp_path, port=port) as server, signed_in(server, browser) as (ann, device):
            cookie = await kept(ann)
            assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Strict", False)
            assert "hypersend_session" not in await ann.page.evaluate("document.cookie")
            await reload(ann)
            await ann.reads("Bob, Shall we have tea?")
            tab = await new_tab(ann)
            await tab.reads("Bob, Shall we have tea?")
            await tab.page.close()
            browsers = [found for found in await device.me.devices() if found.device.startswith("Chrome")]
            assert len(browsers) == 1, "tabs and reloads are one session"
            assert ann.watched.errors + tab.watched.errors == []
        async with site(tmp_path, port=port):
            await reload(ann)
            await ann.reads("Bob, Shall we have tea?")
            tab = await new_tab(ann)
            await tab.reads("Bob, Shall we have tea?")


async def test_what_is_being_typed_is_there_after_a_restart_of_the_server_and_gone_with_the_session(
    tmp_path: Path,
) -> None:
    port = free_port()
    async with chromium() as browser:
        async with site(tmp_path, port=port) as server, signed_in(server, browser) as (ann, device):
            await kept(ann)
            chat = (await device.chats.page()).items[0]
            await ann.go(f"/chat/{chat.id}")
            await ann.fill("composer", "Half a thought")
            async with asyncio.timeout(LONG_S):
                while "Half a thought" not in await stored(ann):
                    await asyncio.sleep(0.1)
        await ann.page.keyboard.type(", and the rest of it")  # while no server is there
        async with AsyncExitStack() as stack:
            async with ann.page.expect_event("load", timeout=LONG_S * 1000):
                await stack.enter_async_context(site(tmp_path, port=port))
            await ann.see_semantics()
            await (await ann.sees("composer")).click(force=True)
            await ann.page.wait_for_function(
                "text => [...document.querySelectorAll('textarea')].some(n => n.value === text)",
                arg="Half a thought, and the rest of it")
            await reload(ann)  # and it stays
            await (await ann.sees("composer")).click(force=True)
            await ann.page.wait_for_function(
                "text => [...document.querySelectorAll('textarea')].some(n => n.value === text)",
                arg="Half a thought, and the rest of it")
            await ann.page.evaluate(  # as the upload page writes them
                "localStorage.setItem('flutter.hypersend.sending', '\"[]\"');"
                "localStorage.setItem('flutter.hypersend.uploads', '\"{}\"')")
            await sign_out(ann)
            async with asyncio.timeout(LONG_S):
                while "Half a thought" in await stored(ann):
                    await asyncio.sleep(0.1)
                while await ann.page.evaluate(
                    "Object.keys(localStorage).some(key => /hypersend\\.(draft|sending|uploads)/.test(key))"
                ):
                    await asyncio.sleep(0.1)


async def test_what_the_upload_page_was_sending_is_named_after_a_restart_of_the_server_and_goes_on(
    tmp_path: Path,
) -> None:
    port, film = free_port(), tmp_path / "film.bin"
    film.write_bytes(os.urandom(24 * 1024 * 1024))

    async def only_the_first(route: Route) -> None:
        if "index=0" in route.request.url:
            await route.continue_()

    async with chromium() as browser:
        async with site(tmp_path, port=port) as server, signed_in(server, browser) as (ann, device):
            await kept(ann)
            chat = (await device.chats.page()).items[0]
            await ann.watched.context.route(CHUNKS, only_the_first)
            await ann.go(f"/chat/{chat.id}")
            await ann.click("attach")
            await ann.click("attach-file")
            await choose_files(ann.page.frame_locator("iframe").first, film)
            for key in ("sending", "uploads"):
                await ann.page.wait_for_function(
                    "key => localStorage.getItem(`flutter.hypersend.${key}`) !== null", arg=key)
        await ann.watched.context.unroute(CHUNKS)
        async with site(tmp_path, port=port):
            await reload(ann)
            frame = ann.page.frame_locator("iframe").first
            await frame.locator("li.unfinished").wait_for()
            await choose_files(frame, film)
            await frame.locator("li.done").wait_for()


async def stored(screen: Screen) -> str:
    """All that pages of this site keep in the browser."""
    return str(await screen.page.evaluate("Object.values(localStorage).join()"))


async def test_who_signs_out_is_out_in_every_tab_and_after_a_reload_and_can_sign_in_again(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser, signed_in(server, browser) as (ann, _):
        first = await kept(ann)
        tab = await new_tab(ann)
        await tab.reads("Bob, Shall we have tea?")
        await sign_out(ann)
        await tab.page.bring_to_front()
        await tab.sees("sign-in")
        await reload(ann)
        await ann.sees("sign-in")
        assert await session_cookie(ann) is None
        await ann.sign_in("ann")
        await ann.reads("Bob, Shall we have tea?")
        second = await kept(ann)
        assert second["value"] != first["value"]
        # The tab, away for a moment, comes back as who its browser is by now.
        await reload(tab)
        await tab.reads("Bob, Shall we have tea?")


async def test_a_browser_that_was_signed_out_from_another_device_is_out(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser, signed_in(server, browser) as (ann, device):
        cookie = await kept(ann)
        (mine,) = [found for found in await device.me.devices() if not found.current]
        await device.me.end_device(mine.id)
        await ann.sees("sign-in")
        await reload(ann)
        await ann.sees("sign-in")
        # Nor does the cookie of before help anybody.
        await ann.watched.context.add_cookies([{
            "name": cookie["name"], "value": cookie["value"], "url": server.url, "httpOnly": True,
            "sameSite": "Strict"}])
        tab = await new_tab(ann)
        await tab.sees("sign-in")


async def test_a_browser_whose_cookies_were_cleared_is_out_after_a_reload(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser, signed_in(server, browser) as (ann, _):
        await kept(ann)
        await ann.watched.context.clear_cookies()
        await reload(ann)
        await ann.sees("sign-in")
        await ann.sign_in("ann")
        await ann.reads("Bob, Shall we have tea?")
        await kept(ann)
        await reload(ann)
        await ann.reads("Bob, Shall we have tea?")


async def test_a_stolen_ticket_is_worth_nothing_in_another_browser(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser:
        caught: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def steal(route: Route) -> None:
            if not caught.done():
                caught.set_result(route.request.url)
            await route.abort()

        async with person(server.url, "ann"):
            ann = await Screen.open(browser, server.url)
            await ann.watched.context.route("**/web/in*", steal)
            await ann.sign_in("ann")
            url = await asyncio.wait_for(caught, LONG_S)
            assert urlsplit(url).netloc == urlsplit(server.url).netloc
            thief = await Screen.open(browser, server.url)
            answer = await thief.watched.context.request.get(url)
            assert answer.status == 404
            assert await session_cookie(thief) is None
            await reload(thief)
            await thief.sees("sign-in")


async def test_a_browser_without_cookies_is_signed_in_as_long_as_the_page_lives(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser, person(server.url, "ann") as device:
        await device.chats.create_group("Tea", [])
        ann = await Screen.open(browser, server.url)
        await ann.watched.context.route("**/web/in*", lambda route: route.abort())
        await ann.sign_in("ann")
        await ann.reads("Tea")
        await reload(ann)  # the same page to the screens, and the session still is its own
        await ann.reads("Tea")
        tab = await new_tab(ann)
        await tab.sees("sign-in")


async def test_times_are_those_of_the_browsers_clock(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser, person(server.url, "ann") as device:
        chat = await device.chats.create_group("Tea", [])
        message = await device.messages.send(chat.id, "What time is it?")
        assert message.created_at is not None
        for name in ("Asia/Kolkata", "America/St_Johns"):
            zone = ZoneInfo(name)
            there = Screen(await watch(browser, 400, 850, timezone_id=name), server.url)
            await there.page.goto(server.url)
            await there.see_semantics()
            await there.sign_in("ann")
            await there.reads("Tea")
            await there.go(f"/chat/{chat.id}")
            await there.reads("What time is it?")
            await there.reads(f"{message.created_at.astimezone(zone):%H:%M}")
            # Half hours apart from every whole zone, so it is no other clock's.
            assert zone.utcoffset(message.created_at.replace(tzinfo=None)) % timedelta(hours=1)  # type: ignore[operator]
            assert there.watched.errors == []
            await there.watched.context.close()
