"""The browser of a soak: somebody who has the web app open all the time and writes in it.

Called by `benchmarks.soak --web` as a process of its own, since a browser needs more memory than the server may have.
It waits for FOLDER/web.json (`url`, `email`, `chat_id`), signs in, opens that chat and writes a message every 15 s,
each once the one before is on the screen. SIGTERM ends it; what it saw is then in FOLDER/browser.json.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import statistics
import sys
from pathlib import Path

from benchmarks.bad_network_web import Writing
from tests.app.driver import Screen
from tests.harness import PASSWORD
from tests.web.chromium import chromium

WRITE_S = 15.0


async def main(folder: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with chromium() as browser:
        (folder / "browser.ready").touch()
        while not (folder / "web.json").exists():
            await asyncio.sleep(0.1)
        told = json.loads((folder / "web.json").read_text())
        screen = await Screen.open(browser, told["url"], width=1280, height=800)
        await screen.fill("email", told["email"])
        await screen.fill("password", PASSWORD)
        await screen.page.keyboard.press("Enter")
        await screen.sees(f"chat-row-{told['chat_id']}")
        await screen.go(f"/chat/{told['chat_id']}")
        await screen.sees("composer")
        writing = Writing(screen.page, screen, pause_s=WRITE_S)
        work = asyncio.create_task(writing.write())
        await asyncio.wait({work, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        if not writing.own:
            raise RuntimeError("nothing that was written came to the screen")
        waits = sorted(writing.own[text] - writing.typed[text] for text in writing.own)
        (folder / "browser.json").write_text(json.dumps({
            "messages": len(waits), "enter_again": writing.repeats, "p50_s": round(statistics.median(waits), 2),
            "p99_s": round(waits[int(len(waits) * 0.99)], 2), "longest_s": round(waits[-1], 2)}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
