"""Receiving a file from another device into a `.part`: opened, written and authenticated 1 MiB at a time.

What has been opened and written counts as verified; the whole is compared with the sender's tag before the file
takes its name. Where the sender put the file on the server instead, the rest is downloaded from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hypersend_client.sdk import p2p_direct
from hypersend_client.sdk.errors import ConnectionFailed, HyperSendError
from hypersend_client.sdk.models import File
from hypersend_client.sdk.p2p_digest import RunningTag
from hypersend_client.sdk.p2p_end import LineCut, PeerEnd
from hypersend_client.sdk.p2p_journal import lock_name
from hypersend_client.sdk.p2p_line import LARGE_BYTES, SMALL_BYTES, Line, WebSocketLine
from hypersend_client.sdk.p2p_seal import FRAME_OVERHEAD, Handshake, Opener, Sealer
from hypersend_client.sdk.parts import Part
from hypersend_client.sdk.retry import Backoff
from hypersend_client.sdk.transfer import Progress
from hypersend_client.sdk.transfer_errors import CorruptTransfer, PeerEnded, PeerFailed, Tampered

ACK_BYTES = 4 * 1024 * 1024
ACK_S = 0.25
ALONE_S = 10.0  # so long a sender may stay away before the server alone is told that the file is here

Stored = Callable[["PeerReceiver", str], Awaitable[Path]]


class _Way:
    """The relay, or a direct connection, for one round. Each has its own room, since for a moment both are served."""

    def __init__(self, line: Line[Any], opener: Opener) -> None:
        self.line = line
        self.opener = opener
        self._room = memoryview(b"")

    def room_for(self, size_bytes: int) -> memoryview:
        """Where frames are opened."""
        if len(self._room) < size_bytes:
            self._room = memoryview(bytearray(size_bytes))
        return self._room


def part_of(transfer_id: str, target: Path, size: int, server_id: str, pool: ThreadPoolExecutor) -> Part:
    """Of a transfer: one chunk, of which a growing prefix is there."""
    return Part(target, File(transfer_id, size=size, chunk_size=max(1, size), etag=transfer_id), server_id, pool)


class PeerReceiver(PeerEnd[Path]):
    """Its result is the path of the finished file. stored: goes on with the upload that took the transfer's place.

    came_through_server: that is how it came, so the server could read it. is_vouched: then the sender's device has
    said, with a key that the server has not, that the file is the one it put there; False where this device had
    accepted nothing before it was put there, and there is only the server's word.
    """

    role = "receiver"
    alone_s = ALONE_S

    def __init__(self, *arguments: Any, server_id: str, stored: Stored, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._server_id = server_id
        self.came_through_server = self.is_vouched = False
        self._stored = stored
        self._part_file: Part | None = None
        self._running: RunningTag | None = None
        self._verified = 0
        self._acked = 0
        self._is_right = False
        self._resumed = False
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._relayed: _Way
        self._written = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._listener: p2p_direct.Listener | None = None

    @property
    def target(self) -> Path:
        return Path(self.row.path)

    @property
    def verified_bytes(self) -> int:
        return self._verified

    async def wait_for(self, error: HyperSendError, backoff: Backoff) -> None:
        """For the upload that takes this one's place."""
        await self._wait_out(error, backoff)

    def show(self, progress: Progress) -> None:
        """How the download that takes this one's place goes."""
        self._moved(progress.done_bytes - self.done_bytes)
        if progress.state in ("running", "waiting", "checking", "finishing"):
            self._set(progress.state, progress.error)

    def part(self) -> Part:
        return part_of(self.info.id, self.target, self.info.size, self._server_id, self._pool)

    async def _transfer(self) -> Path:
        async with self._journal.journal.lock(lock_name(self.role, self.info.id), self.row.path):
            self._is_over = False
            part = self._part_file = self.part()
            try:
                if self.info.file_id is not None and not part.path.exists():
                    raise PeerEnded(self.info.status, self.info.file_id)  # what there is belongs to the download by now
                await part.open()
                path = part.placed
                if path is None:
                    self._is_right = part.has_all  # noted after it was made durable
                    self._verified = self.info.size if part.has_all else part.partial.get(0, 0)
                    self._resumed = self._verified > 0
                    self.done_bytes = self._verified
                    self._running = None
                    await part.require_space()
                    path = await self._serve()
                    await self._remember_device()
            except PeerEnded as ended:
                if self._is_right:  # the whole file is here and compared: whoever ended it came too late
                    path = await part.finish()
                    await self._remember_device()
                elif ended.file_id is None:
                    await part.close()
                    await part.forget()
                    await self._journal.drop(self.row.key)
                    raise
                else:
                    await part.close()
                    path = await self._stored(self, ended.file_id)
            finally:
                await part.close()
        await part.do(lambda: part.journal_path.unlink(missing_ok=True))
        # What came through the server can be had from there once more, and is to be vouched for then, too.
        await self._journal.drop(self.row.key, keeps_key=self.came_through_server)
        self.done_bytes = self.size_bytes
        return path

    def _running_tag(self) -> RunningTag:
        if self._running is None:
            assert self._part_file is not None
            self._running = RunningTag(self._file_key(), self._part_file.read, self._pool)
        return self._running

    async def _result(self) -> Path | None:
        if self._is_over and not self._is_right:
            raise PeerEnded("done")  # the server says so, and the sender did not
        if not self._is_over:
            return None
        self._set("finishing")
        assert self._part_file is not None
        return await self._part_file.finish()

    async def _discard(self) -> None:
        await super()._discard()
        await self.part().forget()

    def _hello(self, handshake: Handshake) -> dict[str, Any]:
        return {"type": "ready", "cipher": handshake.cipher, "offset": self._verified}

    def _offset_of(self, theirs: dict[str, Any]) -> int:
        return int(self._greeting["offset"])

    async def _meet(self, sealer: Sealer, opener: Opener, offset: int) -> None:
        self._sealer, self._opener = sealer, opener
        self._acked = offset
        self.done_bytes = offset
        with self._line_of_round() as line:
            self._relayed = _Way(line, opener)
        self._tasks.append(self._watch(asyncio.create_task(self._acknowledge())))
        self._running_tag().follow(lambda: self._verified)
        if self._tries_direct and offset < self.info.size:
            self._tasks.append(self._watch(asyncio.create_task(self._listen())))

    async def _leave(self) -> None:
        tasks, self._tasks, self._sealer, self._opener = self._tasks, [], None, None
        listener, self._listener = self._listener, None
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:  # also where this is cancelled in turn
            if listener is not None:
                await listener.close()
            if self._running is not None:
                await self._running.stop()

    async def _control(self, kind: str, frame: dict[str, Any]) -> None:
        pass  # a sender says nothing in the clear that counts

    async def _peer(self, frame: dict[str, Any]) -> None:
        await super()._peer(frame)
        if self._is_right and self._round is None:
            asyncio.get_running_loop().call_later(self.alone_s, self._say_done_alone, self._line)

    def _say_done_alone(self, line: WebSocketLine | None) -> None:
        """The sender has gone for good: it had our word, or will never ask for it."""
        if line is not None and line is self._line and self._round is None:
            with contextlib.suppress(ConnectionError):  # whoever reads the line notices
                line.say(json.dumps({"type": "done"}))

    async def _frames(self, frames: list[memoryview]) -> None:
        if self._opener is None:
            return
        try:
            await self._take(frames, self._relayed)
        except LineCut as error:
            self._opener = None  # what comes now would not be what opens next
            self._fail_later(error)

    # The bytes

    async def _take(self, frames: list[memoryview], way: _Way) -> None:
        """Open and write what came, in order."""
        way.line.buffer_bytes = SMALL_BYTES if self._is_limited else LARGE_BYTES
        while frames:
            count, control = await self._write(frames, way)
            if self._verified - self._acked >= ACK_BYTES:
                await self._ack()
            if self._is_limited:
                for frame in frames[:count]:
                    await self._wait_for_turn(len(frame))
            frames = frames[count:]
            match None if control is None else control.get("kind"):
                case "end":
                    await self._end(control or {})
                case "switch":
                    await self._switch(control or {}, way.opener)

    async def _write(self, frames: list[memoryview], way: _Way) -> tuple[int, dict[str, Any] | None]:
        """Up to the first control frame: (how many frames that was, that control message).

        Raises: Tampered, PeerFailed, DiskFull, LocalStorageFailed.
        """
        part, start = self._part_file, self._verified
        assert part is not None
        opener, room = way.opener, way.room_for(sum(map(len, frames)))

        def work() -> tuple[int, int, dict[str, Any] | None]:
            control: dict[str, Any] | None = None
            opened = end = 0
            while opened < len(frames) and control is None:
                frame = frames[opened]
                size = max(0, len(frame) - FRAME_OVERHEAD)
                control = opener.open_into(room[end : end + size], frame)
                opened += 1
                end += size if control is None else 0
            data = room[:end]
            if start + len(data) > self.info.size:
                raise PeerFailed("wrong_size")
            if data:
                if opener.offset - len(data) != start:
                    raise Tampered("bytes came for another place in the file")
                part.write(0, start, data)
                self._running_tag().feed(start, data)
                part.note_partial(0, start + len(data))
            return len(data), opened, control

        count, opened, control = await part.do(work)
        if count:
            self._verified = start + count
            self._moved(count)
            self._written.set()
            self._running_tag().follow(lambda: self._verified)
        return opened, control

    async def _acknowledge(self) -> None:
        """Tell how far it is, also where little comes."""
        while True:
            await asyncio.sleep(ACK_S)
            if self._acked < self._verified:
                await self._ack()

    async def _ack(self) -> None:
        self._acked = self._verified
        try:
            await self._say({"type": "ack", "offset": self._acked})
        except LineCut as error:  # what came before it was cut is written all the same
            self._fail_later(error)

    async def _end(self, control: dict[str, Any]) -> None:
        """The sender says that this was all, and what it is."""
        part = self._part_file
        assert part is not None
        assert self._sealer is not None
        if control.get("size") != self.info.size or self._verified != self.info.size:
            raise PeerFailed("wrong_size")
        if control.get("name") != self.info.name:
            raise Tampered("the server tells another name of the file than the sender")
        self._set("checking")
        tag = await self._running_tag().whole(self.info.size)
        if tag != control.get("tag"):
            await self._begin_anew(part)
        await part.do(part.note_whole)
        self._is_right = True
        await self._send(self._sealer.control({"kind": "got", "size": self.info.size, "tag": tag}))
        await self._say({"type": "done"})

    async def _begin_anew(self, part: Part) -> None:
        """What another run of the program left may be damaged, by a power cut: once more from the beginning.

        Raises: ConnectionFailed, so that a new round begins; CorruptTransfer where that was tried already.
        """
        was_resumed, self._resumed, self._is_right = self._resumed, False, False
        self._verified = 0
        self._running = None
        await part.do(lambda: part.note_partial(0, 0))
        if not was_resumed:
            raise CorruptTransfer(0)
        self._moved(-self.done_bytes)
        raise ConnectionFailed("what was received before is damaged")

    # Directly

    async def _listen(self) -> None:
        assert self._sealer is not None
        self._listener = p2p_direct.Listener(
            {"transfer": self.info.id, "round": self._round}, lambda: self._make_handshake("direct"), self._take_direct)
        with contextlib.suppress(OSError):  # where nothing may listen, the relay serves
            addresses = await self._listener.open(p2p_direct.own_addresses(self._own_address()))
            if self._sealer is not None:
                await self._send(self._sealer.control({"kind": "addresses", "addresses": addresses}))

    async def _take_direct(self, channel: p2p_direct.Channel) -> None:
        """Serve the sender's direct connection until it ends."""
        taking = self._watch(asyncio.create_task(self._take_all(channel)))
        self._tasks.append(taking)
        try:
            async with channel.watched():
                await asyncio.wait({taking})
        finally:
            if not self.is_direct:
                taking.cancel()

    async def _take_all(self, channel: p2p_direct.Channel) -> None:
        way = _Way(channel.line, channel.opener)
        while True:
            try:
                frames = await channel.receive_all()
            except (OSError, EOFError, ValueError):
                if self.is_direct and not self._is_right:
                    self._lost_direct()
                return
            await self._take(frames, way)

    async def _switch(self, control: dict[str, Any], opener: Opener) -> None:
        """From this offset on the file comes over the direct connection; what is below may still be on the relay."""
        offset = control.get("offset")
        if opener is self._opener or not isinstance(offset, int) or not 0 <= offset <= self.info.size:
            raise Tampered("the sender goes on in an impossible place")
        while self._verified < offset:
            self._written.clear()
            await self._written.wait()
        if self._verified != offset:
            raise Tampered("the sender goes on in an impossible place")
        opener.at(offset)
        self.is_direct = True
        self._notify()
