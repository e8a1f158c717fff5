"""Pictures for README and docs: `python -m tests.showcase FOLDER`. Made-up people and content, the real app.

Each is at most 150 KB: 256 colours are enough for screens.
"""

from __future__ import annotations

import asyncio
import io
import math
import random
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

from hypersend_client.sdk import HyperSend
from hypersend_client.sdk.transfers import Transfers
from tests.app.driver import Screen
from tests.app_chat.gallery import upload
from tests.sdk.people import person, user_id
from tests.web.chromium import choose_files, chromium
from tests.web.site import site

MB = 1_000_000
MOST_BYTES = 150_000
Tone = tuple[int, int, int]
EVENING: tuple[Tone, Tone, Tone] = ((255, 196, 138), (238, 120, 120), (66, 50, 92))
MORNING: tuple[Tone, Tone, Tone] = ((196, 226, 255), (255, 238, 205), (46, 94, 84))
LAKE: tuple[Tone, Tone, Tone] = ((150, 200, 240), (226, 240, 250), (36, 72, 110))
SKINS: list[Tone] = [(141, 85, 54), (224, 172, 125), (198, 134, 86), (240, 200, 165), (110, 68, 45), (215, 160, 120)]


def _blend(one: Tone, other: Tone, share: float) -> Tone:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=88)
    return out.getvalue()


def hills(width: int, height: int, tones: tuple[Tone, Tone, Tone], seed: int) -> bytes:
    """A sky with its sun over ranges of hills, as JPEG."""
    rand = random.Random(seed)
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for y in range(height):
        draw.line([(0, y), (width, y)], fill=_blend(tones[0], tones[1], y / height))
    x, y, r = width * rand.uniform(0.2, 0.8), height * rand.uniform(0.25, 0.4), height // 12
    draw.ellipse([x - r, y - r, x + r, y + r], fill=(255, 250, 228))
    for layer in range(5):
        base, waves = height * (0.48 + 0.11 * layer), [rand.uniform(0, 6.3) for _ in range(3)]
        edge = [
            (x, base - height * 0.08 * sum(math.sin(x / width * (3 + 4 * n) + waves[n]) / (n + 1) for n in range(3)))
            for x in range(0, width + 8, 8)
        ]
        draw.polygon([(0, height), *edge, (width, height)], fill=_blend(tones[1], tones[2], (layer + 1) / 5))
    return _jpeg(image.filter(ImageFilter.GaussianBlur(0.6)))


def portrait(seed: int) -> bytes:
    """Head and shoulders before a plain wall, as JPEG."""
    rand = random.Random(seed)
    wall: Tone = (rand.randint(150, 235), rand.randint(170, 230), rand.randint(180, 240))
    skin = SKINS[seed % len(SKINS)]
    hair: Tone = rand.choice([(40, 30, 28), (92, 58, 36), (24, 24, 30), (150, 104, 62)])
    shirt: Tone = rand.choice([(47, 107, 237), (196, 70, 80), (60, 130, 100), (240, 190, 70), (110, 80, 160)])
    image = Image.new("RGB", (512, 512), wall)
    draw = ImageDraw.Draw(image)
    draw.ellipse([150, 70, 362, 400] if seed % 2 else [140, 84, 372, 300], fill=hair)
    draw.rounded_rectangle([222, 300, 290, 400], 30, fill=_blend(skin, (0, 0, 0), 0.12))
    draw.ellipse([70, 372, 442, 700], fill=shirt)
    draw.ellipse([172, 120, 340, 344], fill=skin)
    draw.pieslice([160, 84, 352, 270], 180, 360, fill=hair)
    for x in (222, 290):
        draw.ellipse([x - 9, 226, x + 9, 244], fill=(40, 30, 30))
    draw.arc([222, 246, 290, 306], 20, 160, fill=(120, 50, 50), width=7)
    return _jpeg(image)


async def world(url: str, stack: AsyncExitStack, folder: Path) -> tuple[HyperSend, dict[str, str]]:
    """Meera, and the chats that are shown."""

    async def enter(name: str, display_name: str, face: int) -> HyperSend:
        hs = await stack.enter_async_context(person(url, name))
        await hs.me.update(display_name=display_name)
        await hs.me.set_avatar(portrait(face))
        return hs

    async def put(hs: HyperSend, chat_id: str, name: str, data: bytes, **extra: int) -> str:
        path = folder / name
        path.write_bytes(data)
        return (await upload(moving[hs], path, chat_id, **extra)).id

    meera = await enter("meera", "Meera Kulkarni", 1)
    jonas = await enter("jonas", "Jonas Weber", 2)
    ayesha = await enter("ayesha", "Ayesha Rahman", 3)
    dev = await enter("dev", "देव मेहता", 4)
    lucia = await enter("lucia", "Lucía Fernández", 5)
    kwame = await enter("kwame", "Kwame Boateng", 6)
    moving: dict[HyperSend, Transfers] = {}
    for hs in (meera, jonas, lucia, dev):
        moving[hs] = Transfers(hs, folder / f"{len(moving)}.sqlite")
        stack.push_async_callback(moving[hs].close)
    me = user_id(meera)

    quiet = await kwame.chats.open_direct(me)
    await kwame.messages.send(quiet.id, "Train is at 9:42 from platform 3, see you there")
    with_dev = await dev.chats.open_direct(me)
    await dev.messages.send(with_dev.id, "एल्बम का कवर तैयार है, ज़रा देखकर बताना 🙂")
    await meera.messages.send(with_dev.id, "बहुत सुंदर! नीला वाला रखते हैं")
    report = await put(dev, with_dev.id, "एल्बम कवर – अंतिम.pdf", b"%PDF-1.7" + bytes(2_400_000))
    await dev.messages.send(with_dev.id, file_ids=[report])
    await dev.messages.send(with_dev.id, "यह रहा। शाम तक छपाई के लिए भेज दूँगा")
    with_ayesha = await ayesha.chats.open_direct(me)
    await ayesha.messages.send(with_ayesha.id, "Contract is signed 🎉")
    await ayesha.messages.send(with_ayesha.id, "Scans follow this afternoon")

    film = await lucia.chats.open_direct(me)
    say, answer = lucia.messages.send, meera.messages.send
    await say(film.id, "The colour grading is finished 🎬")
    cut = await put(lucia, film.id, "Monsoon – final cut, 4K, graded.mov", bytes(48 * MB))
    await say(film.id, file_ids=[cut])
    asked = await answer(film.id, "Downloading now. Did you keep the long opening over the lake?")
    await say(film.id, "Of course, the whole two minutes", reply_to=asked.id)
    still = await put(lucia, film.id, "still 0412.jpg", hills(1200, 750, LAKE, 7), width=1200, height=750)
    seen = await say(film.id, "This is the frame I would use for the poster", file_ids=[still])
    await meera.messages.react(film.id, seen.id, "❤️")
    await answer(film.id, "Yes, that one. Printing on Thursday, so there is time for one more look")

    hike = await jonas.chats.create_group(
        "Weekend in the hills 🏔️", [me, user_id(dev), user_id(lucia), user_id(kwame), user_id(ayesha)]
    )
    await jonas.chats.set_role(hike.id, me, "admin")
    await jonas.messages.send(hike.id, "Cabin is booked, Friday to Sunday. Who can drive?")
    lift = await dev.messages.send(hike.id, "मैं शनिवार को सुबह सात बजे गाड़ी लेकर आ जाऊँगा")
    await meera.messages.send(hike.id, "I join Dev, one seat left", reply_to=lift.id)
    album = [
        await put(jonas, hike.id, f"hills {n}.jpg", hills(1000, 700, tones, 20 + n), width=1000, height=700)
        for n, tones in enumerate((MORNING, EVENING, LAKE, EVENING))
    ]
    view = await jonas.messages.send(hike.id, "From last year, so you know what you are in for", file_ids=album)
    for hs in (lucia, kwame, ayesha, meera):
        await hs.messages.react(hike.id, view.id, "😍" if hs in (lucia, kwame) else "👍")
    await kwame.messages.send(hike.id, "I bring the stove and far too much coffee")
    await meera.chats.update_mine(hike.id, pinned=True)
    return meera, {"film": film.id, "hike": hike.id, "dev": with_dev.id}


def shrink(png: bytes, to: Path) -> None:
    """Raises: ValueError where it stays above MOST_BYTES."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (256, 128, 64):
        image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(to, optimize=True)
        if to.stat().st_size <= MOST_BYTES:
            return
    raise ValueError(f"{to.name} has {to.stat().st_size} bytes")


async def main(folder: Path) -> None:
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(site(data / "server", USER_QUOTA="200MB"))
        _, chats = await world(server.url, stack, data)
        browser = await stack.enter_async_context(chromium())

        async def look(name: str, path: str, sign: str, *, dark: bool = False, language: str = "en", desk: bool = False,
                       width: int = 400, height: int = 850) -> None:  # fmt: skip
            width, height = (1280, 800) if desk else (width, height)
            screen = await Screen.open(
                browser, server.url, width=width, height=height, dark=dark, locale=f"{language}-IN"
            )
            await screen.sign_in("meera")
            await screen.sees("chat-filter")
            await screen.go(path)
            await screen.sees(sign)
            await screen.page.wait_for_timeout(2500)
            if name == "upload":
                large = data / "Making of, all takes.mov"
                with large.open("wb") as file:
                    file.truncate(120 * MB)
                await screen.click("attach")
                await screen.click("attach-file")
                frame = screen.page.frame_locator("iframe").first
                poster = data / "poster A2.jpg"
                await asyncio.to_thread(poster.write_bytes, hills(2000, 1400, LAKE, 7))
                await screen.page.route("**/chunk?**", _slowly)
                await choose_files(frame, [poster, large])
                await frame.locator("li.done").first.wait_for()
                await screen.page.wait_for_timeout(4000)
            shrink(await screen.page.screenshot(), folder / f"{name}.png")
            await screen.watched.context.close()

        hike = f"/chat/{chats['hike']}"
        await look("group", hike, "composer", desk=True)
        await look("chat", f"/chat/{chats['film']}", "composer")
        await look("upload", f"/chat/{chats['film']}", "composer", desk=True, dark=True)
        await look("chats-dark", "/", "chat-filter", dark=True)
        await look("chat-hindi", f"/chat/{chats['dev']}", "composer", language="hi")
        await look("storage", "/settings/storage", "storage-use")


async def _slowly(route: object) -> None:
    await asyncio.sleep(1.2)
    await route.continue_()  # type: ignore[attr-defined]


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
