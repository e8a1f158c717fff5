"""Two people chat in two browsers, live: the real server, the real web app, a real Chromium."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Route

from hypersend_client.sdk import HyperSend
from tests.app.driver import Screen
from tests.sdk.people import person, until, user_id
from tests.web.chromium import choose_files, chromium
from tests.web.site import Site, site

MENU_WAIT_MS = 20_000


@dataclass
class World:
    """Ann's browser (a phone) and Bo's (a desk), both signed in; `chat_id` is their chat. bo: his other device."""

    server: Site
    ann: Screen
    bo: Screen
    ann_sdk: HyperSend
    bo_sdk: HyperSend
    chat_id: str


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(site(tmp_path / "server"))
        ann_sdk = await stack.enter_async_context(person(server.url, "ann"))
        bo_sdk = await stack.enter_async_context(person(server.url, "bob"))
        chat = await ann_sdk.chats.open_direct(user_id(bo_sdk))
        # The other devices would acknowledge messages by themselves: they are silent from here on.
        await ann_sdk.stop()
        await bo_sdk.stop()
        browser = await stack.enter_async_context(chromium())
        ann = await Screen.open(browser, server.url, width=400, height=850)
        await ann.sign_in("ann")
        await ann.sees("chat-filter")
        bo = await Screen.open(browser, server.url, width=1280, height=800)
        await bo.sign_in("bob")
        await bo.sees("chat-filter")
        yield World(server, ann, bo, ann_sdk, bo_sdk, chat.id)


async def write(screen: Screen, text: str) -> None:
    await screen.fill("composer", text)
    await screen.page.keyboard.press("Enter")


async def menu_of(screen: Screen, text: str) -> None:
    """The right button on the message with these words."""
    bubble = screen.page.locator(f'[flt-semantics-identifier^="message-"][aria-label*="{text}"]').first
    await bubble.wait_for(state="attached", timeout=MENU_WAIT_MS)
    box = await bubble.bounding_box()
    assert box is not None
    await screen.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, button="right")


async def test_two_people_chat_and_see_ticks_replies_edits_reactions_and_deletions(world: World) -> None:
    ann, bo = world.ann, world.bo
    await ann.go(f"/chat/{world.chat_id}")
    await write(ann, "Hello Bo")
    await ann.reads("Hello Bo. Delivered")
    await bo.reads("Hello Bo")

    await bo.go(f"/chat/{world.chat_id}")
    await bo.sees("composer")
    heard = bo.page.locator('[flt-semantics-identifier^="message-"][aria-label*="Hello Bo"]').first
    await heard.wait_for(state="attached", timeout=MENU_WAIT_MS)
    assert (await heard.get_attribute("aria-label") or "").startswith("Ann, ")
    await ann.reads("Hello Bo. Read")

    await menu_of(bo, "Hello Bo")
    await bo.click("menu-reply")
    await bo.reads("Reply to Ann")
    await write(bo, "Hello back")
    await ann.reads("Hello back")

    await menu_of(ann, "Hello back")
    await ann.click("react-👍")
    await bo.sees("reaction-👍")

    await menu_of(bo, "Hello back")
    await bo.click("menu-edit")
    await bo.reads("Edit message")
    await write(bo, "Hello again")
    await ann.reads("Hello again")
    await ann.reads("edited")

    await menu_of(ann, "Hello Bo")
    await ann.click("menu-delete")
    await ann.click("delete-everyone")
    await bo.reads("This message was deleted")
    assert ann.watched.errors == []
    assert bo.watched.errors == []


async def test_the_other_side_sees_that_somebody_types(world: World) -> None:
    await world.ann.go(f"/chat/{world.chat_id}")
    await world.bo.go(f"/chat/{world.chat_id}")
    await world.bo.sees("composer")
    await world.ann.fill("composer", "Hm")
    await world.bo.reads("typing…")


async def test_a_draft_is_kept_while_another_screen_is_open(world: World) -> None:
    ann = world.ann
    await ann.go(f"/chat/{world.chat_id}")
    await ann.fill("composer", "Not yet finished")
    await ann.page.locator("[flt-semantics-identifier=composer][aria-label=Message]").wait_for()  # hint or not
    await ann.page.wait_for_timeout(300)
    await ann.go("/")
    await ann.reads("Draft: Not yet finished")
    await ann.go(f"/chat/{world.chat_id}")
    await (await ann.sees("composer")).click(force=True)
    await ann.page.wait_for_function(
        "() => [...document.querySelectorAll('textarea')].some(n => n.value === 'Not yet finished')"
    )


async def test_a_file_goes_through_the_upload_page_and_comes_back_byte_for_byte(world: World, tmp_path: Path) -> None:
    ann, path = world.ann, tmp_path / "holiday.bin"
    path.write_bytes(os.urandom(24 * 1024 * 1024))
    await ann.go(f"/chat/{world.chat_id}")
    await ann.click("attach")
    await ann.click("attach-file")
    frame = ann.page.frame_locator("iframe").first
    await choose_files(frame, path)
    await world.bo.go(f"/chat/{world.chat_id}")
    await world.bo.reads("holiday.bin")

    await world.bo_sdk.start()

    async def arrived() -> object:
        messages = await world.bo_sdk.store.messages(world.chat_id)
        return next((m.files[0] for m in messages if m.files), None)

    file = await until(world.bo_sdk, arrived)
    ticket = await world.bo_sdk.files.ticket(file.id)  # type: ignore[attr-defined]
    async with aiohttp.ClientSession() as http, http.get(ticket.url) as response:
        body = await response.read()
    assert hashlib.sha256(body).digest() == hashlib.sha256(path.read_bytes()).digest()

    async with world.bo.page.expect_download(timeout=30_000) as download:
        await world.bo.click(f"file-{file.id}")  # type: ignore[attr-defined]
    saved = await (await download.value).path()
    assert Path(saved).read_bytes() == path.read_bytes()


async def test_what_the_upload_page_had_not_sent_is_named_after_a_reload(world: World, tmp_path: Path) -> None:
    ann, path = world.ann, tmp_path / "film.bin"
    path.write_bytes(os.urandom(24 * 1024 * 1024))

    async def only_the_first(route: Route) -> None:
        if "index=0" in route.request.url:
            await route.continue_()

    await ann.page.context.route(re.compile(r"/chunk\?index="), only_the_first)
    await ann.go(f"/chat/{world.chat_id}")
    await ann.click("attach")
    await ann.click("attach-file")
    await choose_files(ann.page.frame_locator("iframe").first, path)
    for key in ("sending", "uploads"):
        await ann.page.wait_for_function(
            "key => localStorage.getItem(`flutter.hypersend.${key}`) !== null", arg=key)
    await ann.page.context.unroute(re.compile(r"/chunk\?index="))
    await ann.page.reload()
    await ann.see_semantics()
    frame = ann.page.frame_locator("iframe").first
    await frame.locator("li.unfinished").wait_for()
    await choose_files(frame, path)
    await world.bo.go(f"/chat/{world.chat_id}")
    await world.bo.reads("film.bin")
    await ann.page.wait_for_function("() => !Object.keys(localStorage).some(key => key.endsWith('hypersend.sending'))")


async def test_a_new_chat_is_found_by_name(world: World) -> None:
    async with person(world.server.url, "carla"):
        ann = world.ann
        await ann.go("/new")
        await ann.fill("find-people", "carl")
        await ann.click("user-carla")
        await ann.sees("composer")
        await ann.reads("Carla")
