"""Pictures of every screen: `python -m tests.app.gallery FOLDER [NAME…]`.

A real server with people, chats and files, the real web app, and Chromium at 400×850 and 1280×800, light and dark,
English and Hindi.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

from hypersend_client.sdk import HyperSend
from tests.app.driver import Screen
from tests.harness import PASSWORD
from tests.sdk.people import person, user_id
from tests.web.chromium import chromium
from tests.web.site import site

SIZES = {"phone": (400, 850), "desk": (1280, 800), "small": (320, 640)}
LONG = "Maximiliana-Alexandrina von Hohenlohe-Schillingsfürst-Oberdo"
PLACES = {
    "chats": ("/", "chat-filter"),
    "archive": ("/archive", "back"),
    "settings": ("/settings", "sign-out"),
    "profile": ("/settings/profile", "profile-save"),
    "password": ("/settings/password", "password-save"),
    "devices": ("/settings/devices", None),
    "storage": ("/settings/storage", None),
    "blocks": ("/settings/blocks", None),
    "appearance": ("/settings/appearance", "theme-dark"),
    "about": ("/settings/about", None),
    "transfers": ("/transfers", None),
}


async def people(url: str, stack: AsyncExitStack) -> HyperSend:
    """Meera, with chats of every kind."""

    async def enter(name: str, display_name: str) -> HyperSend:
        hs = await stack.enter_async_context(person(url, name))
        await hs.me.update(display_name=display_name)
        return hs

    meera = await enter("meera", "Meera Kulkarni")
    ann, bo = await enter("ann", "Ann Lee"), await enter("bodhi", "बोधिसत्त्व शर्मा")
    long, noor = await enter("maxi", LONG), await enter("noor", "نور الهدى")
    me = user_id(meera)
    group = await ann.chats.create_group("Weekend in the hills 🏔️", [me, user_id(bo), user_id(noor)])
    await bo.messages.send(group.id, "मैं शनिवार को सुबह सात बजे गाड़ी लेकर आ जाऊँगा")
    for other, text in (
        (long, "The minutes of the meeting are in the folder, with everything that was decided about the budget"),
        (noor, "صباح الخير، هل وصل الملف؟"),
        (ann, "Did the film arrive? 🎬"),
    ):
        chat = await other.chats.open_direct(me)
        await other.messages.send(chat.id, text)
    with_bo = await meera.chats.open_direct(user_id(bo))
    await meera.messages.send(with_bo.id, "कल मिलते हैं")
    quiet = await meera.chats.create_group("Old project", [user_id(ann)])
    await meera.chats.update_mine(quiet.id, archived=True)
    await meera.chats.update_mine(group.id, pinned=True)
    with_long = await meera.chats.open_direct(user_id(long))
    await meera.chats.update_mine(with_long.id, muted_until=datetime.now(UTC) + timedelta(days=3))
    await meera.me.block(user_id(noor))
    return meera


def _variants(wanted: set[str]) -> list[tuple[str, bool, str]]:
    sizes = [size for size in SIZES if size in wanted] or ["phone", "desk"]
    return [
        (size, dark, language)
        for size, dark, language in product(sizes, (False, True), ("en", "hi"))
        if all(
            not wanted & set(kind) or wanted & set(kind) & {size, "dark" if dark else "light", language}
            for kind in (tuple(SIZES), ("light", "dark"), ("en", "hi"))
        )
    ]


async def signed_out(browser: object, url: str, folder: Path, wanted: set[str]) -> None:
    if wanted & set(PLACES) and not wanted & {"sign_in", "register"}:
        return
    for size, dark, language in _variants(wanted):
        width, height = SIZES[size]
        screen = await Screen.open(browser, url, width=width, height=height, dark=dark, locale=f"{language}-IN")  # type: ignore[arg-type]
        await screen.sees("sign-in")
        await screen.shot(folder / f"sign_in-{size}-{'dark' if dark else 'light'}-{language}.png")
        await screen.click("to-register")
        await screen.sees("register")
        await screen.shot(folder / f"register-{size}-{'dark' if dark else 'light'}-{language}.png")
        await screen.watched.context.close()


async def main(folder: Path, wanted: set[str]) -> None:
    """wanted: names of places, of sizes, `light`, `dark`, `en`, `hi`; of each kind that is not named, all, but
    `small`, where letters are twice as large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(site(Path(data)))
            meera = await people(server.url, stack)
            browser = await stack.enter_async_context(chromium())
            await signed_out(browser, server.url, folder, wanted)
            for size, dark, language in _variants(wanted):
                width, height = SIZES[size]
                screen = await Screen.open(
                    browser, server.url, width=width, height=height, dark=dark, locale=f"{language}-IN"
                )
                await screen.fill("email", "meera@example.org")
                await screen.fill("password", PASSWORD)
                await screen.page.keyboard.press("Enter")
                await screen.sees("chat-filter")
                if size == "small":
                    await screen.page.evaluate("document.documentElement.style.fontSize = '32px'")
                await screen.page.wait_for_timeout(1500)
                for name, (path, sign) in PLACES.items():
                    if wanted & {*PLACES, "sign_in", "register"} and name not in wanted:
                        continue
                    await screen.go(path)
                    if sign is not None and size != "small":  # there it may stand further down
                        await screen.sees(sign)
                    await screen.shot(folder / f"{name}-{size}-{'dark' if dark else 'light'}-{language}.png")
                await screen.watched.context.close()
            await meera.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), set(sys.argv[2:])))
