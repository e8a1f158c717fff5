"""Drives the web app in a real Chromium through its accessibility tree."""

from __future__ import annotations

import asyncio
from pathlib import Path

from playwright.async_api import Browser, Locator, Page
from playwright.async_api import TimeoutError as PlaywrightTimeoutError

from tests.harness import PASSWORD
from tests.web.chromium import Watched, watch

WAIT_MS = 60_000
READ_OUT = """[...document.querySelectorAll('flt-semantics-host *')]
    .flatMap(n => [n.getAttribute('aria-label'), n.childElementCount ? '' : n.textContent]).filter(Boolean)"""

# A field that takes the focus by itself just as it is clicked hears no keys: Flutter has taken it up for neither.
QUIET_FOCUS = """() => new Promise(done => {
    let timer;
    const wait = () => { clearTimeout(timer); timer = setTimeout(end, 250); };
    const end = () => { document.removeEventListener('focusin', wait, true); done(); };
    document.addEventListener('focusin', wait, true);
    wait();
})"""


class Screen:
    """One browser of one person."""

    def __init__(self, watched: Watched, origin: str) -> None:
        self.watched = watched
        self.page: Page = watched.page
        self.origin = origin

    @classmethod
    async def open(
        cls,
        browser: Browser,
        origin: str,
        *,
        width: int = 400,
        height: int = 850,
        dark: bool = False,
        locale: str = "en-GB",
        path: str = "/",
    ) -> Screen:
        watched = await watch(
            browser, width, height, locale=locale, color_scheme="dark" if dark else "light", reduced_motion="reduce"
        )
        screen = cls(watched, origin)
        await screen.page.goto(origin + path)
        await screen.see_semantics()
        return screen

    async def see_semantics(self) -> None:
        """Flutter builds its accessibility tree only when it is asked to."""
        await self.page.wait_for_selector("flt-semantics-placeholder", state="attached", timeout=WAIT_MS)
        await self.page.evaluate("document.querySelector('flt-semantics-placeholder').click()")

    def named(self, identifier: str) -> Locator:
        return self.page.locator(f'[flt-semantics-identifier="{identifier}"]').first

    async def sees(self, identifier: str) -> Locator:
        found = self.named(identifier)
        await found.wait_for(state="attached", timeout=WAIT_MS)
        return found

    async def click(self, identifier: str) -> None:
        found = await self.sees(identifier)
        button = found.locator('[role="button"], [flt-tappable]').first
        target = button if await button.count() else found
        await target.dispatch_event("click")

    async def fill(self, identifier: str, text: str) -> None:
        """Again where the field took the focus too late, and so not all of the keys."""
        field = (await self.sees(identifier)).locator("input, textarea").first
        await self.page.evaluate(QUIET_FOCUS)
        async with asyncio.timeout(WAIT_MS / 1000):
            while True:
                await field.click(force=True, timeout=WAIT_MS)
                await self.page.wait_for_timeout(100)
                await self.page.keyboard.press("Control+A")
                await self.page.keyboard.type(text)
                # A field that had the focus before the tree was there is edited in an input of its own.
                if await self.page.evaluate("document.activeElement.value") == text:
                    return

    async def reads(self, text: str) -> None:
        """Wait until these words are on the screen, as they are read out."""
        try:
            await self.page.wait_for_function(f"text => {READ_OUT}.some(read => read.includes(text))", arg=text,
                                              timeout=WAIT_MS)
        except PlaywrightTimeoutError as late:
            there = await self.page.evaluate(READ_OUT)
            raise AssertionError(f"{text!r} is not among {there}; {self.watched.errors}") from late

    async def register(self, name: str, display_name: str = "") -> None:
        await self.click("to-register")
        await self.fill("register-name", display_name or name.title())
        await self.fill("register-username", name)
        await self.fill("register-email", f"{name}@example.org")
        await self.fill("register-password", PASSWORD)
        await self.page.keyboard.press("Enter")

    async def sign_in(self, name: str) -> None:
        await self.fill("email", f"{name}@example.org")
        await self.fill("password", PASSWORD)
        await self.page.keyboard.press("Enter")

    async def go(self, path: str) -> None:
        """As the browser's own back and forward do it: the address changes, the page stays."""
        await self.page.evaluate(
            "path => { history.pushState({}, '', path);"
            " window.dispatchEvent(new PopStateEvent('popstate', {state: {}})); }",
            path,
        )

    async def shot(self, path: Path) -> None:
        await self.page.wait_for_timeout(700)
        await self.page.screenshot(path=path)
