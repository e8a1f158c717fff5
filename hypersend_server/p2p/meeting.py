"""The two ends of a transfer that are at this process, and what may go from one to the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from hypersend_server.metadata.transfers import TransferRecord
from hypersend_server.p2p import wire
from hypersend_server.p2p.line import Line
from hypersend_server.p2p.wire import Role

SILENCE_S = 60.0
# What an end may send in a round beside the bytes of the file: what seals them, in frames of 200 bytes at the least;
# control; and what was still on its way when the round began. That lies in the buffers of up to six sockets: the
# device's and ours, and between them those of a proxy and of a pipe, each of which the kernel lets grow to several MiB.
SEAL_SHARE = 8
SLACK_BYTES = 64 * 1024 * 1024
OTHER: dict[Role, Role] = {"sender": "receiver", "receiver": "sender"}


class End:
    """One device's socket."""

    def __init__(
        self, line: Line, session_id: str, meeting: Meeting, role: Role, passed: Callable[[int], None]
    ) -> None:
        self.line = line
        self.session_id = session_id
        self.way = line.passage = Way(meeting, self, OTHER[role], passed)
        self.gone = asyncio.Event()
        self.reading: asyncio.Task[None] | None = None
        self._closing: tuple[int, str] | None = None

    async def send(self, data: bytes | str) -> bool:
        """False where it has gone, or takes nothing and is let go."""
        try:
            async with asyncio.timeout(SILENCE_S):
                await (self.line.send_str(data) if isinstance(data, str) else self.line.send_bytes(data))
        except TimeoutError:
            self.let_go()
        except ConnectionError:
            pass  # its own reader notices
        else:
            return True
        return False

    def let_go(self) -> None:
        self.close(wire.TOO_SLOW, "nothing was taken for a minute")

    def close(self, code: int, reason: str = "") -> None:
        """Its reader stops at its next step, and closes the socket: a socket that is being read cannot be closed
        properly from elsewhere."""
        if self._closing is None:
            self._closing = (code, reason)
            self.line.hold()
            if self.reading is not None and self.reading is not asyncio.current_task():
                self.reading.cancel()

    @property
    def is_closing(self) -> bool:
        return self._closing is not None

    async def finish(self) -> None:
        """By the reader, after its last step."""
        code, reason = self._closing or (1000, "")
        await self.line.close(code=code, message=reason.encode())


class Meeting:
    """The ends of one transfer that are here. round: grows each time that both have come together."""

    def __init__(self, transfer: TransferRecord) -> None:
        self.transfer = transfer
        self.ends: dict[Role, End] = {}
        self.round = 0
        self.is_active = transfer.status == "active"
        self.verified = transfer.transferred_bytes
        self.saved = self.verified
        self.save_at = 0.0
        self.tell_at = 0.0
        self.telling: asyncio.TimerHandle | None = None
        self.last: tuple[End, str] | None = None  # what an end is to hear before its socket closes

    def greet(self) -> None:
        """Tell whoever is here whether the other end is, too. Not waiting for room: an end that was told of a round
        after the next one had begun would stay in that."""
        if len(self.ends) == 2:
            self.round += 1
            for end in self.ends.values():
                end.way.begin_round()
        frame = wire.peer(self.round if len(self.ends) == 2 else None)
        for end in list(self.ends.values()):
            end.line.go_on()  # what it waits to pass on to the older socket of the other end is of no use any more
        for end in self.ends.values():
            with contextlib.suppress(ConnectionError):
                end.line.tell(frame)

    def say_last(self) -> None:
        if self.last is not None:
            (there, raw), self.last = self.last, None
            with contextlib.suppress(ConnectionError):
                there.line.tell(raw)


class Way:
    """From one end to the other: where `line.py` passes binary frames on, and no more of them than the file needs."""

    max_bytes = wire.MAX_BINARY_BYTES

    def __init__(self, meeting: Meeting, end: End, other: Role, passed: Callable[[int], None]) -> None:
        self._meeting = meeting
        self._end = end
        self._other = other
        self._passed = passed
        self.begin_round()

    def begin_round(self) -> None:
        size = self._meeting.transfer.size
        self._left_bytes = size + size // SEAL_SHARE + SLACK_BYTES

    def passed(self, size_bytes: int) -> None:
        self._passed(size_bytes)
        self.count(size_bytes)

    def count(self, size_bytes: int) -> None:
        """So much has come, of the file or of control; more than a round needs closes this end."""
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            self._end.close(wire.BAD_FRAME, "more has come than was offered")

    def target(self) -> Line | None:
        there = self._meeting.ends.get(self._other)
        return None if there is None else there.line

    def stuck(self, target: Line) -> None:
        there = self._meeting.ends.get(self._other)
        if there is not None and there.line is target:
            there.let_go()
