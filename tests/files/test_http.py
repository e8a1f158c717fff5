"""Files over real HTTP: headers, statuses, Expect, ranges, tickets, clients that vanish."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.files.room import MIB, Client, Room, served, sha

CHUNK = 8 * MIB
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def digest_of(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(sha(data)).decode()}:"


async def stored(client: Client, content: bytes, **fields: Any) -> Any:
    begun = await client("POST", "/init", json={"name": "film.bin", "size": len(content), **fields})
    assert begun.status == 201, begun.body
    for start in range(0, len(content), CHUNK):
        answer = await client(
            "PUT", f"/{begun.json['id']}/chunk?index={start // CHUNK}", data=content[start : start + CHUNK])
        assert answer.status == 200, answer.body
    done = await client("POST", f"/{begun.json['id']}/complete")
    assert done.status == 201, done.body
    return done.json


async def test_a_file_goes_up_and_comes_down_whole(tmp_path: Path) -> None:
    content = os.urandom(CHUNK + 4321)
    async with served(tmp_path) as (_, alice):
        file = await stored(alice, content, sha256=sha(content).hex(), width=640, height=480, duration_s=1.5)
        assert (file["state"], file["size"], file["sha256_state"]) == ("complete", len(content), "claimed")
        down = await alice("GET", f"/{file['id']}/download")
        assert (down.status, down.body) == (200, content)
        assert down.headers["ETag"] == file["etag"] == f'"{file["checksum"]}"'
        assert down.headers["Accept-Ranges"] == "bytes"
        assert down.headers["Content-Disposition"] == 'attachment; filename="film.bin"'
        assert down.headers["X-Content-Type-Options"] == "nosniff"
        shown = await alice("GET", f"/{file['id']}?digests=true")
        assert shown.json["chunk_sha256"] == [sha(content[:CHUNK]).hex(), sha(content[CHUNK:]).hex()]
        assert "chunk_sha256" not in (await alice("GET", f"/{file['id']}")).json
        repeated = await alice("POST", f"/{file['id']}/complete")
        assert (repeated.status, repeated.json) == (200, file)


async def test_bodies_without_bytes_are_read_however_many_there_are(tmp_path: Path) -> None:
    """All of them are one object of aiohttp's, of which each reads again."""
    async with served(tmp_path) as (_, alice):
        begun = await alice("POST", "/init", json={"name": "film.bin", "size": 5})
        path = f"/{begun.json['id']}/chunk?index=0"
        assert (await alice("PUT", path, data=b"bytes")).status == 200
        for _ in range(3):
            async with asyncio.timeout(60):
                answer = await alice("PUT", f"{path}&offset=5", data=b"")
            assert (answer.status, answer.json["received_bytes"]) == (200, 5)


async def test_ranges(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    async with served(tmp_path) as (_, alice):
        file = await stored(alice, content)
        path = f"/{file['id']}/download"

        async def ask(**headers: str) -> tuple[int, bytes, str | None]:
            answer = await alice("GET", path, headers={n.replace("_", "-"): value for n, value in headers.items()})
            return answer.status, answer.body, answer.headers.get("Content-Range")

        assert await ask(Range="bytes=10-19") == (206, content[10:20], "bytes 10-19/100000")
        assert await ask(Range="bytes=99990-") == (206, content[-10:], "bytes 99990-99999/100000")
        assert await ask(Range="bytes=-5") == (206, content[-5:], "bytes 99995-99999/100000")
        assert await ask(Range="bytes=0-0,5-9") == (200, content, None)
        assert await ask(Range="bytes=0-9", If_Range=file["etag"]) == (206, content[:10], "bytes 0-9/100000")
        assert await ask(Range="bytes=0-9", If_Range='"stale"') == (200, content, None)
        status, body, content_range = await ask(Range="bytes=100000-")
        assert (status, content_range) == (416, "bytes */100000")
        assert json.loads(body)["code"] == "range_not_satisfiable"
        assert (await ask(If_None_Match=file["etag"]))[:2] == (304, b"")
        assert (await ask(If_None_Match='"other"'))[0] == 200
        head = await alice("HEAD", path, headers={"Range": "bytes=0-9"})
        assert (head.status, head.headers["Content-Length"], head.body) == (200, "100000", b"")
        assert head.headers["ETag"] == file["etag"]


async def test_a_file_that_is_not_complete_cannot_be_downloaded(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, alice):
        begun = await alice("POST", "/init", json={"name": "a", "size": 5})
        for method, path in (("GET", "download"), ("POST", "ticket")):
            answer = await alice(method, f"/{begun.json['id']}/{path}")
            assert (answer.status, answer.json["code"]) == (409, "upload_incomplete")


async def test_an_empty_file_downloads(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, alice):
        file = await stored(alice, b"")
        down = await alice("GET", f"/{file['id']}/download")
        assert (down.status, down.body, down.headers["Content-Length"]) == (200, b"", "0")
        assert (await alice("GET", f"/{file['id']}/download", headers={"Range": "bytes=0-"})).status == 416


async def test_inline_is_for_known_pictures_and_films_by_content_only(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, alice):
        picture = await stored(alice, PNG, name="a.png", mime="image/png")
        page = await stored(alice, b"<script>alert(1)</script>", name="a.png", mime="image/png")
        for file, kind, mime in ((picture, "inline", "image/png"), (page, "attachment", "image/png")):
            down = await alice("GET", f"/{file['id']}/download?inline=true")
            assert down.headers["Content-Disposition"].startswith(kind)
            assert down.headers["Content-Type"] == mime
            assert down.headers["Content-Security-Policy"].startswith("sandbox")
            plain = await alice("GET", f"/{file['id']}/download")
            assert plain.headers["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize(("name", "kept"), [
    ("../../etc/passwd", "passwd"), ("..", "unnamed"), ("a\0b.txt", "ab.txt"), ("C:\\temp\\x.txt", "x.txt"),
    ("\u202egpj.exe", "gpj.exe"), ("😀 फ़िल्म.mp4", "😀 फ़िल्म.mp4"), ('a"b\r\nSet-Cookie: x', 'a"bSet-Cookie: x'),
])
async def test_names_are_cleaned_and_come_back_in_the_header(tmp_path: Path, name: str, kept: str) -> None:
    import unicodedata
    from urllib.parse import unquote

    async with served(tmp_path) as (_, alice):
        file = await stored(alice, b"x", name=name)
        assert file["name"] == unicodedata.normalize("NFC", kept)
        header = (await alice("GET", f"/{file['id']}/download")).headers["Content-Disposition"]
        if "filename*=" in header:
            assert unquote(header.partition("UTF-8''")[2]) == file["name"]
        else:
            assert header == f'attachment; filename="{file["name"]}"'


async def test_requests_that_cannot_be_understood(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, alice):
        begun = await alice("POST", "/init", json={"name": "a", "size": 5})
        file_id = begun.json["id"]
        for path, status, code in (
            ("chunk?index=x", 422, "validation_failed"), ("chunk", 422, "validation_failed"),
            ("chunk?index=0&index=1", 422, "validation_failed"), ("chunk?index=0&more=1", 422, "validation_failed"),
            ("chunk?index=1", 400, "chunk_index_invalid"), ("chunk?index=-1", 400, "chunk_index_invalid"),
            (f"chunk?index={10**30}", 400, "chunk_index_invalid"),
        ):
            answer = await alice("PUT", f"/{file_id}/{path}", data=b"abcde")
            assert (answer.status, answer.json["code"]) == (status, code), path
        for header in ("sha-256=abc", "sha-256=:YWJj:", "", "sha-256=:!:"):
            answer = await alice("PUT", f"/{file_id}/chunk?index=0", data=b"abcde", headers={"Content-Digest": header})
            assert (answer.status, answer.json["code"]) == (400, "digest_malformed"), header
        for body in ({"name": "x" * 300, "size": 1}, {"name": "", "size": 1}, {"name": "a", "size": -1},
                     {"name": "a", "size": 2**60}, {"name": "a", "size": 1, "sha256": "AB" * 32},
                     {"name": "a", "size": 1, "mime": "no type"}, {"name": "a", "size": 1, "extra": 1},
                     {"name": "a", "size": 1, "preview": "a" * 50_000}, {"name": "a", "size": 1.5}):
            answer = await alice("POST", "/init", json=body)
            assert (answer.status, answer.json["code"]) == (422, "validation_failed"), body
        for preview in ("abc", base64.b64encode(b"no picture").decode()):
            answer = await alice("POST", "/init", json={"name": "a", "size": 1, "preview": preview})
            assert (answer.status, answer.json["code"]) == (422, "picture_invalid")
        assert (await alice("GET", "?cursor=nonsense")).json["code"] == "cursor_invalid"
        assert (await alice("GET", f"/{file_id}/download?what=1")).status == 422


async def test_digests_are_checked_and_come_back(tmp_path: Path) -> None:
    content = os.urandom(1000)
    async with served(tmp_path) as (_, alice):
        begun = await alice("POST", "/init", json={"name": "a", "size": 1000})
        path = f"/{begun.json['id']}/chunk?index=0"
        wrong = await alice("PUT", path, data=content, headers={"Content-Digest": digest_of(b"other")})
        assert (wrong.status, wrong.json["code"]) == (400, "digest_mismatch")
        answer = await alice("PUT", path, data=content, headers={"Content-Digest": digest_of(content)})
        assert answer.json == {"index": 0, "size": 1000, "sha256": sha(content).hex(), "received_bytes": 1000}
        assert answer.headers["Repr-Digest"] == digest_of(content)


async def raw(client: Client, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(client.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(request)
    await writer.drain()
    return reader, writer


def chunk_request(file_id: str, length: int, *more: str) -> bytes:
    lines = [f"PUT /api/v1/files/{file_id}/chunk?index=0 HTTP/1.1", "Host: x", "Authorization: Bearer alice",
             f"Content-Length: {length}", *more, "", ""]
    return "\r\n".join(lines).encode()


async def test_expect_continue_is_answered_only_where_the_body_is_wanted(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, alice):
        begun = await alice("POST", "/init", json={"name": "a", "size": 5})
        reader, writer = await raw(alice, chunk_request(begun.json["id"], 6, "Expect: 100-continue"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()
        reader, writer = await raw(alice, chunk_request("0" * 26, 5, "Expect: 100-continue"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")
        writer.close()
        reader, writer = await raw(alice, chunk_request(begun.json["id"], 5, "Expect: 100-continue"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abcde")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_body_without_a_length_is_counted(tmp_path: Path) -> None:
    async def parts(size: int) -> Any:
        for _ in range(size // 1000):
            yield bytes(1000)

    async with served(tmp_path) as (_, alice):
        begun = await alice("POST", "/init", json={"name": "a", "size": 5000})
        path = f"/{begun.json['id']}/chunk?index=0"
        for size in (4000, 6000):
            answer = await alice("PUT", path, data=parts(size))
            assert (answer.status, answer.json["code"]) == (400, "chunk_size_mismatch")
        assert (await alice("PUT", path, data=parts(5000))).status == 200


async def until_partial(room: Room, file_id: str) -> list[tuple[int, int]]:
    async with asyncio.timeout(10):
        while True:
            progress = await room.files.progress(file_id, "boot-1")
            if progress.partial:
                return progress.partial
            await asyncio.sleep(0.01)


async def test_a_client_that_vanishes_leaves_a_prefix_and_no_error_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = os.urandom(CHUNK)
    async with served(tmp_path) as (room, alice):
        begun = await alice("POST", "/init", json={"name": "a", "size": CHUNK})
        file_id = begun.json["id"]
        _, writer = await raw(alice, chunk_request(file_id, CHUNK) + content[: 3 * MIB])
        async with asyncio.timeout(10):  # until the server has read all of it
            while True:
                record = room.store.path((await room.files.get(file_id)).location)  # type: ignore[union-attr]
                if record.stat().st_blocks * 512 >= 2 * MIB:
                    break
                await asyncio.sleep(0.01)
        writer.transport.abort()
        [(index, have)] = await until_partial(room, file_id)
        assert index == 0
        assert 2 * MIB <= have <= 3 * MIB
        answer = await alice("PUT", f"/{file_id}/chunk?index=0&offset={have}", data=content[have:],
                             headers={"Repr-Digest": digest_of(content)})
        assert (answer.status, answer.json["sha256"]) == (200, sha(content).hex())
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_a_download_that_is_broken_off_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with served(tmp_path) as (_, alice):
        file = await stored(alice, bytes(4 * CHUNK))
        request = f"GET /api/v1/files/{file['id']}/download HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\r\n"
        reader, writer = await raw(alice, request.encode())
        assert await reader.readexactly(1000)
        writer.transport.abort()
        assert (await alice("GET", f"/{file['id']}/download")).body == bytes(4 * CHUNK)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_a_file_removed_during_a_download_still_arrives(tmp_path: Path) -> None:
    content = os.urandom(2 * CHUNK)
    async with served(tmp_path) as (room, alice):
        file = await stored(alice, content)
        request = f"GET /api/v1/files/{file['id']}/download HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\r\n"
        reader, writer = await raw(alice, request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert (await alice("DELETE", f"/{file['id']}")).status == 204
        room.clock.advance(3601)
        assert await room.deletions.run() == 1
        assert await reader.readexactly(len(content)) == content
        writer.close()
        assert (await alice("GET", f"/{file['id']}/download")).status == 404


async def test_a_download_ticket_needs_no_session_and_ends(tmp_path: Path) -> None:
    async with served(tmp_path) as (room, alice):
        await room.chat("tea", "alice", "bob")
        file = await stored(alice, b"content")
        await room.show("tea", file["id"])
        nobody, bob = alice.as_(""), alice.as_("bob")
        assert (await nobody("GET", f"/{file['id']}/download")).status == 401
        made = await bob("POST", f"/{file['id']}/ticket", json={"expires_in": 60})
        url = made.json["url"]
        assert url.startswith(alice.url + f"/api/v1/files/{file['id']}/download?ticket=")
        assert (await nobody("GET", url + "&utm=x")).body == b"content"
        other = await stored(alice, b"other")
        assert (await nobody("GET", url.replace(file["id"], other["id"]))).status == 404
        assert (await nobody("GET", url[:-1] + ("A" if url[-1] != "A" else "B"))).status == 404
        await room.run("UPDATE users SET disabled = 1 WHERE id = 'bob'")
        assert (await nobody("GET", url)).status == 404
        await room.run("UPDATE users SET disabled = 0 WHERE id = 'bob'")
        await room.run("UPDATE members SET left_at = 1 WHERE user_id = 'bob'")
        assert (await nobody("GET", url)).status == 404
        await room.run("UPDATE members SET left_at = NULL WHERE user_id = 'bob'")
        assert (await nobody("GET", url)).status == 200
        room.clock.advance(61)
        assert (await nobody("GET", url)).status == 404
        for expires_in in (0, -1, 31 * 86400):
            assert (await bob("POST", f"/{file['id']}/ticket", json={"expires_in": expires_in})).status == 422
        assert (await alice.as_("carol")("POST", f"/{file['id']}/ticket")).status == 404


async def test_an_upload_ticket_uploads_and_nothing_else(tmp_path: Path) -> None:
    async with served(tmp_path) as (room, alice):
        await room.chat("tea", "alice")
        assert (await alice("POST", "/upload-ticket", json={"chat_id": "coffee"})).status == 404
        made = await alice("POST", "/upload-ticket", json={"chat_id": "tea"})
        page, _, token = made.json["url"].partition("#ticket=")
        assert page == alice.url + "/upload"
        guest = alice.as_(token)
        file = await stored(guest, b"abc")
        assert (file["owner_id"], file["state"]) == ("alice", "complete")
        assert (await guest("GET", f"/{file['id']}/download")).status == 401
        assert (await guest("GET", "")).status == 401
        assert (await guest("POST", f"/{file['id']}/ticket")).status == 401
        assert (await guest("DELETE", f"/{file['id']}")).status == 404
        room.clock.advance(86401)
        assert (await guest("POST", "/init", json={"name": "a", "size": 1})).status == 401


async def test_an_upload_goes_on_with_a_fresh_ticket_and_the_same_key(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, alice):
        key, file = {"Idempotency-Key": "page"}, {"name": "a", "size": 3}
        guests = []
        for _ in range(2):
            made = await alice("POST", "/upload-ticket", json={})
            guests.append(alice.as_(made.json["url"].partition("#ticket=")[2]))
        old, new = guests
        begun = (await old("POST", "/init", json=file, headers=key)).json
        assert (await old("PUT", f"/{begun['id']}/chunk?index=9", data=b"abc")).json["code"] == "chunk_index_invalid"
        again = await new("POST", "/init", json=file, headers=key)
        assert (again.status, again.json["id"]) == (200, begun["id"])
        assert (await old("PUT", f"/{begun['id']}/chunk?index=0", data=b"abc")).status == 404
        assert (await new("PUT", f"/{begun['id']}/chunk?index=0", data=b"abc")).status == 200
        assert (await new("POST", f"/{begun['id']}/complete")).status == 201


@pytest.mark.parametrize("host", ["a b", 'x"><script>', "e@vil", "a/b", "h:port"])
async def test_a_host_header_that_is_no_host_makes_no_link(tmp_path: Path, host: str) -> None:
    async with served(tmp_path) as (_, alice):
        file = await stored(alice, b"abc")
        for path in ("/upload-ticket", f"/{file['id']}/ticket"):
            refused = await alice("POST", path, json={}, headers={"Host": host})
            assert (refused.status, refused.json["errors"][0]["field"]) == (422, "Host")
        made = await alice("POST", "/upload-ticket", json={}, headers={"Host": "[::1]:8000"})
        assert made.json["url"].startswith("http://[::1]:8000/upload#")


async def test_the_proxy_is_told_which_file_to_send(tmp_path: Path) -> None:
    async with served(tmp_path, x_accel_prefix="/_files") as (_, alice):
        file = await stored(alice, PNG, name="a.png")
        down = await alice("GET", f"/{file['id']}/download?inline=true", headers={"Range": "bytes=0-1"})
        assert (down.status, down.body) == (200, b"")
        accel = down.headers["X-Accel-Redirect"]
        assert (tmp_path / "files" / accel.removeprefix("/_files/")).read_bytes() == PNG
        assert down.headers["ETag"] == file["etag"]
        assert down.headers["Content-Type"] == "image/png"
        assert "Content-Range" not in down.headers
        again = await alice("GET", f"/{file['id']}/download", headers={"If-None-Match": file["etag"]})
        assert again.status == 304
        assert "X-Accel-Redirect" not in again.headers


async def test_bytes_that_are_missing_are_an_error_of_ours(tmp_path: Path) -> None:
    async with served(tmp_path) as (room, alice):
        file = await stored(alice, b"abc")
        record = await room.files.get(file["id"])
        assert record is not None
        room.store.path(record.location).unlink()
        answer = await alice("GET", f"/{file['id']}/download")
        assert (answer.status, answer.json["code"], answer.json["retryable"]) == (503, "storage_unavailable", False)


async def test_lists_page_through_ones_own_files_and_a_chats(tmp_path: Path) -> None:
    async with served(tmp_path) as (room, alice):
        await room.chat("tea", "alice", "bob")
        files = [await stored(alice, b"x", name=name) for name in ("Über.txt", "b.txt", "c.txt")]
        uploading = (await alice("POST", "/init", json={"name": "d.txt", "size": 3})).json
        names = [item["name"] for item in (await alice("GET", "")).json["items"]]
        assert names == ["d.txt", "c.txt", "b.txt", "Über.txt"]
        first = (await alice("GET", "?limit=3")).json
        rest = (await alice("GET", "?limit=3&cursor=" + first["next_cursor"])).json
        assert [item["name"] for item in first["items"] + rest["items"]] == names
        assert rest["next_cursor"] is None
        assert [item["id"] for item in (await alice("GET", "?state=uploading")).json["items"]] == [uploading["id"]]
        assert [item["name"] for item in (await alice("GET", "?q=über")).json["items"]] == ["Über.txt"]
        assert (await alice.as_("bob")("GET", "")).json["items"] == []

        await room.show("tea", files[0]["id"], files[1]["id"])
        seq = await room.show("tea", files[2]["id"])
        bob = alice.as_("bob")
        listed = (await bob("GET", "?chat_id=tea&limit=2")).json
        rest = (await bob("GET", "?chat_id=tea&limit=2&cursor=" + listed["next_cursor"])).json
        assert [item["id"] for item in listed["items"] + rest["items"]] == [
            files[2]["id"], files[1]["id"], files[0]["id"]]
        await room.run("INSERT INTO hidden VALUES ('bob', 'tea', ?, 'm', 1)", seq)
        assert len((await bob("GET", "?chat_id=tea")).json["items"]) == 2
        assert (await bob("GET", f"/{files[2]['id']}")).status == 200
        assert (await alice.as_("carol")("GET", "?chat_id=tea")).status == 404


async def test_who_may_read_and_who_may_remove(tmp_path: Path) -> None:
    async with served(tmp_path) as (room, alice):
        bob, carol = alice.as_("bob"), alice.as_("carol")
        await room.chat("tea", "alice", "bob")
        await room.chat("tea", "carol", first_seq=2)
        file = await stored(alice, b"abc")
        assert (await bob("GET", f"/{file['id']}")).status == 404
        await room.show("tea", file["id"])
        assert (await bob("GET", f"/{file['id']}/download")).body == b"abc"
        assert (await carol("GET", f"/{file['id']}")).status == 404  # shown before she came
        assert (await carol("DELETE", f"/{file['id']}")).status == 404
        refused = await bob("DELETE", f"/{file['id']}")
        assert (refused.status, refused.json["code"]) == (403, "not_allowed")
        assert (await alice("DELETE", f"/{file['id']}")).status == 204
        assert (await alice("DELETE", f"/{file['id']}")).status == 404
        assert (await bob("GET", f"/{file['id']}")).status == 404
        assert room.restamped == [file["id"]]
        assert await room.run("SELECT kind, payload FROM jobs") == [("restamp_file", file["id"].encode())]


async def test_a_repeated_idempotency_key_answers_200(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, alice):
        headers = {"Idempotency-Key": "one"}
        first = await alice("POST", "/init", json={"name": "a", "size": 3}, headers=headers)
        again = await alice("POST", "/init", json={"name": "a", "size": 3}, headers=headers)
        assert (first.status, again.status, first.json["id"]) == (201, 200, again.json["id"])
        other = await alice("POST", "/init", json={"name": "b", "size": 3}, headers=headers)
        assert (other.status, other.json["code"]) == (409, "idempotency_conflict")
