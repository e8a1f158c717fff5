"""A disk that is full: the client is told, nothing is lost, and it goes on when there is room again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.faults.test_kill import Phone
from tests.harness import PASSWORD
from tests.http_session import http_session
from tests.process import ServerProcess

MIB = 1024 * 1024


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    return ballast


async def test_no_upload_begins_that_has_no_room(small_disk: Path) -> None:
    with ServerProcess(small_disk / "data") as server:
        async with http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            answer = await phone.client.post("/files/init", {"name": "film.bin", "size": 100 * MIB})
            assert (answer.status, answer.code) == (507, "storage_full")
            assert answer.json["retryable"] is True


async def test_reservations_of_uploads_count_against_the_free_disk(small_disk: Path) -> None:
    with ServerProcess(small_disk / "data") as server:
        async with http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            sized = {"name": "film.bin", "size": 6 * MIB}
            statuses = [(await phone.client.post("/files/init", sized)).status for _ in range(5)]
            assert statuses[0] == 201
            assert statuses[-1] == 507


async def test_an_upload_goes_on_after_the_disk_was_full_in_its_middle(small_disk: Path) -> None:
    content = os.urandom(9 * MIB)
    with ServerProcess(small_disk / "data") as server:
        async with http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            chat = await phone.call("POST", "/chats", {"kind": "group", "title": "Full", "member_ids": []})
            file = await phone.call("POST", "/files/init", {"name": "film.bin", "size": len(content)})
            chunk = file["upload"]["chunk_size"]
            assert (await phone.client.put(f"/files/{file['id']}/chunk?index=1", data=content[chunk:])).status == 200

            ballast = fill(small_disk)
            full = await phone.client.put(f"/files/{file['id']}/chunk?index=0", data=content[:chunk])
            assert (full.status, full.code) == (507, "storage_full")
            # The database has no room either: what cannot be kept is refused, not half kept.
            message = {"client_id": "m1", "text": "x" * 8000}
            statuses = set()
            for n in range(200):
                message["client_id"] = f"m{n}"
                statuses.add((await phone.client.post(f"/chats/{chat['id']}/messages", message)).status)
            assert statuses <= {201, 507}
            assert 507 in statuses

            ballast.unlink()
            state = await phone.call("GET", f"/files/{file['id']}")
            assert state["upload"]["received"] == [[1, 1]]
            assert (await phone.client.put(f"/files/{file['id']}/chunk?index=0", data=content[:chunk])).status == 200
            await phone.call("POST", f"/files/{file['id']}/complete")
            assert (await phone.client.get(f"/files/{file['id']}/download")).body == content
            await phone.call("POST", f"/chats/{chat['id']}/messages", {"client_id": "after", "text": "room again"})
            page = await phone.call("GET", f"/chats/{chat['id']}/messages?limit=200")
            seqs = [m["seq"] for m in page["items"]]
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
            assert page["items"][-1]["text"] == "room again"


async def test_what_was_acknowledged_before_a_full_disk_is_there_after_a_restart(small_disk: Path) -> None:
    server = ServerProcess(small_disk / "data").start()
    try:
        async with http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            chat = await phone.call("POST", "/chats", {"kind": "group", "title": "Full", "member_ids": []})
            await phone.call("POST", f"/chats/{chat['id']}/messages", {"client_id": "kept", "text": "kept"})
            ballast = fill(small_disk)
            server.kill()
            ballast.unlink()
            server.start()
            page = await phone.call("GET", f"/chats/{chat['id']}/messages")
            assert [m["text"] for m in page["items"] if m["kind"] == "text"] == ["kept"]
    finally:
        server.kill()


async def test_on_a_full_disk_people_sign_in_and_make_room_and_a_restart_works(small_disk: Path) -> None:
    server = ServerProcess(small_disk / "data").start()
    try:
        async with http_session() as http:
            phone = Phone(server, http)
            await phone.register("asha")
            chat = await phone.call("POST", "/chats", {"kind": "group", "title": "Full", "member_ids": []})
            sized = {"name": "film.bin", "size": MIB}
            file = await phone.call("POST", "/files/init", sized)
            assert (await phone.client.put(f"/files/{file['id']}/chunk?index=0", data=bytes(MIB))).status == 200
            await phone.call("POST", f"/files/{file['id']}/complete")

            fill(small_disk)
            async with asyncio.timeout(30):
                while (await phone.client.get("/readyz")).json["status"] != "degraded":
                    await asyncio.sleep(0.2)
            for path, body in ((f"/chats/{chat['id']}/messages", {"client_id": "m", "text": "no"}),
                               ("/files/init", sized)):
                answer = await phone.client.post(path, body)
                assert (answer.status, answer.code) == (507, "storage_full")
            login = {"email": "asha@example.org", "password": PASSWORD}
            assert (await phone.client.post("/auth/login", login)).status == 200

            server.kill()
            server.start()
            await phone.call("POST", "/auth/login", login)
            await phone.call("DELETE", f"/files/{file['id']}")

            (small_disk / "ballast").unlink()
            async with asyncio.timeout(30):
                while (await phone.client.get("/readyz")).json["status"] != "ready":
                    await asyncio.sleep(0.2)
            await phone.call("POST", f"/chats/{chat['id']}/messages", {"client_id": "m", "text": "room again"})
    finally:
        server.kill()
