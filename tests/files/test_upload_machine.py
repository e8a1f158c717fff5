"""Uploads against a simple model: any order, repeats, wrong bytes, cuts, aborts, restarts with and without a reboot.

The model is three dicts: the bytes of chunks that earned a receipt, prefixes that may be gone on from, and whether
the upload is still there. Whatever happens, the file that completes is the content.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hypersend_server.errors import HyperSendError
from hypersend_server.files.uploads import Claims
from hypersend_server.resources import File
from tests.files.room import ALICE, Held, Room, checksum_of, opened, sha

T = TypeVar("T")
CHUNK = 1000
CHUNKS = 3
CONTENT = bytes(n * 7 % 251 for n in range(2 * CHUNK + 300))


def chunk_of(index: int) -> bytes:
    return CONTENT[index * CHUNK : (index + 1) * CHUNK]


class UploadMachine(RuleBasedStateMachine):
    indexes = st.integers(0, CHUNKS - 1)
    room: Room
    file: File

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.boot = 1
        self.received: set[int] = set()
        self.durable: set[int] = set()
        self.prefix: dict[int, int] = {}
        self.is_complete = False
        self.stack = AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def refused(self, work: Coroutine[Any, Any, Any]) -> HyperSendError:
        try:
            self.run(work)
        except HyperSendError as error:
            return error
        raise AssertionError("not refused")

    async def open(self) -> Room:
        return await self.stack.enter_async_context(
            opened(Path(self.folder.name), boot_id=f"boot-{self.boot}", sync_every_s=3600,
                   chunk_size_for=lambda size: CHUNK))

    async def close(self, *, is_crash: bool) -> None:
        if is_crash:
            self.room.durability._new.clear()  # what was not synced by now never is
        await self.stack.aclose()

    @initialize()
    def begin(self) -> None:
        self.room = self.run(self.open())
        self._begin()

    def _begin(self) -> None:
        self.file = self.run(self.room.init(len(CONTENT)))
        self.received, self.durable, self.prefix, self.is_complete = set(), set(), {}, False

    def _closed(self, error: HyperSendError) -> None:
        assert self.is_complete
        assert error.code == "upload_closed"

    @rule(index=indexes, claim=st.booleans())
    def send(self, index: int, claim: bool) -> None:
        data = chunk_of(index)
        claims: dict[str, Any] = {"chunk_sha256": sha(data)} if claim else {}
        if self.is_complete:
            self._closed(self.refused(self.room.put(self.file.id, index, data, **claims)))
            return
        accepted = self.run(self.room.put(self.file.id, index, data, **claims))
        assert accepted.sha256 == sha(data)
        self.received.add(index)
        self.prefix.pop(index, None)

    @rule(index=indexes)
    def send_other_bytes_with_a_claim(self, index: int) -> None:
        data = bytes(byte ^ 255 for byte in chunk_of(index))
        error = self.refused(self.room.put(self.file.id, index, data, chunk_sha256=sha(chunk_of(index))))
        if self.is_complete:
            self._closed(error)
        elif index in self.received:
            assert error.code in ("chunk_conflict", "digest_mismatch")
        else:
            assert error.code == "digest_mismatch"
            self.prefix.pop(index, None)

    @rule(index=indexes, share=st.integers(0, 99), from_prefix=st.booleans())
    def send_and_be_cut(self, index: int, share: int, from_prefix: bool) -> None:
        have = self.prefix.get(index, 0) if from_prefix else 0
        data = chunk_of(index)
        sent = data[have : have + (len(data) - have) * share // 100]

        async def work() -> int:
            held = Held()
            held.give(sent)
            task = asyncio.create_task(
                self.room.uploads.put_chunk(ALICE, self.file.id, index, held.body, Claims(), offset=have))
            asked = asyncio.create_task(held.asked.wait())
            await asyncio.wait([task, asked], return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            task.cancel()
            await asyncio.wait([task])
            while self.room.uploads._writing:
                await asyncio.wait(list(self.room.uploads._writing))
            return len(sent)

        self.run(work())
        if not self.is_complete and index not in self.received:
            self.prefix[index] = have + len(sent)
            if self.prefix[index] == 0:
                del self.prefix[index]

    @rule(index=indexes)
    def go_on(self, index: int) -> None:
        have = self.prefix.get(index, 0)
        data = chunk_of(index)
        if self.is_complete or index in self.received:
            return
        error = self.refused(self.room.put(self.file.id, index, data[have + 1 :], offset=have + 1))
        assert (error.code, error.extra["have"]) == ("chunk_offset", have)
        accepted = self.run(self.room.put(
            self.file.id, index, data[have:], offset=have, chunk_sha256=sha(data), body_sha256=sha(data[have:])))
        assert accepted.sha256 == sha(data)
        self.received.add(index)
        self.prefix.pop(index, None)

    @rule()
    def sync(self) -> None:
        self.run(self.room.durability.sync_all())
        self.durable |= self.received

    @rule()
    def complete(self) -> None:
        missing = set(range(CHUNKS)) - self.received
        if missing:
            error = self.refused(self.room.service.complete(ALICE, self.file.id))
            assert error.code == "chunks_missing"
            assert {i for a, b in error.extra["missing"] for i in range(a, b + 1)} == missing
            self.durable |= self.received
            return
        done, is_new = self.run(self.room.service.complete(ALICE, self.file.id))
        assert is_new is not self.is_complete
        assert done.checksum == checksum_of(CONTENT, CHUNK)
        self.is_complete = True

    @rule(reboot=st.booleans(), loses=st.booleans())
    def restart(self, reboot: bool, loses: bool) -> None:
        """A kill keeps the page cache; a reboot may take what was not synced, here one byte of each such chunk."""
        volatile = self.received - self.durable
        path = None
        if not self.is_complete:
            record = self.run(self.room.files.get(self.file.id))
            assert record is not None
            path = self.room.store.path(record.location)
        self.run(self.close(is_crash=True))
        if reboot:
            self.boot += 1
            self.prefix.clear()
            if loses and path is not None:
                with path.open("r+b") as disk:
                    for index in volatile:
                        disk.seek(index * CHUNK + 3)
                        disk.write(bytes([chunk_of(index)[3] ^ 1]))
                self.received -= volatile
        self.room = self.run(self.open())
        self.run(self._verified())
        if reboot:
            self.durable |= self.received

    async def _verified(self) -> None:
        await self.room.durability.verified.wait()

    @rule()
    def abort_and_begin_anew(self) -> None:
        self.run(self.room.service.remove(ALICE, self.file.id))
        assert self.run(self.room.code_of(self.room.service.get(ALICE, self.file.id))) == "not_found"
        self._begin()

    @precondition(lambda self: hasattr(self, "room"))
    @invariant()
    def what_is_shown_is_what_happened(self) -> None:
        shown = self.run(self.room.service.get(ALICE, self.file.id))
        if self.is_complete:
            assert shown.state == "complete"
            assert self.run(self.room.content(self.file.id)) == CONTENT
            return
        assert shown.upload is not None
        assert {i for a, b in shown.upload.received for i in range(a, b + 1)} == self.received
        assert shown.upload.received_bytes == sum(len(chunk_of(i)) for i in self.received)
        assert dict(shown.upload.partial) == self.prefix
        assert shown.upload.verifying == []

    def teardown(self) -> None:
        self.run(self.close(is_crash=False))
        self.loop.close()
        self.folder.cleanup()


UploadMachine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
TestUploads = UploadMachine.TestCase
