"""Two people chat and exchange a file through an address: python -m tests.anywhere.two_people URL [MIB].

For places that a test's own process is not in, such as the network of a container. Prints one line at the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Mapping

import aiohttp

from tests.harness import PASSWORD, Client

FINAL = "two people talked and exchanged a file"


async def meet(url: str, size: int, connector: aiohttp.BaseConnector | None = None
               ) -> Mapping[str, str]:
    """Headers of the whole download, for who wants to look at them. size: of the file, bytes."""
    content = os.urandom(min(size, 2**20)) * max(1, size // 2**20)
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout) as http:
        people = []
        for name in ("asha", "ben"):
            person = Client(http, url)
            session = await person.post("/auth/register", {
                "email": f"{name}@example.org", "username": name, "password": PASSWORD})
            assert session.status == 201, (session.status, session.body)
            person.headers["Authorization"] = f"Bearer {session.json['access_token']}"
            people.append((person, session.json["user"]["id"]))
        (asha, _), (ben, ben_id) = people
        chat = (await asha.post("/chats", {"kind": "direct", "user_id": ben_id})).json["id"]
        async with http.ws_connect(url.replace("http", "ws", 1) + "/api/v1/ws", headers=ben.headers) as socket:
            assert (await socket.receive_json(timeout=60))["type"] == "ready"
            sent = await asha.post(f"/chats/{chat}/messages", {"client_id": "m1", "text": "Namaste, Ben"})
            assert sent.status == 201, (sent.status, sent.body)
            while (frame := await socket.receive_json(timeout=60))["type"] != "message":
                pass
            assert frame["message"]["text"] == "Namaste, Ben"

        file = (await asha.post("/files/init", {"name": "film.bin", "size": len(content)})).json
        chunk = file["upload"]["chunk_size"]
        for index in range(file["upload"]["chunk_count"]):
            put = await asha.put(f"/files/{file['id']}/chunk?index={index}",
                                 data=content[index * chunk : (index + 1) * chunk])
            assert put.status == 200, (put.status, put.body)
        done = await asha.post(f"/files/{file['id']}/complete")
        assert done.status == 201, (done.status, done.body)
        shown = await asha.post(f"/chats/{chat}/messages", {"client_id": "m2", "file_ids": [file["id"]]})
        assert shown.status == 201, (shown.status, shown.body)
        part = await ben.get(f"/files/{file['id']}/download", headers={"Range": "bytes=1000-1999"})
        assert (part.status, part.body) == (206, content[1000:2000])
        digest = hashlib.sha256()
        async with http.get(f"{url}/api/v1/files/{file['id']}/download", headers=ben.headers) as whole:
            assert whole.status == 200
            async for block in whole.content.iter_chunked(2**20):
                digest.update(block)
        assert digest.digest() == hashlib.sha256(content).digest()
        assert whole.headers["ETag"] == done.json["etag"]
        return whole.headers


if __name__ == "__main__":
    headers = asyncio.run(meet(sys.argv[1], int(sys.argv[2] if len(sys.argv) > 2 else "20") * 2**20))
    print(FINAL, headers.get("Server", ""))
