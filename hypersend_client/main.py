"""The app's entry: `ft.run(main)`, in the browser, on the desktop and on Android alike."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
from datetime import UTC, datetime
from typing import Any

import flet as ft
from yarl import URL

from hypersend_client.app.frame import App
from hypersend_client.app.router import back
from hypersend_client.app.state import AppState
from hypersend_client.app.theme import MODES, theme
from hypersend_client.app.tokens import FONT_DEVANAGARI, FONT_EMOJI, Motion
from hypersend_client.app.updates import this_build
from hypersend_client.app.upload_dock import take_up
from hypersend_client.sdk import FileTokenStore, HyperSend, KeyringTokenStore, MemoryTokenStore, TokenStore
from hypersend_client.sdk.address import normalise
from hypersend_client.sdk.places import state_folder
from hypersend_client.sdk.transfers import Transfers
from hypersend_client.web.browser import browser_of_page
from hypersend_client.web.kept import WebHyperSend, account_in, is_kept

MEMORY_S = 2.0
KEY = "hypersend."
KEEPER = "keeper"  # the frame that has the browser set its cookie
KEEP_S = (1, 1, 2, 4, 8, 15, 29)  # together as long as a ticket is good


class PageMemory:
    """The device's own preferences (in the browser its local storage), behind what was set in this session."""

    def __init__(self) -> None:
        self._set: dict[str, str] = {}

    async def get(self, key: str) -> str | None:
        if key in self._set:
            return self._set[key]
        # The first answer after a restart of the server can stay out for ever: a new instance asks again.
        for _ in range(2):
            with contextlib.suppress(TimeoutError, RuntimeError):
                found = await asyncio.wait_for(ft.SharedPreferences().get(KEY + key), MEMORY_S)
                return found if isinstance(found, str) else None
        return None

    async def set(self, key: str, value: str) -> None:
        self._set[key] = value
        with contextlib.suppress(TimeoutError, RuntimeError):
            await asyncio.wait_for(ft.SharedPreferences().set(KEY + key, value), MEMORY_S)

    async def remove(self, key: str) -> None:
        self._set.pop(key, None)
        with contextlib.suppress(TimeoutError, RuntimeError):
            await asyncio.wait_for(ft.SharedPreferences().remove(KEY + key), MEMORY_S)

    async def keys(self, prefix: str) -> list[str]:
        """Those that begin so; none where the browser does not answer."""
        with contextlib.suppress(TimeoutError, RuntimeError):
            found = await asyncio.wait_for(ft.SharedPreferences().get_keys(KEY + prefix), MEMORY_S)
            return [str(key).removeprefix(KEY) for key in found or ()]
        return []


def public_origin(page: ft.Page) -> str:
    """The address under which the browser sees us: `page.url` with http for ws."""
    url = URL(page.url or "")
    return str(url.with_scheme("https" if url.scheme in ("wss", "https") else "http").origin()) if url.host else ""


def make_state(page: ft.Page) -> AppState:
    """In the browser everything of this person stays in memory, but for drafts, which the browser itself keeps;
    elsewhere sessions and cache are on the disk."""
    locale = _locale(page)
    if page.web:
        origin = public_origin(page)
        inside = _inside(page)
        headers = {"X-Forwarded-For": page.client_ip} if page.client_ip else {}
        found = account_in(browser_of_page(), inside)
        tokens: TokenStore = MemoryTokenStore(*([] if found is None else [found]))

        def connect(address: str) -> HyperSend:
            return WebHyperSend(address, tokens=tokens, cache_dir=None, device=device(page), headers=headers)

        async def keep(hs: HyperSend) -> None:
            assert isinstance(hs, WebHyperSend)
            await keep_in_browser(page, hs)

        return AppState(
            connect=connect,
            tokens=tokens,
            memory=PageMemory(),
            built_in=inside,
            media_base=origin,
            locale=locale,
            keep=keep,
        )
    folder = state_folder()
    path = folder / "accounts.json"
    kept: TokenStore = KeyringTokenStore(path) if KeyringTokenStore.available() else FileTokenStore(path)

    def connect_here(address: str) -> HyperSend:
        return HyperSend(address, tokens=kept, cache_dir=folder / "cache", device=device(page))

    built_in = os.environ.get("API_BASE_URL", "")

    def transfers(hs: HyperSend) -> Transfers:
        return Transfers(hs, folder / "transfers.sqlite")

    return AppState(
        connect=connect_here,
        tokens=kept,
        memory=PageMemory(),
        built_in=built_in,
        locale=locale,
        transfers=transfers,
        build=this_build(ft.PagePlatform(page.platform).value, folder / "updates") if page.platform else None,
    )


def _inside(page: ft.Page) -> str:
    """Where the process of the web app reaches the API, perhaps by another address than the browser does."""
    return normalise(os.environ.get("API_BASE_URL") or public_origin(page))


async def keep_in_browser(page: ft.Page, hs: WebHyperSend) -> None:
    """Have the browser set its cookie for a session that began on this page. Where it takes no cookies, the session
    lasts as long as the page.
    """
    browser = browser_of_page().browser
    if browser is None:
        return
    path, renewal = await hs.web_ticket(browser)
    from flet_webview import WebView  # type: ignore[import-untyped]  # only the web app has to have it

    # A frame that is not drawn is not loaded either: it gets a pixel.
    frame = ft.Container(
        data=KEEPER, content=WebView(url=public_origin(page) + path), width=1, height=1, left=0, bottom=0
    )
    page.overlay.append(frame)
    page.update()
    try:
        for delay_s in KEEP_S:
            await asyncio.sleep(delay_s)
            if await hs.is_kept(renewal):
                return
    finally:
        if frame in page.overlay:
            page.overlay.remove(frame)
            if page.session.connection is not None:
                page.update()


def follow_browser(page: ft.Page, app: AppState) -> None:
    """The page is back: be whom its browser keeps by now. Another tab may have signed out, or somebody else in."""
    if app.session.status not in ("signed_in", "signed_out"):
        return
    found, shown = account_in(browser_of_page(), _inside(page)), app.account
    if found is None:
        if is_kept(shown):
            app.become(None)
        elif shown is not None:
            app.keep_session()  # the line was cut before the browser had done it
    elif shown is None or shown.session_id != found.session_id:
        app.become(found)
    elif not is_kept(shown):
        app.spawn(app.hs.session.begin(found))


def _locale(page: ft.Page) -> str:
    """What the device speaks, such as `hi-IN`."""
    if page.web:
        return browser_of_page().languages.split(",")[0].split(";")[0]
    return os.environ.get("LANG", "")


def device(page: ft.Page) -> str:
    """How this device is called in the list of sessions."""
    if page.web:
        return browser(page.client_user_agent or "")
    return f"{platform.node() or page.platform} ({platform.system()})"


def browser(agent: str) -> str:
    """`Chrome on Android`, from a User-Agent."""
    names = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
    systems = (
        ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS", "Mac"),
        ("CrOS", "ChromeOS"), ("Linux", "Linux"),
    )  # fmt: skip
    name = next((name for mark, name in names if mark in agent), "Browser")
    system = next((name for mark, name in systems if mark in agent), "")
    return f"{name} on {system}" if system else name


async def main(page: ft.Page) -> None:
    await show(page, make_state(page))


async def show(page: ft.Page, app: AppState) -> None:
    """Draw the app on a new page and keep it drawn."""

    def dress(*_: Any) -> None:
        page.theme, page.dark_theme = theme(app.prefs.accent, dark=False), theme(app.prefs.accent, dark=True)
        page.theme_mode = MODES[app.prefs.theme]
        page.title = app.session.server.name if app.session.server and app.session.server.name else app.t("app.name")
        page.update()

    def draw() -> None:
        page.render_views(App, app)

    def on_notice(*_: Any) -> None:
        if app.notices.text:
            page.show_dialog(ft.SnackBar(ft.Text(app.notices.text), duration=Motion.NOTICE))

    def on_resize(event: Any) -> None:
        app.layout.resized(page.width or 0, page.height or 0)

    def on_key(event: ft.KeyboardEvent) -> None:
        dialogs = [dialog for dialog in page._dialogs.controls if getattr(dialog, "open", False)]
        if (
            event.key == "Escape"
            and not any(not isinstance(dialog, ft.SnackBar) for dialog in dialogs)
            and not app.escape()
        ):
            back()

    async def tick() -> None:
        """Once a minute, as long as somebody is there to see it."""
        while page.session.connection is not None:
            app.clock.now = datetime.now(UTC)
            await asyncio.sleep(60)

    def on_disconnect(event: Any) -> None:
        # A browser that comes back is first sent what is mounted, and can hang on it: so it gets an empty view, and
        # then everything drawn anew. Drafts are in the state.
        page.views = [ft.View(route="/away")]
        page.overlay[:] = [control for control in page.overlay if control.data != KEEPER]
        page.update()

    def on_connect(event: Any) -> None:
        if page.web:
            follow_browser(page, app)
        draw()
        ticking.append(asyncio.ensure_future(tick()))
        app.wake()
        if page.web:
            app.spawn(take_up(app, page))

    async def on_close(event: Any) -> None:
        for undo in undos:
            undo()
        for task in ticking:
            task.cancel()
        await app.close()

    page.padding = 0
    if page.web:
        # The engine believes that its own fallback has Devanagari, so it would never ask for it; and it takes emoji
        # that are symbols too, such as a heart, from a font without colours.
        fonts = f"{public_origin(page)}/fonts"
        page.fonts = {
            FONT_DEVANAGARI: f"{fonts}/notosansdevanagari.woff2",
            FONT_EMOJI: f"{fonts}/emojisymbols.woff2",
        }
    page.on_resize = on_resize
    page.on_keyboard_event = on_key
    page.on_connect = on_connect
    page.on_disconnect = on_disconnect
    page.on_close = on_close
    page.on_view_pop = lambda event: back()
    on_resize(None)
    undos = [app.prefs.subscribe(dress), app.session.subscribe(dress), app.notices.subscribe(on_notice)]
    dress()
    draw()
    ticking = [asyncio.ensure_future(tick())]
    await app.open()
    if page.web:
        await take_up(app, page)


if __name__ == "__main__":
    ft.run(main)
