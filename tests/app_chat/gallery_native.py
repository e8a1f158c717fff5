"""Pictures of files that go from device to device, as a phone and a computer show them:
`python -m tests.app_chat.gallery_native FOLDER [phone|desk|light|dark|en|hi …]`.

A real server, real ends; the app is drawn by `tests.app_chat.native`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from hypersend_client.sdk import FileTokenStore, HyperSend
from hypersend_client.sdk.transfers import Transfers
from tests.app.driver import Screen
from tests.app_chat.gallery import SIZES
from tests.harness import PASSWORD
from tests.sdk.people import person, user_id
from tests.web.chromium import chromium
from tests.web.site import site

MIB = 1024 * 1024
LONG = "Hochzeit Marlene und Jonas, Sommerfest am See, endgültiger Schnitt in 4K.mkv"


def noise(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(MIB) * (size // MIB))
    return path


@dataclass
class Phones:
    """Meera has the app, Ann an end of the SDK. state: where Meera's device keeps what it has."""

    url: str
    state: Path
    ann: HyperSend
    meera_id: str
    chat_id: str


@asynccontextmanager
async def phones(root: Path) -> AsyncIterator[Phones]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    state = root / "meera"
    state.mkdir()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            site(root / "server", web_client=f"http://127.0.0.1:{port}", RATE_LIMITS="off"))
        ann = await stack.enter_async_context(person(server.url, "ann"))
        theirs = Transfers(ann, root / "ann.sqlite", folder=root / "ann")
        stack.push_async_callback(theirs.close)
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.app_chat.native", "--port", str(port)],
            env={**os.environ, "HYPERSEND_STATE": str(state), "API_BASE_URL": server.url})
        stack.callback(child.wait)
        stack.callback(child.terminate)
        async with HyperSend(server.url, tokens=FileTokenStore(root / "first.json")) as first:
            await first.register("meera@example.org", "meera", PASSWORD)
            me = user_id(first)
            chat = await first.chats.open_direct(user_id(ann))
        yield Phones(server.url, state, ann, me, chat.id)


async def pictures(folder: Path, size: str, theme: str, language: str) -> None:
    with tempfile.TemporaryDirectory() as data:
        root = Path(data)
        async with phones(root) as two, chromium() as browser:
            width, height = SIZES[size]
            screen = await Screen.open(
                browser, two.url, width=width, height=height, dark=theme == "dark", locale=f"{language}-IN")
            await screen.sign_in("meera")
            await screen.sees("chat-filter")
            name = f"{size}-{theme}-{language}.png"
            await two.ann.messages.send(two.chat_id, "The film is done. It goes straight to your phone.")
            offered = await two.ann.p2p.send(two.chat_id, noise(root / LONG, 64 * MIB), two.meera_id)
            await screen.go(f"/chat/{two.chat_id}")
            await screen.sees(f"peer-accept-{offered.transfer_id}")
            await screen.page.wait_for_timeout(1500)
            await screen.shot(folder / f"offer-{name}")
            two.ann.p2p.send_limit.bytes_per_s = 4 * MIB
            await screen.click(f"peer-accept-{offered.transfer_id}")
            await screen.page.wait_for_timeout(5000)
            await screen.shot(folder / f"moving-{name}")
            await screen.go("/transfers")
            await screen.page.wait_for_timeout(1500)
            await screen.shot(folder / f"transfers-{name}")
            await offered.stop()  # the other device goes away
            await screen.go(f"/chat/{two.chat_id}")
            await screen.page.wait_for_timeout(2500)
            await screen.shot(folder / f"waiting-{name}")
            two.ann.p2p.send_limit.bytes_per_s = None
            offered.start()
            await offered.wait()
            await screen.page.wait_for_timeout(2500)
            await screen.shot(folder / f"done-{name}")
            await screen.click("chat-title")
            await screen.page.wait_for_timeout(1500)
            await screen.shot(folder / f"number-{name}")
            await screen.watched.context.close()


async def main(folder: Path, *wanted: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [size for size in ("phone", "desk") if size in wanted] or ["phone", "desk"]
    themes = [theme for theme in ("light", "dark") if theme in wanted] or ["light", "dark"]
    languages = [language for language in ("en", "hi") if language in wanted] or ["en", "hi"]
    for size, theme, language in product(sizes, themes, languages):
        await pictures(folder, size, theme, language)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
