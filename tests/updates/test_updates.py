"""Publishing a build and being offered it, over HTTP and by the operator's command."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from tests.harness import Person, Server, running
from tests.process import ServerProcess, command

MIB = 1024 * 1024


async def administrator(server: Server) -> Person:
    """Whoever registers with the first invite is one."""
    from hypersend_server.app import START_INVITE

    return await server.person("root", invite=server.app[START_INVITE])


async def uploaded(person: Person, data: bytes, **fields: Any) -> str:
    file = (await person.post("/files/init", {"name": "app.apk", "size": len(data), **fields})).json
    assert (await person.put(f"/files/{file['id']}/chunk?index=0", data=data)).status == 200
    assert (await person.post(f"/files/{file['id']}/complete")).status == 201
    return str(file["id"])


async def publish(person: Person, data: bytes, version: str, **fields: Any) -> dict[str, Any]:
    body = {"file_id": await uploaded(person, data), "version": version, "platform": "android", **fields}
    answer = await person.post("/updates/release", body)
    assert answer.status == 201, answer.body
    return dict(answer.json)


async def check(server: Server, version: str, abi: str = "arm64-v8a", platform: str = "android") -> dict[str, Any]:
    answer = await server.get(f"/updates/check?platform={platform}&abi={abi}&version={version}")
    assert answer.status == 200, answer.body
    return dict(answer.json)


async def test_an_old_app_is_offered_the_newest_and_can_fetch_it_in_pieces(tmp_path: Path) -> None:
    data = os.urandom(MIB)
    async with running(tmp_path) as server:
        root = await administrator(server)
        assert await check(server, "1.0.0") == {"available": False, "release": None}
        await publish(root, b"older", "1.4.0")
        made = await publish(root, data, "1.10.0", notes="Faster", abi="arm64-v8a")
        found = await check(server, "1.4.0")
        assert found == {"available": True, "release": made}
        assert (made["size"], made["sha256"]) == (MIB, hashlib.sha256(data).hexdigest())
        assert (await check(server, "1.10.0"))["available"] is False
        assert (await check(server, "1.11.0-beta"))["available"] is False
        whole = await server.get(made["url"])
        assert (whole.status, whole.body) == (200, data)
        assert 'filename="HyperSend-1.10.0-arm64-v8a.apk"' in whole.headers["Content-Disposition"]
        rest = await server.get(
            made["url"], headers={"Range": f"bytes={MIB // 2}-", "If-Range": whole.headers["ETag"]})
        assert (rest.status, rest.body) == (206, data[MIB // 2:])
        assert (await server.get("/updates/latest?platform=android&abi=arm64-v8a")).json == made
        assert (await server.get("/updates/1.10.0")).json == made
        assert (await server.get("/updates/9.9.9")).status == 404
        assert (await server.get("/updates/latest?platform=windows")).status == 404


async def test_the_devices_own_abi_comes_before_the_one_for_all(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        root = await administrator(server)
        await publish(root, b"all", "2.0.0")
        await publish(root, b"arm", "2.0.0", abi="arm64-v8a")
        await publish(root, b"intel", "2.1.0", abi="x86_64")
        assert (await check(server, "1.0.0", "arm64-v8a"))["release"]["abi"] == "arm64-v8a"
        assert (await check(server, "1.0.0", "armeabi-v7a"))["release"]["abi"] == "universal"
        assert (await check(server, "1.0.0", "x86_64"))["release"]["version"] == "2.1.0"
        one = await server.get("/updates/2.0.0/download?platform=android&abi=arm64-v8a")
        assert one.body == b"arm"


async def test_who_skipped_a_mandatory_one_must_move_on(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        root = await administrator(server)
        await publish(root, b"1", "1.1.0", mandatory=True)
        await publish(root, b"2", "1.2.0")
        assert (await check(server, "1.0.0"))["release"]["mandatory"] is True
        assert (await check(server, "1.1.0"))["release"]["mandatory"] is False


async def test_a_share_of_people_is_offered_it_and_the_same_ones_each_time(tmp_path: Path) -> None:
    async with running(tmp_path, RATE_LIMITS="off", TRUSTED_PROXIES="127.0.0.1") as server:
        root = await administrator(server)
        await publish(root, b"new", "3.0.0", share=30)

        async def offered(address: str) -> bool:
            answer = await server.get(
                "/updates/check?platform=android&version=1.0.0", headers={"X-Forwarded-For": address})
            return bool(answer.json["available"])

        addresses = [f"198.51.{n // 250}.{n % 250}" for n in range(400)]
        first = [await offered(address) for address in addresses]
        assert 0.15 < sum(first) / len(first) < 0.45  # by a hash, the same in every run
        assert [await offered(address) for address in addresses[:50]] == first[:50]
        assert (await server.get("/updates/latest?platform=android")).status == 404


async def test_only_administrators_publish_and_only_complete_files_of_their_own(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        root, ben = await administrator(server), await server.person("ben")
        body = {"file_id": await uploaded(root, b"apk"), "version": "1.0.0", "platform": "android"}
        assert (await ben.post("/updates/release", body)).status == 403
        assert (await server.post("/updates/release", body)).status == 401
        unfinished = (await root.post("/files/init", {"name": "a", "size": 5})).json["id"]
        for wrong, status, code in (
            ({"version": "1.0"}, 422, "validation_failed"), ({"platform": "amiga"}, 422, "validation_failed"),
            ({"file_id": "nothing"}, 404, "not_found"), ({"file_id": unfinished}, 409, "upload_incomplete"),
            ({"file_id": await uploaded(ben, b"his")}, 404, "not_found"),
        ):
            answer = await root.post("/updates/release", {**body, **wrong})
            assert (answer.status, answer.code) == (status, code), wrong
        assert (await root.post("/updates/release", body)).status == 201
        again = await root.post("/updates/release", body)
        assert (again.status, again.code) == (409, "release_exists")


async def test_whoever_is_connected_hears_of_a_release(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        root, ben = await administrator(server), await server.person("ben")
        socket = await ben.socket()
        made = await publish(root, b"new", "3.0.0")
        # Who asks for it, before the server has looked for what is new, takes the news from nobody.
        assert (await root.get("/updates/latest?platform=android&abi=any")).status == 200
        assert (await socket.until("update", 30))["release"] == made


async def test_the_operators_command_publishes_shares_and_withdraws(tmp_path: Path) -> None:
    build = tmp_path / "hypersend-arm64-v8a.apk"
    build.write_bytes(os.urandom(9 * MIB))
    data_root = tmp_path / "data"
    with ServerProcess(data_root) as server:
        async def run(*words: str) -> tuple[int, Any]:
            done = await asyncio.to_thread(command, data_root, "release", *words, "--json")
            return done.returncode, json.loads(done.stdout) if done.stdout.strip() else done.stderr

        status, made = await run("add", str(build), "--version", "1.4.0", "--notes", "New", "--share", "50")
        assert status == 0, made
        assert (made["abi"], made["platform"], made["size"]) == ("arm64-v8a", "android", 9 * MIB)
        assert made["sha256"] == hashlib.sha256(build.read_bytes()).hexdigest()
        assert (await run("add", str(build), "--version", "1.4.0"))[0] == 1
        for wrong in ("1.4", "v1.5.0"):
            assert (await run("add", str(build), "--version", wrong))[0] == 2
        assert (await run("share", "1.4.0", "100"))[0] == 0
        from tests.http_session import http_session

        async with http_session() as http:
            phone = Server(http, server.url)
            latest = (await phone.get("/updates/latest?platform=android&abi=arm64-v8a")).json
            assert latest["version"] == "1.4.0"
            assert (await phone.get(latest["url"])).body == build.read_bytes()
            assert len((await run("list"))[1]["items"]) == 1
            assert (await run("withdraw", "1.4.0"))[0] == 0
            assert (await phone.get("/updates/latest?platform=android&abi=arm64-v8a")).status == 404
            assert (await phone.get(latest["url"])).status == 404
        assert (await run("withdraw", "1.4.0"))[0] == 1
