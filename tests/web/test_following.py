"""A page whose connection comes back is whom its browser keeps by then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hypersend_client.app.state import AppState
from hypersend_client.main import follow_browser, make_state
from hypersend_client.sdk import HyperSend
from hypersend_client.web.browser import Browser, set_browser
from hypersend_client.web.kept import WebHyperSend, is_kept
from tests.harness import PASSWORD, running
from tests.sdk.people import person
from tests.web.site import Site, site
from tests.web.test_kept import Jar, ann_in

LONG_S = 60


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.delenv("API_BASE_URL", raising=False)
    async with site(tmp_path) as found:
        yield found


@pytest.fixture
async def app(server: Site) -> AsyncIterator[AppState]:
    """The state of a page of Ann's browser, open."""
    jar = Jar(server)
    await ann_in(jar)
    set_browser(await jar.connect())
    state = make_state(page(server))
    await state.open()
    assert state.session.status == "signed_in"
    yield state
    await state.close()
    set_browser(Browser())


def page(server: Site) -> Any:
    return SimpleNamespace(
        web=True, url=server.url.replace("http", "ws", 1) + "/ws", client_ip="203.0.113.5", client_user_agent="")


async def status(app: AppState, wanted: str) -> None:
    async with asyncio.timeout(LONG_S):
        while app.session.status != wanted:
            await asyncio.sleep(0.01)


async def test_who_signed_out_in_another_tab_is_shown_nothing_more(server: Site, app: AppState) -> None:
    set_browser(Browser("b"))
    follow_browser(page(server), app)
    assert (app.session.status, app.session.me, list(app.chats.rows)) == ("signed_out", None, [])
    async with asyncio.timeout(LONG_S):
        while app.account is not None:
            await asyncio.sleep(0.01)


async def test_the_same_session_goes_on_undisturbed(server: Site, app: AppState) -> None:
    before = app.account
    follow_browser(page(server), app)
    assert app.session.status == "signed_in"
    assert app.account is before


async def test_somebody_else_who_signed_in_in_another_tab_is_shown_here_too(server: Site, app: AppState) -> None:
    async with person(server.url, "bob") as bob:
        await bob.chats.create_group("Bob's own", [])
    assert app.account is not None
    ann = app.account.user_id
    jar = Jar(server)
    await jar.open("/")
    async with WebHyperSend(server.url) as hs:
        await hs.login("bob@example.org", PASSWORD)
        named = (await jar.connect()).browser
        assert named is not None
        assert await jar.open((await hs.web_ticket(named))[0]) == 204
    set_browser(await jar.connect())
    follow_browser(page(server), app)
    await status(app, "signed_in")
    assert app.me_id not in ("", ann)
    async with asyncio.timeout(LONG_S):
        while "Bob's own" not in [row.title for row in app.chats.rows]:
            await asyncio.sleep(0.01)


async def test_a_page_whose_browser_takes_no_cookies_keeps_its_session(server: Site) -> None:
    async with HyperSend(server.url) as hs:
        await hs.register("carla@example.org", "carla", PASSWORD)
    set_browser(Browser())
    state = make_state(page(server))
    await state.open()
    try:
        await state.sign_in("carla@example.org", PASSWORD)
        follow_browser(page(server), state)
        assert state.session.status == "signed_in"
    finally:
        await state.close()


async def test_a_line_that_was_cut_while_the_browser_kept_the_session_is_no_loss(server: Site) -> None:
    jar = Jar(server)
    await jar.open("/")
    set_browser(Browser())
    state = make_state(page(server))
    await state.open()
    try:
        async with HyperSend(server.url) as hs:
            await hs.register("carla@example.org", "carla", PASSWORD)
        await state.sign_in("carla@example.org", PASSWORD)
        assert isinstance(state.hs, WebHyperSend)
        named = (await jar.connect()).browser
        assert named is not None
        assert await jar.open((await state.hs.web_ticket(named))[0]) == 204
        set_browser(await jar.connect())
        follow_browser(page(server), state)
        async with asyncio.timeout(LONG_S):
            while not is_kept(state.account):
                await asyncio.sleep(0.01)
        assert state.session.status == "signed_in"
        assert (await state.hs.me.get()).username == "carla"
    finally:
        await state.close()


async def test_the_server_as_it_is_started_gives_the_page_its_cookie(tmp_path: Path) -> None:
    async with running(tmp_path, WEB_CLIENT="on") as server:
        answer = await server.get(server.url + "/")
        assert answer.headers["Set-Cookie"].startswith("hypersend_before_")
        ann = await server.person("ann")
        assert (await ann.post(server.url + "/web/ticket", {"browser": "b"})).status == 200
