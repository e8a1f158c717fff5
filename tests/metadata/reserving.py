"""A process of its own that reserves room: `python -m tests.metadata.reserving PLACE NAME UPLOADS SIZE QUOTA`.

PLACE: a MongoDB address or an SQLite file. It says `ready`, waits for a line, begins all its uploads at once, and
prints the ids of those that were let in.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.files import FileRecord
from hypersend_server.metadata.mongo import MongoMetadata
from hypersend_server.metadata.sqlite import SqliteMetadata

OWNER = "alice"


def opened_at(place: str) -> Metadata:
    return MongoMetadata(place, driver="pymongo") if place.startswith("mongodb") else SqliteMetadata(Path(place))


async def reserve(metadata: Metadata, file_id: str, size: int, quota: int) -> bool:
    file = FileRecord(id=file_id, owner_id=OWNER, name="a", size=size, mime="text/plain", state="uploading",
                      chunk_size=100, backend="s3", created_at=1, expires_at=2)
    try:
        await metadata.files.begin(file, idempotency_key=None, request_hash=b"", preview=None,
                                   default_quota_bytes=quota, free_bytes=None)
    except HyperSendError as error:
        if error.code != "quota_exceeded":
            raise
        return False
    return True


async def main(place: str, name: str, uploads: int, size: int, quota: int) -> None:
    metadata = opened_at(place)
    await metadata.open()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    ids = [f"{name}-{number}" for number in range(uploads)]
    let_in = await asyncio.gather(*(reserve(metadata, file_id, size, quota) for file_id in ids))
    print(json.dumps([file_id for file_id, was in zip(ids, let_in, strict=True) if was]), flush=True)
    await metadata.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
