"""The memory that the driver for object storage gives to bodies, and who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from hypersend_storage.base import MIB, UploadRef
from hypersend_storage.conformance import CHUNK, begin, content, cut_after, parts, put, read
from hypersend_storage.conformance import Cut as Broken
from hypersend_storage.errors import PrefixLost
from hypersend_storage.s3 import S3Store
from tests.s3_servers import S3Server
from tests.storage.conftest import opened, options_of

PATIENCE_S = 60


async def test_bodies_wait_until_there_is_room_for_their_chunk(minio: S3Server) -> None:
    streams, at_once = 12, 2
    data = content(streams * CHUNK)
    async with opened(minio, buffer_bytes=at_once * CHUNK, largest_chunk=CHUNK) as store:
        upload = await begin(store, len(data))
        uploads = [replace(upload, sender=f"person {index}") for index in range(streams)]
        begun: list[int] = []
        most = 0
        go = asyncio.Event()
        full = asyncio.Event()

        async def body(index: int) -> AsyncIterator[bytes]:
            nonlocal most
            begun.append(index)
            most = max(most, len(begun))
            if len(begun) == at_once:
                full.set()
            await go.wait()
            async for part in parts(data[index * CHUNK:(index + 1) * CHUNK]):
                assert store._buffers.used_bytes <= at_once * CHUNK
                yield part
            begun.remove(index)

        async def send(index: int) -> Any:
            async with store.chunk(uploads[index], index) as slot:
                return await slot.write(body(index), offset=0, sha256=None)

        sending = [asyncio.create_task(send(index)) for index in range(streams)]
        await full.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(begun) == at_once
        go.set()
        receipts = await asyncio.gather(*sending)
        assert most <= at_once
        assert store._buffers.used_bytes == 0
        location = await store.complete(upload, receipts)
        assert await read(store, location, 0, len(data)) == data


async def test_a_person_who_sends_slowly_leaves_room_for_others(minio: S3Server) -> None:
    data = content(CHUNK)
    async with opened(minio, buffer_bytes=4 * CHUNK, largest_chunk=CHUNK) as store:
        begun = 0
        go = asyncio.Event()

        async def drip() -> AsyncIterator[bytes]:
            nonlocal begun
            begun += 1
            yield data[:1]
            await go.wait()
            yield data[1:]

        async def send_slowly(upload: UploadRef) -> None:
            async with store.chunk(upload, 0) as slot:
                await slot.write(drip(), offset=0, sha256=None)

        slow = [asyncio.create_task(send_slowly(replace(await begin(store, CHUNK), sender="asha"))) for _ in range(6)]
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                await put(store, replace(await begin(store, CHUNK), sender="ben"), data, 0)
        assert begun == 2
        go.set()
        await asyncio.gather(*slow)


async def test_a_prefix_whose_room_was_needed_must_be_sent_again(minio: S3Server) -> None:
    data = content(3 * CHUNK)
    async with opened(minio, buffer_bytes=2 * CHUNK, largest_chunk=CHUNK) as store:
        upload = await begin(store, len(data))
        async with store.chunk(upload, 0) as slot:
            with pytest.raises(Broken):
                await slot.write(cut_after(data[:MIB]), offset=0, sha256=None)
            assert slot.in_place == MIB
        async with store.chunk(upload, 1), store.chunk(upload, 2):
            await asyncio.gather(*[hold(store, data, sender) for sender in ("asha", "ben")])
        async with store.chunk(upload, 0) as slot:
            touched = False

            async def body() -> AsyncIterator[bytes]:
                nonlocal touched
                touched = True
                yield data[MIB:CHUNK]

            with pytest.raises(PrefixLost) as caught:
                await slot.write(body(), offset=MIB, sha256=None)
            assert (caught.value.have, slot.in_place, touched) == (0, 0, False)
            await slot.write(parts(data[:CHUNK]), offset=0, sha256=None)


async def hold(store: S3Store, data: bytes, sender: str) -> None:
    """Two at once of these need all the room there is."""
    upload = replace(await begin(store, CHUNK), sender=sender)
    await put(store, upload, data, 0)


async def test_a_buffer_of_less_than_two_chunks_is_refused(minio: S3Server) -> None:
    with pytest.raises(ValueError, match="S3_BUFFER_BYTES"):
        S3Store(**options_of(minio, "bucket", buffer_bytes=2 * CHUNK - 1, largest_chunk=CHUNK))
