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
from tests.app_chat.gallery import LONG as LONG_PERSON
from tests.app_chat.gallery import SIZES
from tests.harness import PASSWORD
from tests.p2p_sdk.pairs import until
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


class Camera:
    """A phone or computer of Meera's, and where its pictures go. name: the ending of theirs."""

    def __init__(self, screen: Screen, two: Phones, folder: Path, name: str) -> None:
        self.screen = screen
        self.two = two
        self._folder = folder
        self._name = name

    async def shot(self, what: str, *, path: str = "", sees: str = "", settled_ms: int = 1500) -> None:
        if path:
            await self.screen.go(path)
        if sees:
            await self.screen.sees(sees)
        await self.screen.page.wait_for_timeout(settled_ms)
        await self.screen.shot(self._folder / f"{what}-{self._name}")

    @property
    def chat(self) -> str:
        return f"/chat/{self.two.chat_id}"


async def one_that_arrives(camera: Camera, path: Path) -> None:
    """Offered, moving, paused, its other device away, received."""
    two, screen = camera.two, camera.screen
    offered = await two.ann.p2p.send(two.chat_id, path, two.meera_id)
    await screen.go(camera.chat)
    await screen.sees(f"peer-accept-{offered.transfer_id}")
    await camera.shot("offer")
    two.ann.p2p.send_limit.bytes_per_s = 4 * MIB
    await screen.click(f"peer-accept-{offered.transfer_id}")
    await until(lambda: offered.done_bytes > 12 * MIB)
    await camera.shot("moving")
    await camera.shot("transfers", path="/transfers", sees="pause-all")
    await screen.click("pause-all")
    await screen.sees(f"peer-resume-{offered.transfer_id}")
    await camera.shot("transfers_paused")
    await screen.go(camera.chat)
    await screen.sees("composer")
    await camera.shot("paused", sees=f"peer-resume-{offered.transfer_id}")
    await screen.click(f"peer-resume-{offered.transfer_id}")
    await until(lambda: offered.state == "running")
    await offered.stop()  # the other device goes away
    await camera.shot("waiting")
    two.ann.p2p.send_limit.bytes_per_s = None
    offered.start()
    await offered.wait()
    await screen.sees(f"peer-open-{offered.transfer_id}")
    await camera.shot("done")
    await screen.click("chat-title")
    await camera.shot("number", sees="safety-number")


async def one_that_fails(camera: Camera, path: Path) -> None:
    """Its sender changes the file meanwhile."""
    two, screen = camera.two, camera.screen
    two.ann.p2p.send_limit.bytes_per_s = 4 * MIB
    offered = await two.ann.p2p.send(two.chat_id, path, two.meera_id)
    await screen.go(camera.chat)
    await screen.click(f"peer-accept-{offered.transfer_id}")
    await until(lambda: offered.done_bytes > 4 * MIB)
    path.write_bytes(path.read_bytes()[::-1])
    two.ann.p2p.send_limit.bytes_per_s = None
    await until(lambda: offered.ended)
    await camera.shot("failed")


async def one_of_her_own(camera: Camera, path: Path) -> None:
    """Offered by Meera, and the question before it goes through the server."""
    two, screen = camera.two, camera.screen
    (two.state / "pick").mkdir(exist_ok=True)
    path.rename(two.state / "pick" / path.name)
    await screen.go(camera.chat)
    await screen.click("attach")
    await screen.click("attach-device")
    async with asyncio.timeout(60):
        while not (own := [info for info in await two.ann.p2p.open() if info.sender_id == two.meera_id]):
            await asyncio.sleep(0.2)
    await screen.sees(f"peer-store-{own[0].id}")
    await camera.shot("sent")
    await screen.click(f"peer-store-{own[0].id}")
    await screen.sees("confirm-no")
    await camera.shot("confirm")
    await screen.click("confirm-no")
    await screen.click(f"peer-cancel-{own[0].id}")


async def one_of_a_new_device(camera: Camera, path: Path, root: Path) -> None:
    """Of somebody with a long name, whose first device was met."""
    two, screen = camera.two, camera.screen
    async with person(two.url, "maxi") as maxi, HyperSend(two.url) as other:
        await maxi.me.update(display_name=LONG_PERSON)
        chat = await maxi.chats.open_direct(two.meera_id)
        first = Transfers(maxi, root / "maxi.sqlite", folder=root / "maxi")
        met = await maxi.p2p.send(chat.id, noise(root / "Hallo.mkv", MIB), two.meera_id)
        await screen.go(f"/chat/{chat.id}")
        await screen.click(f"peer-accept-{met.transfer_id}")
        await met.wait()
        await other.login("maxi@example.org", PASSWORD)
        second = Transfers(other, root / "other.sqlite", folder=root / "other")
        other.p2p.send_limit.bytes_per_s = 2 * MIB
        offered = await other.p2p.send(chat.id, path, two.meera_id)
        await screen.sees(f"peer-accept-{offered.transfer_id}")
        await camera.shot("new")
        await screen.click(f"peer-accept-{offered.transfer_id}")
        await until(lambda: offered.done_bytes > 4 * MIB)
        await camera.shot("new_moving")
        if not await screen.named("safety-number").count():  # beside the conversation where that is wide
            await screen.click("chat-title")
        await camera.shot("new_number", sees="safety-number")
        await first.close()
        await second.close()


async def pictures(folder: Path, size: str, theme: str, language: str) -> None:
    with tempfile.TemporaryDirectory() as data:
        root = Path(data)
        async with phones(root) as two, chromium() as browser:
            width, height = SIZES[size]
            screen = await Screen.open(
                browser, two.url, width=width, height=height, dark=theme == "dark", locale=f"{language}-IN")
            await screen.sign_in("meera")
            await screen.sees("chat-filter")
            camera = Camera(screen, two, folder, f"{size}-{theme}-{language}.png")
            await two.ann.messages.send(two.chat_id, "The film is done. It goes straight to your phone.")
            await one_that_arrives(camera, noise(root / LONG, 64 * MIB))
            await one_that_fails(camera, noise(root / "Rohschnitt.mkv", 32 * MIB))
            await one_of_her_own(camera, noise(root / "हमारी शादी की पूरी फ़िल्म, आख़िरी संस्करण.mkv", 32 * MIB))
            await one_of_a_new_device(camera, noise(root / "Probe.mkv", 32 * MIB), root)
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
