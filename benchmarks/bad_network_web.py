"""A person with the web app open on a bad network: opens it, writes, and sends a big file from the browser.

    sudo unshare -n .venv/bin/python -m benchmarks.bad_network_web [--size-mib 200] [--loss 0.05] [--delay-ms 100]

The line is that of `benchmarks.bad_network`, cuts included; at its end is a real Chromium. Another person on a good
line reads along and fetches the file. Told are: how long the app took to open, when each message was on the writer's
own screen and with the other, once and in order; how long the file took, and the longest time without progress.
`--pictures DIR` keeps what the screen showed every 10 s. `--tls http1` or `http2` puts nginx with TLS in front.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.async_api import Error, Frame, Page

from benchmarks.bad_network import MIB, PASSWORD, cutting, spread, tell
from benchmarks.lossy import HERE, THERE, Network
from hypersend_client.sdk import FileTokenStore, HyperSend
from hypersend_client.sdk.events import Event, MessageReceived
from hypersend_client.sdk.transfers import Transfers
from tests.app.driver import Screen
from tests.parts import program
from tests.process import ServerProcess
from tests.web.chromium import choose_files, chromium

WRITE_S = 4.0
SHOT_S = 10.0
GIVE_UP_S = 300.0


async def main(options: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(prefix="hypersend-bad-network-"))
    network = Network(options.loss, options.delay_ms / 1000, options.kib_per_s * 1024)
    network.start()
    try:
        with ServerProcess(
            folder / "data", RATE_LIMITS="off", HOST=HERE, WEB_CLIENT="on", REGISTRATION="open", TRUSTED_PROXIES=HERE
        ) as server, (nginx(folder, server.url, options.tls) if options.tls else contextlib.nullcontext()):
            far = f"https://{THERE}:8443" if options.tls else server.url.replace(HERE, THERE)
            await walk(folder, server.url, far, network, options)
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def nginx(folder: Path, upstream: str, protocol: str) -> Iterator[None]:
    """TLS for the server at port 8443, as `nginx/` has it. protocol: http1 or http2."""
    subprocess.run([
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", "/CN=x", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"),
    ], check=True, capture_output=True)
    folder.chmod(0o755)
    (folder / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
        events {{}}
        http {{
          access_log off; client_max_body_size 0; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
          fastcgi_temp_path {folder}/n1; uwsgi_temp_path {folder}/n2; scgi_temp_path {folder}/n3;
          map $http_upgrade $connection_word {{ default upgrade; "" ""; }}
          server {{
            listen {HERE}:8443 ssl{" http2" if protocol == "http2" else ""};
            ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
            location / {{
              proxy_pass {upstream}; proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off;
              proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;
              proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
              proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_word;
            }}
          }}
        }}""")
    process = subprocess.Popen([program("nginx"), "-c", str(folder / "nginx.conf")])
    try:
        _wait_for(HERE, 8443)
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_for(host: str, port: int) -> None:
    until = time.monotonic() + 10
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        if time.monotonic() > until:
            raise TimeoutError(f"nothing listens at {host}:{port}")
        time.sleep(0.05)


class Writing:
    """What the person in the browser writes: when each text was typed, seen on their own screen, and arrived."""

    def __init__(self, page: Page, screen: Screen, pause_s: float = WRITE_S) -> None:
        self.page, self.screen, self.pause_s = page, screen, pause_s
        self.typed: dict[str, float] = {}
        self.own: dict[str, float] = {}
        self.arrived: dict[str, float] = {}
        self.order: list[str] = []
        self.repeats = 0

    def hear(self, event: Event) -> None:
        if isinstance(event, MessageReceived) and event.message.text:
            self.order.append(event.message.text)
            self.arrived.setdefault(event.message.text, time.monotonic())

    async def write(self) -> None:
        """One after the other, each until it is on the screen; Enter again where nothing came of it for 15 s."""
        while True:
            text = f"Message {len(self.typed)}"
            await self.screen.fill("composer", text)
            self.typed[text] = time.monotonic()
            await self.page.keyboard.press("Enter")
            while not await self.shows(text):
                if time.monotonic() - self.typed[text] > 15 * (self.repeats + 1):
                    self.repeats += 1
                    field = (await self.screen.sees("composer")).locator("textarea, input").first
                    if await field.input_value() != text:
                        await self.screen.fill("composer", text)
                    await self.page.keyboard.press("Enter")
                await asyncio.sleep(0.2)
            self.own[text] = time.monotonic()
            await asyncio.sleep(self.pause_s)

    async def shows(self, text: str) -> bool:
        return bool(await self.page.evaluate(
            "text => [...document.querySelectorAll('flt-semantics-host *')].some("
            "n => (n.getAttribute('aria-label') || '').includes(text + '.') || "
            "(n.childElementCount === 0 && (n.textContent || '').includes(text + '.')))", text))


async def upload_frame(page: Page) -> Frame:
    async with asyncio.timeout(GIVE_UP_S):
        while True:
            for frame in page.frames:
                if "/upload" in frame.url:
                    return frame
            await asyncio.sleep(0.1)


async def walk(folder: Path, url: str, far: str, network: Network, options: argparse.Namespace) -> None:
    source = folder / "holiday.mp4"
    source.write_bytes(os.urandom(options.size_mib * MIB))
    shots = Path(options.pictures) if options.pictures else None
    tasks: list[asyncio.Task[None]] = []
    async with (
        HyperSend(url) as asha, HyperSend(url, tokens=FileTokenStore(folder / "ben.json")) as ben,
        chromium(f"--unsafely-treat-insecure-origin-as-secure={far}", "--ignore-certificate-errors") as browser,
    ):
        ben_user = await ben.register("ben@example.org", "ben", PASSWORD)
        await asha.register("asha@example.org", "asha", PASSWORD)
        chat = await asha.chats.open_direct(ben_user.id)
        opened = time.monotonic()
        screen = await Screen.open(browser, far, width=1280, height=800)
        await screen.sees("email")
        open_s, open_mib = time.monotonic() - opened, sum(screen.watched.sizes.values()) / MIB
        print(f"the app is open after {open_s:.1f} s", flush=True)
        page = screen.page
        await screen.fill("email", "asha@example.org")
        await screen.fill("password", PASSWORD)
        await page.keyboard.press("Enter")
        await screen.sees(f"chat-row-{chat.id}")
        await screen.go(f"/chat/{chat.id}")
        await screen.sees("composer")
        writing = Writing(page, screen)
        ben.connection.on(writing.hear)
        await ben.start()
        await ben.connection.wait_online()

        async def look() -> None:
            while shots is not None:
                shots.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(Error):
                    await page.screenshot(path=shots / f"{time.monotonic() - began:04.0f}.png")
                await asyncio.sleep(SHOT_S)

        began = time.monotonic()
        await screen.click("attach")
        await screen.click("attach-file")
        frame = await upload_frame(page)
        tasks += [asyncio.create_task(cutting(network, options.cut_s)), asyncio.create_task(look())]
        await choose_files(frame, source, GIVE_UP_S * 1000)
        began, before = time.monotonic(), network.bytes
        tasks.append(asyncio.create_task(writing.write()))
        said, said_at, still = "", began, 0.0
        while not await frame.locator("li.done").count():
            for task in tasks:
                if task.done():
                    task.result()
            now = await frame.locator("#list").inner_text()
            if now != said:
                still, said, said_at = max(still, time.monotonic() - said_at), now, time.monotonic()
            await asyncio.sleep(0.25)
        seconds, passed = time.monotonic() - began, network.bytes - before
        size = options.size_mib * MIB
        print(f"{options.size_mib} MiB in {seconds:.0f} s", flush=True)
        for task in tasks:
            task.cancel()
        network.loss = options.loss
        async with asyncio.timeout(GIVE_UP_S):
            while len(writing.arrived) < len(writing.own):
                await asyncio.sleep(0.1)
            while not (found := [file for message in (await ben.messages.page(chat.id)).items
                                 for file in message.files]):
                await asyncio.sleep(0.1)
        got = Transfers(ben, folder / "ben.sqlite", folder=folder / "got")
        path = await (await got.download(found[0])).wait()
        with path.open("rb") as one, source.open("rb") as other:
            assert hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()
        await got.close()
        done = [text for text in writing.typed if text in writing.own]
        arrived = [text for text in writing.typed if text in writing.arrived]
        order = [text for text in writing.order if text.startswith("Message ")]
        tell({
            "open after, s": open_s, "MiB until then": open_mib,
            "MiB": options.size_mib, "seconds": seconds, "KiB/s": size / 1024 / seconds, "cuts": network.cuts,
            "passed on the line, of the file's size": passed / size,
            "longest time in which the page said nothing new, s": still,
            "messages": len(done), "Enter was needed again": writing.repeats,
            **spread("on the writer's own screen", [writing.own[text] - writing.typed[text] for text in done]),
            **spread("with the other", [writing.arrived[text] - writing.typed[text] for text in done]),
            "seen twice": len(order) - len(set(order)), "in order": sorted(set(order), key=order.index) == arrived,
        }, options.keep)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=200)
    parser.add_argument("--loss", type=float, default=0.05)
    parser.add_argument("--delay-ms", type=float, default=100)
    parser.add_argument("--kib-per-s", type=float, default=1000)
    parser.add_argument("--cut-s", type=float, default=20)
    parser.add_argument("--keep", type=Path, help="a JSON file for the figures")
    parser.add_argument("--pictures", default="")
    parser.add_argument("--tls", choices=("http1", "http2"), default="")
    asyncio.run(main(parser.parse_args()))
