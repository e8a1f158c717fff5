"""Files on object storage as the tests send and fetch them, through the server and past it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from tests.harness import Person, Server
from tests.s3_servers import S3Server

MIB = 1024 * 1024
CHUNK = 8 * MIB
WAIT_S = 60
Settings = Callable[..., dict[str, str]]
CONTENT = os.urandom(2 * CHUNK + 12345)


def chunks_of(content: bytes) -> list[bytes]:
    return [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def begin(person: Person, content: bytes, **fields: Any) -> dict[str, Any]:
    answer = await person.post("/files/init", {"name": "film – 1.bin", "size": len(content), **fields})
    assert answer.status == 201, answer
    return dict(answer.json)


async def signed(person: Person, file_id: str, parts: dict[int, str]) -> dict[int, dict[str, Any]]:
    answer = await person.post(
        f"/files/{file_id}/parts", {"parts": [{"index": index, "sha256": digest} for index, digest in parts.items()]})
    assert answer.status == 200, answer
    assert answer.json["method"] == "PUT"
    return {part["index"]: part for part in answer.json["parts"]}


async def send_direct(person: Person, file_id: str, content: bytes, only: set[int] | None = None) -> None:
    chunks = {n: chunk for n, chunk in enumerate(chunks_of(content)) if only is None or n in only}
    urls = await signed(person, file_id, {n: sha(chunk) for n, chunk in chunks.items()})
    for index, chunk in chunks.items():
        put = await Server(person.http, person.url).request(
            "PUT", urls[index]["url"], data=chunk, headers=urls[index]["headers"])
        assert put.status == 200, put


async def send(person: Person, file_id: str, content: bytes, only: set[int] | None = None) -> None:
    for index, chunk in enumerate(chunks_of(content)):
        if only is None or index in only:
            put = await person.put(f"/files/{file_id}/chunk?index={index}", data=chunk)
            assert put.status == 200, put


async def stored(person: Person, content: bytes, *, direct: bool = True, **fields: Any) -> dict[str, Any]:
    file = await begin(person, content, **fields)
    if content:
        await (send_direct if direct else send)(person, file["id"], content)
    answer = await person.post(f"/files/{file['id']}/complete")
    assert answer.status == 201, answer
    return dict(answer.json)


async def download(person: Person, file_id: str, **headers: str) -> bytes:
    """The bytes, followed to wherever they are."""
    answer = await person.get(f"/files/{file_id}/download", headers=headers)
    if answer.status == 307:
        answer = await Server(person.http, person.url).get(answer.headers["Location"], headers=headers)
    assert answer.status in (200, 206), answer
    return answer.body


def objects(minio: S3Server, settings: dict[str, str]) -> list[str]:
    found = minio.client().list_objects(settings["S3_BUCKET"], recursive=True)
    return [str(item.object_name) for item in found]


def location_of(server: Server, file_id: str) -> str:
    """The key of a file's object, as the database has it."""
    assert server.settings is not None
    with closing(sqlite3.connect(next(server.settings.data_root.glob("*.sqlite3")))) as database:
        (location,) = database.execute("SELECT location FROM files WHERE id = ?", (file_id,)).fetchone()
    return str(location).partition("?")[0]
