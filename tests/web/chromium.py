"""A real Chromium, and what a test wants to know of its pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Frame, FrameLocator, Page, async_playwright

from tests.parts import program

# Flet asks a CDN for this whatever it was told; the page's policy stops it before it reaches the network.
KNOWN_ERROR = "rive_native.js"


@asynccontextmanager
async def chromium(*arguments: str) -> AsyncIterator[Browser]:
    path = program("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *arguments])
        try:
            yield browser
        finally:
            await browser.close()


async def choose_files(page: Page | Frame | FrameLocator, files: Any, timeout_ms: float = 60_000) -> None:
    """In a page that takes files, once its script runs: nobody hears of what is chosen before."""
    await page.locator("#choose:not(:empty)").wait_for(state="attached", timeout=timeout_ms)
    await page.locator("#files").set_input_files(files)


@dataclass
class Watched:
    """A page, and what it did. sizes: request id → bytes over the wire, headers included."""

    page: Page
    context: BrowserContext
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # "404 URL" of what was answered so, named beside each error
    urls: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)

    def foreign(self, origin: str) -> list[str]:
        """What was asked of others and reached the network."""
        host = urlsplit(origin).netloc
        return [url for url in self.urls if urlsplit(url).scheme not in ("data", "blob")
                and urlsplit(url).netloc != host]


async def watch(browser: Browser, width: int = 400, height: int = 850, **options: object) -> Watched:
    context = await browser.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]
    page = await context.new_page()
    watched = Watched(page, context)

    def on_console(message: object) -> None:
        if message.type == "error" and KNOWN_ERROR not in message.text:  # type: ignore[attr-defined]
            where = message.location["url"]  # type: ignore[attr-defined]
            watched.errors.append(f"{message.text} {where} {watched.refused}")  # type: ignore[attr-defined]

    page.on("console", on_console)
    context.on("response", lambda answer: watched.refused.append(  # of its frames, too
        f"{answer.status} {answer.request.method} {answer.url}") if answer.status >= 400 else None)
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    session = await context.new_cdp_session(page)
    await session.send("Network.enable")
    asked: dict[str, str] = {}

    def on_request(event: dict[str, Any]) -> None:
        asked[event["requestId"]] = event["request"]["url"]
        watched.urls.append(event["request"]["url"])

    def on_failure(event: dict[str, Any]) -> None:
        if event.get("blockedReason") == "csp":
            watched.urls.remove(asked[event["requestId"]])

    session.on("Network.requestWillBeSent", on_request)
    session.on("Network.loadingFailed", on_failure)
    session.on("Network.loadingFinished", lambda event: watched.sizes.__setitem__(
        event["requestId"], int(event["encodedDataLength"])))
    return watched
