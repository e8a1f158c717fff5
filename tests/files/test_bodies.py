"""How many chunks are received at once, and what becomes of them when the server stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hypersend_server.errors import HyperSendError
from hypersend_server.files import bodies
from hypersend_server.files.bodies import Bodies
from tests.harness import Person, Server, running
from tests.http_session import http_session
from tests.process import ServerProcess

MIB = 1024 * 1024


def test_so_many_of_one_person_and_of_all_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_OF_PERSON", 2)
    monkeypatch.setattr(bodies, "MAX_BODIES", 3)
    counted = Bodies()
    with counted.counted("asha"), counted.counted("asha"):
        with pytest.raises(HyperSendError, match="of one person"):
            counted.counted("asha").__enter__()
        with counted.counted("ben"):
            with pytest.raises(HyperSendError) as refused:
                counted.counted("cleo").__enter__()
            assert refused.value.code == "busy"
        with counted.counted("cleo"):
            pass
    with counted.counted("asha"):
        pass


async def test_one_person_holds_no_more_than_a_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_OF_PERSON", 2)
    with contextlib.ExitStack() as lines:
        async with running(tmp_path) as server:
            asha, ben = await server.person("asha"), await server.person("ben")
            held = [lines.enter_context(await half_a_chunk(server, asha, index)) for index in range(2)]
            upload = (await asha.post("/files/init", {"name": "b", "size": 10})).json
            path = f"/files/{upload['id']}/chunk?index=0"
            refused = await asha.put(path, data=bytes(10), headers={"Content-Type": "application/octet-stream"})
            assert (refused.status, refused.code) == (429, "rate_limited")
            assert int(refused.headers["Retry-After"]) >= 1
            (await half_a_chunk(server, ben, 0)).close()
            held[0].close()
            async with asyncio.timeout(10):
                while (await asha.put(path, data=bytes(10), headers={
                        "Content-Type": "application/octet-stream"})).status != 200:
                    await asyncio.sleep(0.05)
            held[1].close()


@contextlib.asynccontextmanager
async def served(tmp_path: Path) -> AsyncIterator[tuple[ServerProcess, Server, Person]]:
    """A server in a process of its own, and somebody there."""
    process = ServerProcess(tmp_path / "data", RATE_LIMITS="off", REGISTRATION="open").start()
    try:
        async with http_session() as http:
            server = Server(http, process.url)
            yield process, server, await server.person("asha")
    finally:
        await asyncio.to_thread(process.kill)


async def test_a_chunk_that_is_on_its_way_when_the_server_stops_arrives(tmp_path: Path) -> None:
    async with served(tmp_path) as (process, server, asha):
        with await half_a_chunk(server, asha, 0) as line:
            os.kill(process.pid, signal.SIGTERM)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(line.sendall, bytes(4 * MIB))
            answer = await asyncio.to_thread(line.recv, 1000)
            assert answer.startswith(b"HTTP/1.1 200")


async def test_what_came_of_a_chunk_before_the_server_stopped_is_kept(tmp_path: Path) -> None:
    async with served(tmp_path) as (process, server, asha):
        with await half_a_chunk(server, asha, 0):
            assert await asyncio.to_thread(process.stop) == 0
        await asyncio.to_thread(process.start)
        asha = await Server(server.http, process.url).login(asha.email)
        state = (await asha.get("/files?state=uploading")).json["items"][0]
        ((index, have),) = (await asha.get(f"/files/{state['id']}")).json["upload"]["partial"]
        assert (index, have) == (0, 4 * MIB)


async def half_a_chunk(server: Server, person: Person, index: int) -> socket.socket:
    """A connection that has sent the first half of a chunk."""
    upload = (await person.post("/files/init", {"name": f"a{index}", "size": 8 * MIB})).json
    place = urlsplit(server.url)
    line = socket.create_connection((place.hostname, place.port), timeout=20)
    line.sendall("\r\n".join([
        f"PUT /api/v1/files/{upload['id']}/chunk?index=0 HTTP/1.1", f"Host: {place.netloc}",
        f"Authorization: {person.headers['Authorization']}", "Content-Type: application/octet-stream",
        f"Content-Length: {8 * MIB}", "", ""]).encode())
    await asyncio.to_thread(line.sendall, bytes(4 * MIB))
    await asyncio.sleep(0.3)  # the server has it all in its own hands
    return line
