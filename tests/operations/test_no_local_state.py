"""With MongoDB and a bucket a server may be thrown away, with everything on its disk, as platforms for containers do:
`PORT` from the platform, jobs by a schedule, and the next one goes on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.doctor.front import free_port
from tests.faults.test_kill import Phone
from tests.http_session import http_session
from tests.mongo_server import MongoServer
from tests.process import ServerProcess, command
from tests.s3_servers import S3Server


async def test_a_server_that_is_thrown_away_loses_nothing(
    mongo_server: MongoServer, minio: S3Server, tmp_path: Path
) -> None:
    settings = {
        "MONGODB_URI": mongo_server.fresh_uri(), "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz",
        "STORAGE_BACKEND": "s3", "S3_ENDPOINT": minio.url, "S3_BUCKET": minio.new_bucket(),
        "S3_ACCESS_KEY": minio.access_key, "S3_SECRET_KEY": minio.secret_key, "S3_REGION": minio.region,
        "S3_DIRECT": "off", "BACKGROUND_JOBS": "off", "HOST": "0.0.0.0"}
    content = os.urandom(9 * 1024 * 1024)
    async with http_session() as http:
        with ServerProcess(tmp_path / "one", **settings, PORT=str(free_port())) as server:
            phone = Phone(server, http)
            await phone.register("asha")
            chat = await phone.call("POST", "/chats", {"kind": "group", "title": "Tea", "member_ids": []})
            file = await phone.call("POST", "/files/init", {"name": "film.bin", "size": len(content)})
            chunk = file["upload"]["chunk_size"]
            await phone.call("PUT", f"/files/{file['id']}/chunk?index=0", data=content[:chunk])
        shutil.rmtree(tmp_path / "one", ignore_errors=True)  # where there is anything at all

        with ServerProcess(tmp_path / "two", **settings, PORT=str(free_port())) as server:
            phone.client.url = server.url
            await phone.call("PUT", f"/files/{file['id']}/chunk?index=1", data=content[chunk:])
            await phone.call("POST", f"/files/{file['id']}/complete")
            await phone.call("POST", f"/chats/{chat['id']}/messages", {"client_id": "1", "file_ids": [file["id"]]})
            answer = await phone.client.get(f"/files/{file['id']}/download")
            assert answer.body == content
            # The scheduled job, in a container of its own.
            done = command(tmp_path / "three", "gc", "--delete", **settings)
            assert done.returncode == 0, done.stderr
            assert not any(path.is_file() for path in (tmp_path / "two").rglob("*") if path.name != "server.lock")
