"""Sending a local file to another device: read and sealed 1 MiB at a time, and no faster than it is taken."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from typing import Any

from hypersend_client.sdk import p2p_direct
from hypersend_client.sdk.p2p_calls import PeerTransfer
from hypersend_client.sdk.p2p_digest import RunningTag
from hypersend_client.sdk.p2p_end import PeerEnd
from hypersend_client.sdk.p2p_frames import MOST_HEADER_BYTES
from hypersend_client.sdk.p2p_journal import lock_name
from hypersend_client.sdk.p2p_line import BATCH_FRAMES, Line, MessageLine, WebSocketLine
from hypersend_client.sdk.p2p_names import require_offered
from hypersend_client.sdk.p2p_seal import DATA_BYTES, FRAME_BYTES, Handshake, Opener, Sealer
from hypersend_client.sdk.source import Source, Window
from hypersend_client.sdk.transfer_errors import SourceChanged, Tampered

SLOW_S = 0.25  # fewer frames are given to a line that takes longer, so that what is said next is not long behind them
BATCH_BYTES = BATCH_FRAMES * DATA_BYTES
BATCH_ROOM = BATCH_FRAMES * (MOST_HEADER_BYTES + FRAME_BYTES)

_Batch = tuple[memoryview, deque[int]]  # frames, each behind its header; where each of them ends


class PeerSender(PeerEnd[PeerTransfer]):
    """Its result is the transfer as it ended. is_confirmed: the other device said, sealed, that it has the whole file;
    False where this was not heard and the server alone says so."""

    role = "sender"
    heartbeat_s = 60.0  # a slow receiver keeps the relay from answering sooner

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.size_bytes = self.row.identity.size
        self.is_confirmed = False
        self._source: Source
        self._window = Window()
        self._running: RunningTag | None = None
        self._tag = ""
        self._sent = 0
        self._opener: Opener | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._channel: p2p_direct.Channel | None = None

    async def _transfer(self) -> PeerTransfer:
        async with self._journal.journal.lock(lock_name(self.role, self.info.id), self.row.path):
            self._is_over = False
            self._source = Source(self.row.path, self._pool)
            try:
                identity = await self._source.open()
                if not identity.is_content_of(self.row.identity):
                    # The row stays: it tells why it cannot be stored either.
                    await self._endings.say(self._account, self.info.id)
                    raise SourceChanged(self.row.path)
                require_offered(self.info, self.row.name, self.row.identity.size)
                self._running = None
                found = await self._serve()
            finally:
                await self._source.close()
        if self.is_confirmed:
            await self._remember_device()
        await self._journal.drop(self.row.key)
        return found

    async def _result(self) -> PeerTransfer | None:
        if not self._is_over:
            return None
        self.done_bytes = self.size_bytes
        self.info = await self._calls.get(self.info.id)
        return self.info

    def _hello(self, handshake: Handshake) -> dict[str, Any]:
        return {"type": "hello", "cipher": handshake.cipher}

    def _offset_of(self, theirs: dict[str, Any]) -> int:
        offset = theirs.get("offset")
        if not isinstance(offset, int) or isinstance(offset, bool) or not 0 <= offset <= self.size_bytes:
            raise Tampered("the offset lies outside the file")
        return offset

    async def _meet(self, sealer: Sealer, opener: Opener, offset: int) -> None:
        self._opener = opener
        if self._running is None:
            window = Window()
            self._running = RunningTag(
                self._file_key(), lambda start, length: self._source.read(start, length, window), self._pool)
        self.done_bytes = offset
        self._notify()
        self._tasks.append(self._watch(asyncio.create_task(self._pump(sealer, self._running, offset))))

    async def _leave(self) -> None:
        tasks, self._tasks, self._opener = self._tasks, [], None
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:  # also where this is cancelled in turn
            channel, self._channel = self._channel, None
            if channel is not None:
                channel.close()

    async def _control(self, kind: str, frame: dict[str, Any]) -> None:
        if kind == "ack" and self._opener is not None:
            offset = frame.get("offset")
            if isinstance(offset, int) and self.done_bytes < offset <= self.size_bytes:
                self._moved(offset - self.done_bytes)  # for people's eyes; what counts is sealed
        elif kind == "done":
            if not self.is_confirmed and not self._tag:  # else its word may have been lost with the line that was cut
                raise Tampered("the server says that it is done, and the other device does not")
            self._is_over = True

    async def _frames(self, frames: list[memoryview]) -> None:
        for frame in frames:
            if self._opener is not None:
                self._sealed(self._opener.open(frame))

    def _sealed(self, found: bytes | dict[str, Any]) -> None:
        if isinstance(found, bytes):
            raise Tampered("the receiver sends bytes of a file")
        if found.get("kind") == "got":
            if not self._tag or (found.get("size"), found.get("tag")) != (self.size_bytes, self._tag):
                raise Tampered("the receiver confirms another file")
            self.is_confirmed = True
        elif found.get("kind") == "addresses" and self._tries_direct and self._channel is None:
            addresses = p2p_direct.told_addresses(found.get("addresses"), loopback=self._is_on_loopback())
            self._tasks.append(self._watch(asyncio.create_task(self._try_direct(addresses))))

    # The bytes

    async def _pump(self, sealer: Sealer, running: RunningTag, offset: int) -> None:
        channel: p2p_direct.Channel | None = None  # None: over the relay
        position = self._sent = offset
        loop, at_once = asyncio.get_running_loop(), BATCH_FRAMES
        buffers = itertools.cycle([memoryview(bytearray(BATCH_ROOM)), memoryview(bytearray(BATCH_ROOM))])
        ahead: asyncio.Future[_Batch] | None = None
        try:
            while position < self.size_bytes:
                # Not while frames sealed for the relay wait: they belong there.
                if self._channel is not None and not self.is_direct and ahead is None:
                    self.is_direct = True
                    channel, sealer = self._channel, self._channel.sealer
                    await self._put(channel, _whole(channel, sealer.control({"kind": "switch", "offset": position})))
                if ahead is None:
                    ahead = self._prepare(channel, sealer, running, position, next(buffers))
                batch, ends = await asyncio.shield(ahead)
                position = self._sent = min(self.size_bytes, position + BATCH_BYTES)
                running.follow(lambda: self._sent)
                # The next ones are read and sealed while these are on their way.
                is_last = position == self.size_bytes or (self._channel is not None and not self.is_direct)
                ahead = None if is_last else self._prepare(channel, sealer, running, position, next(buffers))
                begin = 0
                while ends:
                    if self._is_limited:
                        at_once = 1
                    end = [ends.popleft() for _ in range(min(at_once, len(ends)))][-1]
                    await self._wait_for_turn(end - begin)
                    before = loop.time()
                    await self._put(channel, batch[begin:end])
                    at_once = max(1, at_once // 2) if loop.time() - before > SLOW_S else min(at_once * 2, BATCH_FRAMES)
                    begin = end
            self._tag = await running.whole(self.size_bytes)
            await self._source.check()
            self._set("finishing")
            await self._put(channel, _whole(channel, sealer.control({
                "kind": "end", "name": self.row.name, "size": self.size_bytes, "tag": self._tag})))
        finally:
            if ahead is not None:  # a thread that uses what is about to be closed
                await asyncio.wait({ahead})
                ahead.exception()  # of no importance any more
            await running.stop()

    def _prepare(
        self, channel: p2p_direct.Channel | None, sealer: Sealer, running: RunningTag, position: int,
        buffer: memoryview,
    ) -> asyncio.Future[_Batch]:
        """The next frames, in `buffer`. One call at a time, since each frame has the number that follows."""
        header = _line_of(channel).header

        def work() -> _Batch:
            length = min(BATCH_BYTES, self.size_bytes - position)
            view = self._source.read(position, length, self._window)
            running.feed(position, view)
            ends = sealer.batch_into(buffer, position, view, header)
            return buffer[: ends[-1]], ends

        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _put(self, channel: p2p_direct.Channel | None, data: bytes | memoryview) -> None:
        """Frames with their headers, and wait until there is room for more."""
        if channel is None:
            with self._line_of_round() as line:
                line.write(data)
                await line.drain()
            return
        try:
            channel.line.write(data)
            await channel.line.drain()
        except OSError:
            self._lost_direct()
            await asyncio.Event().wait()  # the round is about to end

    # Directly

    async def _try_direct(self, addresses: list[p2p_direct.Address]) -> None:
        if not addresses:
            return
        channel = await p2p_direct.connect(
            addresses, {"transfer": self.info.id, "round": self._round}, lambda: self._make_handshake("direct"))
        if channel is None:
            return
        self._channel = channel
        async with channel.watched():
            with contextlib.suppress(OSError, EOFError, ValueError):
                await channel.receive()  # nothing comes here; it ends when the line does
        if self.is_direct and not self.is_confirmed:
            self._lost_direct()
        elif not self.is_direct:
            self._channel = None
            channel.close()


def _line_of(channel: p2p_direct.Channel | None) -> type[Line[Any]]:
    return WebSocketLine if channel is None else MessageLine


def _whole(channel: p2p_direct.Channel | None, frame: bytes) -> bytes:
    return _line_of(channel).header(len(frame)) + frame
