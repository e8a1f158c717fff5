"""What opening and scrolling cost: `python -m tests.app_chat.bench [MESSAGES] [CHATS]`.

No browser and no network: the time this process needs to draw, and the bytes that it would send over the socket.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from datetime import timedelta
from typing import Any

import flet as ft
import msgpack
from flet.controls.base_control import BaseControl
from flet.messaging.protocol import configure_encode_object_for_msgpack

from hypersend_client.sdk import Chat
from tests.app.fakes import message
from tests.app.stage import Stage
from tests.app_chat.house import BEGAN, lived_in

QUIET_S = 0.6


class Meter:
    """Bytes and updates to the client since `start`, and this process's own time."""

    def __init__(self, stage: Stage) -> None:
        self.bytes = self.sent = 0
        self.encoding = 0.0
        plain = stage.wire.send_message

        def counted(what: Any) -> None:
            began = time.process_time()
            encoder = configure_encode_object_for_msgpack(BaseControl)
            self.bytes += len(msgpack.packb([what.action, what.body], default=encoder))
            self.encoding += time.process_time() - began  # the wire encodes it again
            self.sent += 1
            self.last = time.perf_counter()
            plain(what)

        stage.wire.send_message = counted  # type: ignore[method-assign]

    def start(self) -> None:
        self.bytes = self.sent = 0
        self.encoding = 0.0
        self.began = self.last = time.perf_counter()
        self.cpu = time.process_time()

    async def tell(self, what: str) -> None:
        """When nothing has been sent for a while after something was."""
        while not self.sent or time.perf_counter() - self.last < QUIET_S:
            await asyncio.sleep(QUIET_S / 10)
        cpu, wall = time.process_time() - self.cpu - self.encoding, self.last - self.began - self.encoding
        print(f"{what:44} {wall * 1000:7.0f} ms {cpu * 1000:7.0f} ms {self.bytes / 1000:9.1f} kB {self.sent:5} updates")


async def main(messages: int, chats: int) -> None:
    print(f"{'':44} {'time':>10} {'cpu':>10} {'sent':>12}")
    async with lived_in() as (house, stage):
        meter = Meter(stage)
        meter.start()
        many = [
            Chat(f"x-{n}", kind="group", title=f"Chat {n}", seq=1, rev=1, members_count=3,
                 last_message=message(f"x-{n}", 1, "Shall we?"), updated_at=BEGAN - timedelta(minutes=n))
            for n in range(chats)
        ]  # fmt: skip
        await house.put(*many)
        await stage.sees(f"chat-row-{many[0].id}")
        await meter.tell(f"the list of {chats} chats")
        await house.furnish(count=messages)
        await stage.sees("chat-row-c-1")
        for what in ("a message, in the list", "another one"):
            meter.start()
            await house.say("c-1", what)
            await meter.tell(what)
        meter.start()
        await stage.go("/chat/c-1")
        await meter.tell(f"opening the chat of {messages:,} messages")
        meter.start()
        await house.say("c-1", "a third one")
        await meter.tell("a message, in the open chat")
        for page in range(10):
            meter.start()
            far = {"event_type": "update", "pixels": 5000.0 + page * 6000, "min_scroll_extent": 0.0,
                   "max_scroll_extent": 5100.0 + page * 6000, "viewport_dimension": 700.0,
                   "scroll_delta": -100.0}  # fmt: skip
            listed = [c for c in stage.controls() if isinstance(c, ft.ListView) and c.on_scroll is not None]
            meter.start()
            await stage.page.session.dispatch_event(listed[-1]._i, "scroll", far)
            await meter.tell(f"page {page + 1} of 100 older ones")
    print(f"largest memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    asyncio.run(main(*(int(argument) for argument in sys.argv[1:] or ("100000", "1000"))))
