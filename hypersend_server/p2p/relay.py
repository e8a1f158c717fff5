"""Joins the two ends of a transfer: what one sends the other gets, frame by frame, and nothing is kept.

Binary frames go from line to line (`line.py`), each only when there is room for it, so a slow receiver slows the
sender, and what waits here is a few frames and the buffers of two sockets. An end that takes nothing for a minute, or
says nothing when it should, is let go; the other one waits for it to come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import WSMsgType

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.transfers import Status, TransferRecord
from hypersend_server.p2p import wire
from hypersend_server.p2p.line import Line
from hypersend_server.p2p.meeting import OTHER, SILENCE_S, End, Meeting
from hypersend_server.p2p.service import CLAIM_MS
from hypersend_server.p2p.wire import Role

PING_S = 20.0
TELL_S = 0.5
SAVE_S = 2.0
STOP_S = 2.0
KEPT_AT_ONCE = 32  # claims that are renewed together: one after the other, many would lapse while the database is slow
TURN_FRAMES = 16  # so many that are not just passed on, and everything else in this process has its turn
log = logging.getLogger(__name__)


class Book(Protocol):
    """Where the relay writes down what happens."""

    async def moved(self, transfer_id: str, status: Status) -> None: ...

    async def progressed(self, transfer: TransferRecord, transferred_bytes: int) -> None: ...

    def tell_progress(self, transfer: TransferRecord, transferred_bytes: int) -> None: ...

    async def finished(self, transfer_id: str, status: Status) -> None: ...


class Relay:
    """claim: (transfer id, this process, now, until, one that is gone) → the process that joins it; this one is
    `name`. release: gives it back."""

    def __init__(
        self, book: Book, *, name: str, claim: Callable[[str, str, int, int, str | None], Awaitable[str]],
        release: Callable[[str, str], Awaitable[None]], clock: Clock,
    ) -> None:
        self._book = book
        self.name = name
        self._claim = claim
        self._release = release
        self._clock = clock
        self._meetings: dict[str, Meeting] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._recording: set[asyncio.Task[None]] = set()
        self.relayed_bytes = 0

    @property
    def sockets(self) -> int:
        return sum(len(meeting.ends) for meeting in self._meetings.values())

    @property
    def meetings(self) -> int:
        return len(self._meetings)

    async def place(self, transfer_id: str, instead_of: str | None = None) -> str:
        """The name of the process that joins this transfer from now on. instead_of: one that is gone, or that nobody
        reaches from here; if it is there all the same, its own `_keep` lets its end go.

        Raises: `not_found`, `transfer_closed`.
        """
        now = self._clock()
        try:
            return await self._claim(transfer_id, self.name, now, now + CLAIM_MS, instead_of)
        except asyncio.CancelledError:  # the claim may have been made all the same
            if transfer_id not in self._meetings:
                await asyncio.shield(self._give_back(transfer_id))
            raise

    async def _give_back(self, transfer_id: str) -> None:
        with contextlib.suppress(HyperSendError):
            await self._release(transfer_id, self.name)
            if transfer_id in self._meetings:  # an end came back meanwhile, and its claim went with it
                await self.place(transfer_id)

    async def join(
        self, transfer: TransferRecord, role: Role, line: Line, session_id: str, joined: str
    ) -> None:
        """Serve this end until its socket closes. joined: the first frame that it gets."""
        meeting = self._meetings.setdefault(transfer.id, Meeting(transfer))
        end = End(line, session_id, meeting, role, self._passed)
        older = meeting.ends.get(role)
        meeting.ends[role] = end
        if older is not None:
            older.close(wire.REPLACED, "a newer socket is here")
        pinging = asyncio.create_task(self._ping(end))
        try:
            await end.send(joined)
            meeting.greet()
            if len(meeting.ends) == 1 and meeting.is_active:  # what the last process left behind
                await self._pause(meeting)
            await self._read(meeting, role, end)
        finally:
            pinging.cancel()
            await asyncio.shield(self._leave(meeting, role, end))
        await end.finish()

    async def _read(self, meeting: Meeting, role: Role, end: End) -> None:
        """Until there is nothing more to read, or `end.close` stops it."""
        reading = end.reading = asyncio.create_task(self._pump(meeting, role, end))
        if end.is_closing:
            reading.cancel()
        try:
            await asyncio.wait({reading})
        except asyncio.CancelledError:
            # The line is gone. What came before is still read: it may say that the transfer failed.
            await asyncio.wait({reading}, timeout=STOP_S)
            raise
        finally:
            reading.cancel()
            await asyncio.wait({reading})
        if not reading.cancelled():
            reading.result()

    async def _leave(self, meeting: Meeting, role: Role, end: End) -> None:
        end.gone.set()
        if meeting.ends.get(role) is not end:
            return
        del meeting.ends[role]
        if meeting.ends:
            meeting.greet()  # before the database, which may be slow: who is left is to hear of it now
        await self._save(meeting)
        if role not in meeting.ends:  # else it came back meanwhile, and the next round is under way
            await self._pause(meeting)
        if not meeting.ends and self._meetings.get(meeting.transfer.id) is meeting:
            del self._meetings[meeting.transfer.id]
            if meeting.telling is not None:
                meeting.telling.cancel()
            await self._give_back(meeting.transfer.id)

    def _passed(self, size_bytes: int) -> None:
        self.relayed_bytes += size_bytes

    async def _pump(self, meeting: Meeting, role: Role, end: End) -> None:
        """Pass this end's frames on: those that its line does not pass on by itself."""
        turn = 0
        other = OTHER[role]
        while True:
            try:
                message = await end.line.receive(timeout=SILENCE_S)
            except TimeoutError:
                end.close(wire.TOO_SLOW, "nothing was heard for a minute")
                return
            turn += 1
            if turn % TURN_FRAMES == 0:
                await asyncio.sleep(0)
            if message.type is WSMsgType.BINARY:
                data: bytes = message.data
                if not 1 <= len(data) <= wire.MAX_BINARY_BYTES:
                    end.close(wire.BAD_FRAME, "a binary frame of this size is none of ours")
                    return
                if (there := meeting.ends.get(other)) is not None:
                    await there.send(data)
                end.way.passed(len(data))
                if end.is_closing:
                    return
            elif message.type is WSMsgType.TEXT:
                end.way.count(len(message.data))  # blanks between what it says are passed on, too
                if end.is_closing:
                    return
                try:
                    frame = wire.parse(message.data, role)
                    goes_on = await self._control(meeting, frame, message.data, meeting.ends.get(other))
                except wire.BadFrame as error:
                    end.close(wire.BAD_FRAME, str(error))
                    return
                if not goes_on:
                    return
            else:
                return

    async def _control(self, meeting: Meeting, frame: wire.AnyFrame, raw: str, there: End | None) -> bool:
        """Note what concerns us and pass it on; False where it was the last. Raises: wire.BadFrame."""
        transfer = meeting.transfer
        match frame:
            case wire.Auth():
                raise wire.BadFrame("this socket is signed in already")
            case wire.Hello(round=number) | wire.Ready(round=number):
                if number != meeting.round or there is None:
                    return True  # of a meeting that is over
                if isinstance(frame, wire.Ready):
                    self._verified(meeting, frame.offset)
                    if not meeting.is_active:
                        meeting.is_active = True
                        await self._book.moved(transfer.id, "active")
            case wire.Ack(offset=offset):
                self._verified(meeting, offset)
                await self._save_if_due(meeting)
            case wire.Done():
                self._verified(meeting, transfer.size)
                await self._save(meeting)
                await self._finish(meeting, raw, there, "done")
                return False
            case wire.Fail():
                await self._finish(meeting, raw, there, "failed")
                return False
            case wire.Cancel():
                await self._finish(meeting, raw, there, "cancelled")
                return False
        if there is not None:
            await there.send(raw)
        return True

    def _verified(self, meeting: Meeting, offset: int) -> None:
        if offset > meeting.transfer.size:
            raise wire.BadFrame("the offset is behind the end of the file")
        if offset <= meeting.verified:
            return
        meeting.verified = offset
        if meeting.telling is None:
            loop = asyncio.get_running_loop()
            meeting.telling = loop.call_at(max(loop.time(), meeting.tell_at), self._tell, meeting)

    def _tell(self, meeting: Meeting) -> None:
        meeting.telling = None
        meeting.tell_at = asyncio.get_running_loop().time() + TELL_S
        if meeting.is_active:
            self._book.tell_progress(meeting.transfer, meeting.verified)

    async def _save_if_due(self, meeting: Meeting) -> None:
        now = asyncio.get_running_loop().time()
        if now >= meeting.save_at:
            meeting.save_at = now + SAVE_S
            await self._save(meeting)

    async def _save(self, meeting: Meeting) -> None:
        if meeting.verified > meeting.saved:
            saved, meeting.saved = meeting.saved, meeting.verified
            try:
                await self._book.progressed(meeting.transfer, meeting.verified)
            except HyperSendError as error:  # a hint for people; the receiver knows what it has
                meeting.saved = saved
                log.warning("noting how far transfer %s came: %s", meeting.transfer.id, error)

    async def _pause(self, meeting: Meeting) -> None:
        if meeting.is_active:
            meeting.is_active = False
            try:
                await self._book.moved(meeting.transfer.id, "paused")
            except HyperSendError as error:
                log.warning("noting that transfer %s waits: %s", meeting.transfer.id, error)

    async def _finish(self, meeting: Meeting, raw: str, there: End | None, status: Status) -> None:
        meeting.is_active = False
        # Recorded before the other end hears it: that one goes away then, and if we were killed, nobody would say it
        # again.
        meeting.last = None if there is None else (there, raw)
        recording = asyncio.create_task(self._book.finished(meeting.transfer.id, status))
        self._recording.add(recording)
        recording.add_done_callback(self._recording.discard)
        try:
            await asyncio.shield(recording)  # this end may leave, and what is recorded is to be told
        except BaseException:
            if status == "done":
                meeting.last = None  # the receiver comes back, and says it again
            else:
                meeting.say_last()  # this end does not come back
            raise
        self.end(meeting.transfer.id, status)  # also where it was over already

    def end(self, transfer_id: str, status: str) -> None:
        """It is over: both sockets close."""
        meeting = self._meetings.get(transfer_id)
        if meeting is None:
            return
        meeting.is_active = False
        meeting.say_last()
        for end in meeting.ends.values():
            end.close(1000 if status == "done" else wire.OVER, status)

    def end_sessions(self, session_ids: list[str]) -> None:
        for meeting in self._meetings.values():
            for end in meeting.ends.values():
                if end.session_id in session_ids:
                    end.close(wire.SESSION_ENDED, "the session has ended")

    async def _ping(self, end: End) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await asyncio.sleep(PING_S)
                await end.line.ping()

    # With the application

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep_claims())

    async def _keep_claims(self) -> None:
        while True:
            await asyncio.sleep(CLAIM_MS / 3000)
            ids = list(self._meetings)
            for first in range(0, len(ids), KEPT_AT_ONCE):
                await asyncio.gather(*map(self._keep, ids[first:first + KEPT_AT_ONCE]))

    async def _keep(self, transfer_id: str) -> None:
        try:
            if await self.place(transfer_id) != self.name and transfer_id in self._meetings:
                # The claim lapsed while the database was away, or a process that cannot reach this one took it over:
                # both ends meet where it is now.
                for end in self._meetings[transfer_id].ends.values():
                    end.close(wire.STOPPING, "another process joins this transfer")
        except HyperSendError as error:
            if error.code in ("transfer_closed", "not_found"):  # we were not told, or before its ends came
                self.end(transfer_id, str(error.extra.get("transfer_status", "cancelled")))
            else:
                log.warning("keeping transfer %s: %s", transfer_id, error)
        except Exception:  # the others are kept all the same, and this one at the next time
            log.exception("keeping transfer %s", transfer_id)

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        ends = [end for meeting in self._meetings.values() for end in meeting.ends.values()]
        for end in ends:
            end.close(wire.STOPPING, "the server stops")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await asyncio.gather(*(end.gone.wait() for end in ends))
        if self._recording:
            await asyncio.wait(self._recording, timeout=STOP_S)
