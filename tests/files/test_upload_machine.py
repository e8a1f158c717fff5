"""Uploads against a simple model: any order, repeats, wrong bytes, cuts, aborts, restarts with and without a reboot.

The model is three dicts: the bytes of chunks that earned a receipt, prefixes that may be gone on from, and whether
the upload is still there. Whatever happens, the file that completes is the content. The same over both metadata
backends and both kinds of store, each a real one.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hypersend_server.errors import HyperSendError
from hypersend_server.files.types import PartsBody, WantedPart
from hypersend_server.files.uploads import Claims
from hypersend_server.metadata.conformance.chats_people import people
from hypersend_server.metadata.mongo import MongoMetadata
from hypersend_server.resources import File
from hypersend_storage import make_store
from tests.files.room import ALICE, MIB, PEOPLE, Held, Room, checksum_of, opened, sha
from tests.fuzz.profile import times
from tests.http_session import http_session
from tests.mongo_server import MongoServer
from tests.s3_servers import S3Server
from tests.storage.conftest import options_of

T = TypeVar("T")
CHUNKS = 3
SMALLEST_PART = 5 * MIB  # that S3 takes, but for the last


class UploadMachine(RuleBasedStateMachine):
    indexes = st.integers(0, CHUNKS - 1)
    chunk_size = 1000
    s3_options: dict[str, Any] | None = None  # where bytes go to an object store
    fresh_uri: Callable[[], str] | None = None  # where the records are in MongoDB
    room: Room
    file: File

    def __init__(self) -> None:
        super().__init__()
        size = 2 * self.chunk_size + 300
        self.content = (bytes(n * 7 % 251 for n in range(251)) * (size // 251 + 1))[:size]
        self.uri = self.fresh_uri() if self.fresh_uri is not None else ""
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.boot = 1
        self.received: set[int] = set()
        self.durable: set[int] = set()
        self.prefix: dict[int, int] = {}
        self.is_complete = False
        self.is_known = False  # whether the people are in MongoDB
        self.stack = AsyncExitStack()

    @property
    def is_s3(self) -> bool:
        return self.s3_options is not None

    def chunk_of(self, index: int) -> bytes:
        return self.content[index * self.chunk_size : (index + 1) * self.chunk_size]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 60))

    def refused(self, work: Coroutine[Any, Any, Any]) -> HyperSendError:
        try:
            self.run(work)
        except HyperSendError as error:
            return error
        raise AssertionError("not refused")

    async def open(self) -> Room:
        options: dict[str, Any] = {}
        if self.uri:
            metadata = options["metadata"] = MongoMetadata(self.uri, driver="pymongo")
            await metadata.open()
            self.stack.push_async_callback(metadata.close)
            if not self.is_known:
                await people(metadata, *PEOPLE)
                self.is_known = True
        if self.s3_options is not None:
            options |= {"others": {"s3": make_store("s3", **self.s3_options)}, "backend": "s3"}
        return await self.stack.enter_async_context(
            opened(Path(self.folder.name), boot_id=f"boot-{self.boot}", sync_every_s=3600,
                   chunk_size_for=lambda size: self.chunk_size, **options))

    async def close(self, *, is_crash: bool) -> None:
        if is_crash:
            self.room.durability._new.clear()  # what was not synced by now never is
        await self.stack.aclose()

    @initialize()
    def begin(self) -> None:
        self.room = self.run(self.open())
        self._begin()

    def _begin(self) -> None:
        self.file = self.run(self.room.init(len(self.content)))
        self.received, self.durable, self.prefix, self.is_complete = set(), set(), {}, False

    def _closed(self, error: HyperSendError) -> None:
        assert self.is_complete
        assert error.code == "upload_closed"

    @rule(index=indexes, claim=st.booleans())
    def send(self, index: int, claim: bool) -> None:
        data = self.chunk_of(index)
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
        data = bytes(byte ^ 255 for byte in self.chunk_of(index))
        error = self.refused(self.room.put(self.file.id, index, data, chunk_sha256=sha(self.chunk_of(index))))
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
        data = self.chunk_of(index)
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
        data = self.chunk_of(index)
        if self.is_complete or index in self.received:
            return
        error = self.refused(self.room.put(self.file.id, index, data[have + 1 :], offset=have + 1))
        assert (error.code, error.extra["have"]) == ("chunk_offset", have)
        accepted = self.run(self.room.put(
            self.file.id, index, data[have:], offset=have, chunk_sha256=sha(data), body_sha256=sha(data[have:])))
        assert accepted.sha256 == sha(data)
        self.received.add(index)
        self.prefix.pop(index, None)

    @precondition(lambda self: self.is_s3)
    @rule(index=indexes, is_wrong=st.booleans())
    def send_to_the_store_itself(self, index: int, is_wrong: bool) -> None:
        data = self.chunk_of(index)
        wanted = PartsBody(parts=[WantedPart(index=index, sha256=sha(data).hex())])
        if self.is_complete:
            self._closed(self.refused(self.room.service.sign_parts(ALICE, self.file.id, wanted)))
            return
        (part,) = self.run(self.room.service.sign_parts(ALICE, self.file.id, wanted)).parts
        sent = bytes(byte ^ 255 for byte in data) if is_wrong else data
        assert self.run(_put(part.url, part.headers, sent)) == (400 if is_wrong else 200)
        if not is_wrong:
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
        assert done.checksum == checksum_of(self.content, self.chunk_size)
        self.is_complete = True

    @rule(reboot=st.booleans(), loses=st.booleans())
    def restart(self, reboot: bool, loses: bool) -> None:
        """A kill keeps the page cache; a reboot may take what was not synced, here one byte of each such chunk."""
        volatile = self.received - self.durable
        path = None
        if not self.is_complete:
            record = self.run(self.room.files.get(self.file.id))
            assert record is not None
            path = None if self.is_s3 else self.room.store.path(record.location)
        self.run(self.close(is_crash=True))
        if reboot:
            self.boot += 1
            self.prefix.clear()
            if loses and path is not None:
                with path.open("r+b") as disk:
                    for index in volatile:
                        disk.seek(index * self.chunk_size + 3)
                        disk.write(bytes([self.chunk_of(index)[3] ^ 1]))
                self.received -= volatile
        if self.is_s3:
            self.prefix.clear()  # they were in the memory of the process that ended
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
            assert self.run(self.room.content(self.file.id)) == self.content
            return
        assert shown.upload is not None
        assert {i for a, b in shown.upload.received for i in range(a, b + 1)} == self.received
        assert shown.upload.received_bytes == sum(len(self.chunk_of(i)) for i in self.received)
        assert dict(shown.upload.partial) == self.prefix
        assert shown.upload.verifying == []

    def teardown(self) -> None:
        self.run(self.close(is_crash=False))
        self.loop.close()
        self.folder.cleanup()


async def _put(url: str, headers: Mapping[str, str], data: bytes) -> int:
    async with http_session() as http, http.put(url, headers=headers, data=io.BytesIO(data)) as answer:
        return answer.status


# Each machine has a name of its own, under which Hypothesis keeps what failed: kept together, what fails over one store
# and passes over the other would be forgotten before the next run begins with it.


def examples_of(number: int) -> settings:
    return settings(max_examples=times(number), stateful_step_count=25, deadline=None,
                    suppress_health_check=list(HealthCheck))


def test_uploads_over_sqlite_and_a_disk() -> None:
    run_state_machine_as_test(UploadMachine, settings=examples_of(30))  # type: ignore[no-untyped-call]


def test_uploads_over_mongodb_and_a_disk(mongo_server: MongoServer) -> None:
    machine = type("UploadsOverMongoDBAndADisk", (UploadMachine,), {"fresh_uri": staticmethod(mongo_server.fresh_uri)})
    run_state_machine_as_test(machine, settings=examples_of(6))  # type: ignore[no-untyped-call]


def test_a_prefix_that_was_in_memory_is_shown_until_the_process_ends(minio: S3Server) -> None:
    machine = type("OneWalk", (UploadMachine,), {
        "s3_options": options_of(minio, minio.new_bucket()), "chunk_size": SMALLEST_PART})()
    try:
        machine.begin()
        machine.send_and_be_cut(index=0, share=50, from_prefix=False)
        machine.what_is_shown_is_what_happened()
        assert machine.prefix
        machine.restart(reboot=False, loses=False)
        machine.what_is_shown_is_what_happened()
        assert not machine.prefix
        machine.go_on(index=0)
        machine.what_is_shown_is_what_happened()
    finally:
        machine.teardown()


def test_uploads_over_sqlite_and_an_object_store(minio: S3Server) -> None:
    machine = type("UploadsOverSQLiteAndAnObjectStore", (UploadMachine,), {
        "s3_options": options_of(minio, minio.new_bucket()), "chunk_size": SMALLEST_PART})
    run_state_machine_as_test(machine, settings=examples_of(4))  # type: ignore[no-untyped-call]


def test_uploads_over_mongodb_and_an_object_store(mongo_server: MongoServer, minio: S3Server) -> None:
    machine = type("UploadsOverMongoDBAndAnObjectStore", (UploadMachine,), {
        "s3_options": options_of(minio, minio.new_bucket()), "chunk_size": SMALLEST_PART,
        "fresh_uri": staticmethod(mongo_server.fresh_uri)})
    run_state_machine_as_test(machine, settings=examples_of(3))  # type: ignore[no-untyped-call]
