"""The web app's cost in memory: `python -m benchmarks.web_users` (`--users 1,10,20`, `--messages 100,300`,
`--upload 3GiB`).

Real browsers register, sign in and open a chat; then the server, the process that draws the screens, and (for the
upload page) all of Chromium's processes are looked at. Resident sizes in MB (10^6 bytes) from /proc; Chromium's are
proportional shares, since its processes share much.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from benchmarks.people import PASSWORD, register_all
from benchmarks.processes import Server, folder, hypersend
from tests.app.driver import Screen
from tests.parts import program

MIB = 1024 * 1024
SETTLE_S = 10.0
SAMPLE_S = 0.5


def children(pid: int) -> list[int]:
    """Of this process, theirs included."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


def rss_mb(pid: int) -> float:
    return _figure(Path(f"/proc/{pid}/status"), "VmRSS:")


def pss_mb(pids: list[int]) -> float:
    """What vanishes meanwhile counts nothing."""
    total = 0.0
    for pid in pids:
        try:
            total += _figure(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")
        except OSError:
            continue
    return total


def _figure(path: Path, name: str) -> float:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def screens_pid(server: Server) -> int:
    """Of the process that draws the web app's screens."""
    for pid in children(server.process.pid):
        if b"hypersend_client.web.child" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise RuntimeError("the screens' process does not run")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    path = program("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


def browser_pids() -> list[int]:
    return [pid for pid in children(os.getpid())
            if b"chrom" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]]


async def users(counts: list[int]) -> None:
    with folder() as where, hypersend(where, WEB_CLIENT="on") as server:
        async with chromium() as browser:
            warm = await Screen.open(browser, server.url)
            await warm.sees("sign-in")
            await warm.watched.context.close()
            await asyncio.sleep(SETTLE_S)
            begin = (rss_mb(server.process.pid), rss_mb(screens_pid(server)))
            print(f"{'signed in':>10} {'server MB':>10} {'screens MB':>11} {'per user MB':>12}")
            print(f"{0:>10} {begin[0]:>10.1f} {begin[1]:>11.1f} {'':>12}", flush=True)
            open_: list[Screen] = []
            for count in counts:
                while len(open_) < count:
                    screen = await Screen.open(browser, server.url)
                    await screen.register(f"user_{len(open_)}")
                    await screen.sees("start-chat")
                    open_.append(screen)
                await asyncio.sleep(SETTLE_S)
                now = (rss_mb(server.process.pid), rss_mb(screens_pid(server)))
                each = (sum(now) - sum(begin)) / count
                print(f"{count:>10} {now[0]:>10.1f} {now[1]:>11.1f} {each:>12.2f}", flush=True)


async def messages(counts: list[int]) -> None:
    """That come to a conversation that somebody has open."""
    with folder() as where, hypersend(where, WEB_CLIENT="on") as server:
        reader, writer = register_all(server, 2)
        chat_id = writer.call("POST", "/chats", {"kind": "direct", "user_id": reader.id})["id"]
        async with chromium() as browser:
            screen = await Screen.open(browser, server.url, width=1280, height=800)
            await screen.fill("email", "person_0@example.org")
            await screen.fill("password", PASSWORD)
            await screen.page.keyboard.press("Enter")
            await screen.sees(f"chat-row-{chat_id}")
            await screen.go(f"/chat/{chat_id}")
            await screen.sees("composer")
            await asyncio.sleep(SETTLE_S)
            print(f"{'messages':>10} {'server MB':>10} {'screens MB':>11}")
            said = 0
            for count in [0, *counts]:
                while said < count:
                    said += 1
                    await asyncio.to_thread(writer.call, "POST", f"/chats/{chat_id}/messages", {
                        "client_id": str(said), "text": f"message {said}"})
                    await asyncio.sleep(0.05)  # so that each is drawn
                await asyncio.sleep(SETTLE_S)
                now = rss_mb(server.process.pid), rss_mb(screens_pid(server))
                print(f"{said:>10} {now[0]:>10.1f} {now[1]:>11.1f}", flush=True)


async def upload(size: int) -> None:
    with folder() as where, hypersend(where, WEB_CLIENT="on") as server:
        film = where / "film.mkv"
        with film.open("wb") as file:
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))
        async with chromium() as browser:
            ann = await Screen.open(browser, server.url, width=1280, height=800)
            await ann.register("ann")
            await ann.click("start-chat")
            await ann.sees("find-people")
            bo = await Screen.open(browser, server.url)
            await bo.register("bodhi")
            await bo.sees("start-chat")
            await bo.watched.context.close()
            await ann.fill("find-people", "bodhi")
            await ann.click("user-bodhi")
            await ann.sees("composer")
            await ann.click("attach")
            await ann.click("attach-file")
            await ann.page.locator("iframe").first.wait_for(state="attached")
            frame = ann.page.frame_locator("iframe").first
            await frame.locator("#files").wait_for(state="attached")
            await asyncio.sleep(SETTLE_S)
            before, peak = pss_mb(browser_pids()), 0.0
            server.reset_peak()
            began = time.perf_counter()
            await frame.locator("#files").set_input_files(film)
            done = asyncio.ensure_future(frame.locator("li.done").wait_for(timeout=1_800_000))
            quarters: list[float] = []
            while not done.done():
                await asyncio.wait([done], timeout=SAMPLE_S)
                quarters.append(pss_mb(browser_pids()))
            await done
            took = time.perf_counter() - began
            peak = max(quarters)
            at = [quarters[min(len(quarters) - 1, len(quarters) * n // 4)] for n in range(1, 5)]
            print(f"{size / 1e9:.2f} GB in {took:.0f} s, {size / took / 1e6:.0f} MB/s")
            print(f"browser: {before:.0f} MB before, {peak:.0f} MB at the most; after each quarter "
                  + ", ".join(f"{mb:.0f}" for mb in at))
            print(f"server: {server.peak_mb():.0f} MB at the most; screens: {rss_mb(screens_pid(server)):.0f} MB")


def size_of(text: str) -> int:
    """`3GiB`, `64MiB` → bytes."""
    number, unit = text[:-3], text[-3:]
    return int(number) * {"MiB": MIB, "GiB": 1024 * MIB}[unit]


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web_users", description=__doc__)
    parser.add_argument("--users", default="1,10,20", help="how many are signed in, one after the other")
    parser.add_argument("--messages", help="how many come to an open conversation, in place of that")
    parser.add_argument("--upload", type=size_of, help="send a file of this size through the upload page instead")
    arguments = parser.parse_args()
    if arguments.upload:
        await upload(arguments.upload)
    elif arguments.messages:
        await messages([int(count) for count in arguments.messages.split(",")])
    else:
        await users([int(count) for count in arguments.users.split(",")])


if __name__ == "__main__":
    asyncio.run(main())
