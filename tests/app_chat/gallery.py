"""Pictures of the conversation and its neighbours: `python -m tests.app_chat.gallery FOLDER [WHICH…]`.

WHICH: `phone`, `desk`, `small` (320 wide, letters twice as large), `light`, `dark`, `en`, `hi`, names of screens; all
but `small` where none is named.

A real server, people, messages of every kind, the real web app in Chromium.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import tempfile
import zlib
from contextlib import AsyncExitStack
from itertools import product
from pathlib import Path

from hypersend_client.sdk import File, HyperSend
from hypersend_client.sdk.transfers import Transfers
from tests.app.driver import Screen
from tests.sdk.people import person, user_id
from tests.web.chromium import chromium
from tests.web.site import site

SIZES = {"phone": (400, 850), "desk": (1280, 800), "small": (320, 640)}
LONG = "Maximiliana-Alexandrina von Hohenlohe-Schillingsfürst-Obern"


def png(width: int, height: int) -> bytes:
    """A sky over hills."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            hill = height * 0.62 + height * 0.08 * ((x / width * 5) % 1 - 0.5) * (1 if x // (width // 5) % 2 else -1)
            shade = int(40 * y / height)
            rows += bytes((60 + shade, 120 - shade, 70)) if y > hill else bytes((120 + shade * 2, 170 + shade, 230))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")
    )


async def upload(transfers: Transfers, path: Path, chat_id: str, **extra: int) -> File:
    return await (await transfers.upload(path, chat_id=chat_id, **extra)).wait()


async def world(url: str, stack: AsyncExitStack, folder: Path) -> tuple[HyperSend, dict[str, str]]:
    """Meera, and the chats to be shown by name."""

    async def enter(name: str, display_name: str) -> HyperSend:
        hs = await stack.enter_async_context(person(url, name))
        await hs.me.update(display_name=display_name)
        return hs

    meera = await enter("meera", "Meera Kulkarni")
    ann, bo = await enter("ann", "Ann Lee"), await enter("bodhi", "बोधिसत्त्व शर्मा")
    long, noor = await enter("maxi", LONG), await enter("noor", "نور الهدى")
    me = user_id(meera)
    chat = await ann.chats.open_direct(me)
    transfers = Transfers(ann, folder / "ann.sqlite")
    stack.push_async_callback(transfers.close)
    picture, film = folder / "hills.png", folder / "Hochzeit Marlene und Jonas, Sommerfest, endgültiger Schnitt.mkv"
    picture.write_bytes(await asyncio.to_thread(png, 480, 320))
    film.write_bytes(b"\0" * 3_100_000)
    say = ann.messages.send
    first = await say(chat.id, "Did the film arrive? 🎬")
    await meera.messages.send(chat.id, "Not yet", reply_to=first.id)
    one = await upload(transfers, film, chat.id)
    await say(chat.id, file_ids=[one.id])
    two = await upload(transfers, picture, chat.id, width=480, height=320)
    await say(chat.id, "From the hills this morning", file_ids=[two.id])
    nice = await meera.messages.send(
        chat.id, "Beautiful. I put the whole list at https://example.org/list/2026?who=all (and the rest is coming)"
    )
    await ann.messages.react(chat.id, nice.id, "❤️")
    await meera.messages.react(chat.id, nice.id, "❤️")
    await ann.messages.react(chat.id, nice.id, "🙏")
    wrong = await say(chat.id, "Ignore this")
    await ann.messages.delete(chat.id, wrong.id, for_everyone=True)
    changed = await meera.messages.send(chat.id, "See you at sevn")
    await meera.messages.edit(chat.id, changed.id, "See you at seven")
    await say(chat.id, "ठीक है, शनिवार को सुबह सात बजे स्टेशन पर मिलते हैं")
    await say(chat.id, "صباح الخير، هل وصل الملف؟")
    await meera.messages.send(chat.id, "OK")
    await say(chat.id, "👍")
    await ann.p2p.send(chat.id, film)
    group = await ann.chats.create_group("Weekend in the hills 🏔️", [me, user_id(bo), user_id(noor), user_id(long)])
    lift = await bo.messages.send(group.id, "मैं शनिवार को सुबह सात बजे गाड़ी लेकर आ जाऊँगा")
    await long.messages.send(group.id, "Room for two more?")
    await long.messages.send(
        group.id,
        "We would bring the tent, the stove and everything that belongs to it, so nobody else needs to carry any",
    )
    await noor.messages.send(group.id, "نعم بالطبع")
    await meera.messages.send(group.id, "I take the train", reply_to=lift.id)
    await ann.chats.set_role(group.id, me, "admin")
    await meera.chats.open_direct(user_id(bo))
    album = []
    for n in range(10):
        path = folder / f"hills {n}.png"
        path.write_bytes(await asyncio.to_thread(png, 300 + 20 * (n % 3), 320 if n % 2 else 200))
        width, height = 300 + 20 * (n % 3), 320 if n % 2 else 200
        album.append((await upload(transfers, path, group.id, width=width, height=height)).id)
    await say(group.id, "All of them", file_ids=album)
    long_chat = await long.chats.open_direct(me)
    for n in range(1, 160):
        await long.messages.send(long_chat.id, f"Line {n}" + " and some more words" * (n % 4))
    noor_chat = await noor.chats.open_direct(me)
    await noor.messages.send(noor_chat.id, "السلام عليكم")
    await meera.me.block(user_id(noor))
    return meera, {"chat": chat.id, "group": group.id, "long": long_chat.id, "noor": noor_chat.id}


async def main(folder: Path, *wanted: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = set(wanted) - {*SIZES, "light", "dark", "en", "hi"}
    sizes = [size for size in SIZES if size in wanted] or ["phone", "desk"]
    themes = [theme for theme in ("light", "dark") if theme in wanted] or ["light", "dark"]
    languages = [language for language in ("en", "hi") if language in wanted] or ["en", "hi"]
    with tempfile.TemporaryDirectory() as data:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(site(Path(data) / "server"))
            _, ids = await world(server.url, stack, Path(data))
            browser = await stack.enter_async_context(chromium())
            places = {
                "chat": (f"/chat/{ids['chat']}", "composer"),
                "group_chat": (f"/chat/{ids['group']}", "composer"),
                "chats": ("/", "chat-filter"),
                "menu": (f"/chat/{ids['chat']}", "composer"),
                "attach": (f"/chat/{ids['chat']}", "composer"),
                "unread": (f"/chat/{ids['long']}", "composer"),
                "scrolled": (f"/chat/{ids['long']}", "composer"),
                "blocked": (f"/chat/{ids['noor']}", "blocked"),
                "details": (f"/chat/{ids['chat']}", "composer"),
                "group_details": (f"/chat/{ids['group']}", "composer"),
                "upload": (f"/chat/{ids['chat']}", "composer"),
                "group": (f"/group/{ids['group']}", "leave-group"),
                "new": ("/new", "find-people"),
                "new_group": ("/new/group", "create-group"),
                "search": ("/search", "search-field"),
                "transfers": ("/transfers", None),
            }
            for size, theme, language in product(sizes, themes, languages):
                width, height = SIZES[size]
                screen = await Screen.open(
                    browser, server.url, width=width, height=height, dark=theme == "dark", locale=f"{language}-IN"
                )
                screen.page.on(
                    "console",
                    lambda message: print("console:", message.text[:300]) if message.type == "error" else None,
                )
                await screen.sign_in("meera")
                await screen.sees("chat-filter")
                if size == "small":
                    await screen.page.evaluate("document.documentElement.style.fontSize = '32px'")
                await screen.page.wait_for_timeout(1000)
                for name, (path, sign) in places.items():
                    if names and name not in names:
                        continue
                    await screen.go(path)
                    try:
                        if sign is not None:
                            await screen.sees(sign)
                        await screen.page.wait_for_timeout(800)
                        if name == "menu":
                            await screen.page.mouse.click(width - 70, height - 150, button="right")
                        elif name == "attach":
                            await screen.click("attach")
                        elif name == "scrolled":
                            await screen.page.mouse.move(width - 200, height // 2)
                            await screen.page.mouse.wheel(0, 600)
                            await screen.page.wait_for_timeout(500)
                        elif name.endswith("details"):
                            await screen.click("chat-title")
                            await screen.page.wait_for_timeout(1200)
                        elif name == "upload":
                            await screen.click("attach")
                            await screen.click("attach-file")
                            await screen.page.wait_for_timeout(1500)
                        elif name == "search":
                            await screen.fill("search-field", "seven")
                            await screen.page.wait_for_timeout(1200)
                    except Exception as error:  # a picture of what is there says more
                        print(name, size, theme, language, str(error)[:200])
                    if name == "scrolled":
                        await screen.page.screenshot(path=folder / f"{name}-{size}-{theme}-{language}.png")
                        continue
                    await screen.shot(folder / f"{name}-{size}-{theme}-{language}.png")
                    if name in ("menu", "attach"):
                        await screen.page.keyboard.press("Escape")
                    if name.endswith("details") and size == "desk":
                        await screen.click("details-close")
                    if name == "upload":
                        await screen.click("upload-close")
                await screen.watched.context.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
