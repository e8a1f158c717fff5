"""The real web app of the real server in a real Chromium."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser

from hypersend_client.sdk import Chat, HyperSend
from tests.app.driver import WAIT_MS, Screen
from tests.harness import PASSWORD
from tests.web.chromium import chromium, watch
from tests.web.relay import relay
from tests.web.site import site


async def test_two_people_register_and_see_each_others_chat(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser:
        ann, bo = await asyncio.gather(*(Screen.open(browser, server.url) for _ in range(2)))
        await ann.register("ann", "Ann Lee")
        await bo.register("bodhi", "बोधिसत्त्व शर्मा")
        await asyncio.gather(ann.sees("start-chat"), bo.sees("start-chat"))
        async with HyperSend(server.url) as other_device:
            await other_device.login("ann@example.org", PASSWORD)
            found = (await other_device.users.find("bodhi")).items[0]
            chat = await other_device.chats.open_direct(found.id)
            await other_device.messages.send(chat.id, "Shall we have tea?")
            row = await bo.sees(f"chat-row-{chat.id}")
            await bo.reads("Ann Lee, Shall we have tea?")
            await ann.reads("बोधिसत्त्व शर्मा, You: Shall we have tea?")
            assert "1 unread message" in (await row.inner_html())
        for screen in (ann, bo):
            assert screen.watched.errors == []
            assert screen.watched.foreign(server.url) == []


async def test_signing_out_ends_the_session_and_asks_for_the_password_again(tmp_path: Path) -> None:
    async with site(tmp_path) as server, chromium() as browser:
        ann = await Screen.open(browser, server.url, width=1280, height=800)
        await ann.register("ann", "Ann Lee")
        await ann.sees("start-chat")
        await ann.go("/settings")
        await ann.click("sign-out")
        await ann.click("confirm-yes")
        await ann.sees("sign-in")
        async with HyperSend(server.url) as again:
            await again.login("ann@example.org", PASSWORD)
            assert [device.current for device in await again.me.devices()] == [True]


async def test_after_a_cut_line_the_app_goes_on_where_it_was(tmp_path: Path) -> None:
    async with site(tmp_path) as server, relay(server.url) as line, chromium() as browser:
        ann = await Screen.open(browser, line.url)
        await ann.register("ann", "Ann Lee")
        await ann.sees("start-chat")
        await ann.go("/settings/profile")
        await ann.sees("profile-save")
        line.cut()
        line.is_down = False
        async with HyperSend(server.url) as other_device:
            await other_device.login("ann@example.org", PASSWORD)
            group = await other_device.chats.create_group("Tea", [])
        await ann.page.wait_for_timeout(3000)
        await ann.sees("profile-save")
        await ann.click("back")
        await ann.sees("sign-out")
        await ann.go("/")
        await ann.reads("Tea")
        await ann.sees(f"chat-row-{group.id}")
        await ann.fill("chat-filter", "nothing like it")
        await ann.reads("No chat matches")


@asynccontextmanager
async def in_a_group(browser: Browser, origin: str, url: str) -> AsyncIterator[tuple[Screen, HyperSend, Chat]]:
    """Ann's browser, which shows a chat, her other device at `url`, and that chat."""
    ann = await Screen.open(browser, origin)
    await ann.register("ann", "Ann Lee")
    await ann.sees("start-chat")
    async with HyperSend(url) as device:
        await device.login("ann@example.org", PASSWORD)
        group = await device.chats.create_group("Tea", [])
        await ann.go(f"/chat/{group.id}")
        yield ann, device, group


async def test_a_line_that_died_unheard_is_replaced_and_nothing_typed_is_lost(tmp_path: Path) -> None:
    async with (
        site(tmp_path) as server, relay(server.url) as line, chromium() as browser,
        in_a_group(browser, line.url, server.url) as (ann, device, group),
    ):
        await ann.fill("composer", "Shall we")
        line.forget()
        await ann.page.keyboard.type(" begin")
        await ann.page.keyboard.press("Enter")
        await device.messages.send(group.id, "The kettle is on")
        await ann.reads("The kettle is on")
        await ann.reads("Shall we begin. ")
        texts = [message.text for message in (await device.messages.page(group.id)).items]
        assert texts[-2:] == ["The kettle is on", "Shall we begin"]


async def test_a_line_that_is_slow_to_answer_says_so_and_no_longer_than_that(tmp_path: Path) -> None:
    async with site(tmp_path) as server, relay(server.url) as line, chromium() as browser:
        ann = await Screen.open(browser, line.url)
        await ann.sees("to-register")
        notice = ann.page.locator("#line")
        line.flows.clear()
        await notice.filter(has_text="Connecting…").wait_for()
        line.flows.set()
        await notice.filter(has_text="Connecting…").wait_for(state="detached")
        await ann.register("ann", "Ann Lee")
        await ann.sees("start-chat")


async def test_a_page_that_gets_no_line_says_so_and_comes_by_itself_once_there_is_one(tmp_path: Path) -> None:
    async with site(tmp_path) as server, relay(server.url) as line, chromium() as browser:
        line.takes_sockets = False
        watched = await watch(browser)
        await watched.page.goto(line.url)
        await watched.page.locator("#line").filter(has_text="Connecting…").wait_for(timeout=WAIT_MS)
        line.takes_sockets = True
        ann = Screen(watched, line.url)
        await ann.see_semantics()
        await ann.sees("to-register")
        assert len(server.web_client._proxy._lines) == 1  # type: ignore[union-attr]
        assert not [error for error in watched.errors if "WebSocket connection" not in error]


async def test_a_page_whose_line_died_drops_it_when_it_is_loaded_again(tmp_path: Path) -> None:
    async with site(tmp_path) as server, relay(server.url) as line, chromium() as browser:
        ann = await Screen.open(browser, line.url)
        await ann.sees("to-register")
        proxy = server.web_client._proxy
        assert proxy is not None
        (before,) = proxy._lines
        line.forget(only_sockets=True)
        await ann.page.reload()
        await ann.see_semantics()
        await ann.sees("to-register")
        (after,) = proxy._lines
        assert after != before


async def test_what_is_typed_is_sent_as_it_was_typed(tmp_path: Path) -> None:
    async with (
        site(tmp_path) as server, chromium() as browser,
        in_a_group(browser, server.url, server.url) as (ann, device, group),
    ):
        await ann.fill("composer", "https://x.org iPhone. ls -la")
        await ann.page.keyboard.press("Enter")
        await ann.reads("https://x.org iPhone. ls -la. ")
        assert (await device.messages.page(group.id)).items[-1].text == "https://x.org iPhone. ls -la"


async def test_letters_typed_fast_all_arrive_while_the_form_is_drawn_anew(tmp_path: Path) -> None:
    words = "The quick brown fox jumps over the lazy dog, twice and once more, faster than anybody types"
    async with site(tmp_path) as server, chromium() as browser:
        ann = await Screen.open(browser, server.url)
        await ann.register("ann", "Ann Lee")
        await ann.sees("start-chat")
        await ann.go("/new/group")
        # Each letter changes the state of this screen, so each one draws the field anew.
        await ann.fill("group-name", "")  # until it has the focus: what is typed before that goes nowhere
        await ann.page.keyboard.type(words, delay=8)
        await ann.click("create-group")
        await ann.sees("composer")
        async with HyperSend(server.url) as other_device:
            await other_device.login("ann@example.org", PASSWORD)
            titles = [chat.title for chat in (await other_device.chats.page()).items]
        assert words in titles, titles
        assert ann.watched.errors == []
