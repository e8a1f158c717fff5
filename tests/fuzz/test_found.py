"""What hostile answers once did to the SDK."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hypersend_client.sdk import ApiError, ConnectionFailed, HyperSend, NotHyperSend
from hypersend_client.sdk.answers import parse_json
from hypersend_client.sdk.bulk import BulkConnection, Response
from hypersend_client.sdk.connection import _refusal
from hypersend_client.sdk.errors import LocalStorageFailed
from hypersend_client.sdk.events import Unknown, parse
from hypersend_client.sdk.models import File, Message, parse_time
from hypersend_client.sdk.p2p_calls import PeerCalls
from hypersend_client.sdk.retry import Backoff
from hypersend_client.sdk.store import Store
from hypersend_client.sdk.transport import Transport
from hypersend_client.sdk.updates import Release
from tests.fuzz.hostile import Raw, answer_of, raw_server
from tests.fuzz.test_hostile_answers import ACCOUNT, CHATS, FRAMES, MEMBERS, RELEASE, SERVER_INFO, UPLOADING, live

NEVER = "0001-01-01T00:00:00+10:00"


@asynccontextmanager
async def bulk() -> AsyncIterator[tuple[BulkConnection, Raw]]:
    async with raw_server() as raw:
        transport = Transport(raw.url)
        with ThreadPoolExecutor(2) as pool:
            line = BulkConnection(transport, pool)
            yield line, raw
            await line.close()
        await transport.close()


def everything(response: Response) -> bytes:
    return response.wire.read_all(response)


def test_a_time_before_all_times_is_none() -> None:
    with pytest.raises(ValueError, match="range"):
        parse_time(NEVER)


@pytest.mark.parametrize("frame", [
    {"type": "presence", "user_id": "u", "online": True, "last_seen_at": NEVER},
    {"type": "read", "chat_id": "c", "user_id": "u", "seq": 2**63},
    {"type": "typing", "chat_id": "\ud800", "user_id": "u"},
    {"type": [[]]}])
def test_a_frame_that_cannot_be_so_is_an_unknown_one(frame: dict[str, Any]) -> None:
    assert parse(frame) == Unknown(frame)


@pytest.mark.parametrize("text", [
    json.dumps({"type": "presence", "user_id": "u", "online": True, "last_seen_at": NEVER}),
    json.dumps({**FRAMES[8], "message": {**FRAMES[8]["message"], "rev": 2**63, "seq": 2**70}}),
    '{"type": "ack", "ref": ' + "[" * 900 + "]" * 900 + "}",
    '{"type": ' + "[" * 900 + "]" * 900 + "}"])
async def test_the_socket_goes_on_after_it(text: str) -> None:
    async with live() as client:
        await client.meets([text.encode()], b'{"token": "t", "more": false}')


async def test_an_answer_that_is_nested_without_end_is_no_answer() -> None:
    with pytest.raises(ValueError, match="deep"):
        parse_json(b"[" * 100_000)
    async with bulk() as (line, raw):
        for head in (b"200 OK", b"409 Conflict"):
            body = b"[" * 100_000
            raw.answers = [b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\n"
                           b"Content-Length: %d\r\n\r\n%s" % (head, len(body), body)]
            with pytest.raises((NotHyperSend, ApiError)):
                await line.put("/x", query={}, headers={}, length=0, send=lambda wire: None)


@pytest.mark.parametrize("location", ["http://[", "http://x:99999/", "ftp://x/", "mailto:a"])
async def test_a_redirect_that_leads_nowhere_is_an_error_of_the_sdk(location: str) -> None:
    async with bulk() as (line, raw):
        raw.answers = [f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()]
        with pytest.raises(NotHyperSend):
            await line.get("/x", headers={}, receive=everything)


async def test_an_address_or_header_that_is_none_is_an_error_of_the_sdk() -> None:
    async with bulk() as (line, raw):
        for url, headers in (("http://[", {}), (raw.url + "/x", {"a": "b\r\nc: d"})):
            with pytest.raises(NotHyperSend):
                await line.put_elsewhere(url, headers=headers, length=0, send=lambda wire: None)


async def test_an_answer_that_is_only_announced_again_and_again_has_an_end() -> None:
    async with bulk() as (line, raw):
        raw.answers = [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000]
        with pytest.raises(NotHyperSend):
            await line.get("/x", headers={}, receive=everything)


@pytest.mark.parametrize("status", ["²00", "9" * 5000])
async def test_a_status_that_is_no_number_is_an_error_of_the_sdk(status: str) -> None:
    async with bulk() as (line, raw):
        raw.answers = [f"HTTP/1.1 {status} OK\r\n\r\n".encode("latin-1")]
        with pytest.raises(NotHyperSend):
            await line.get("/x", headers={}, receive=everything)


@pytest.mark.parametrize("changes", [
    {"chunk_size": 0}, {"chunk_size": -1}, {"chunk_count": 2**40}, {"chunk_count": 2}, {"received": [[0, 2**60]]},
    {"received": [[2, 1]]}, {"received": [[0, 1], [1, 2]]}, {"received": [[-1, 0]]}, {"verifying": [[0, 3]]},
    {"partial": [[0, -1]]}, {"partial": [[9, 1]]}, {"partial": [[0, 1001]]}])
def test_a_state_of_an_upload_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    assert File.from_json(UPLOADING).upload is not None
    with pytest.raises(ValueError, match=r"."):
        File.from_json({**UPLOADING, "upload": {**UPLOADING["upload"], **changes}})


@pytest.mark.parametrize(("told", "kept"), [
    (float("nan"), None), (float("inf"), 86400), (-5, 0), (10**400, 86400), (-(10**400), 0), (2, 2), ("x", None)])
def test_a_wait_that_was_asked_for_is_one_that_can_be_waited(told: Any, kept: float | None) -> None:
    refusal = _refusal({"code": "rate_limited", "retry_after": told})
    assert refusal.retry_after_s == kept
    assert 0 <= Backoff().next_s(refusal) <= 61


async def test_the_cache_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", "me")
    await store.open()
    try:
        for work in (lambda w: w.complete_to("c", 2**63), lambda w: w.setting("token", "\ud800")):
            with pytest.raises(LocalStorageFailed):
                await store.write(work)
    finally:
        await store.close()


@pytest.mark.parametrize("changes", [
    {"seq": 2**63}, {"rev": -(2**63)}, {"text": "\ud800"}, {"id": "\udfff"}, {"created_at": NEVER}])
def test_a_message_that_could_not_be_kept_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Message.from_json({**FRAMES[8]["message"], **changes})


async def test_a_list_that_never_ends_is_an_error_of_the_sdk() -> None:
    async with raw_server() as raw, HyperSend(raw.url) as hs:
        hs.server = SERVER_INFO
        hs.session.adopt(ACCOUNT)
        raw.answers = [answer_of({"items": MEMBERS, "next_cursor": "again"})]
        with pytest.raises(NotHyperSend):
            await hs.chats.members("c")
        raw.answers = [answer_of({"items": [{"id": 5}]})]
        with pytest.raises(NotHyperSend):
            await PeerCalls(hs.transport).open()


@pytest.mark.parametrize("changes", [{"sha256": "../../x"}, {"size": -1}])
def test_a_build_without_a_digest_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="build"):
        Release.from_json({**RELEASE["release"], **changes})


async def test_an_answer_of_sync_that_is_no_object_forgets_nothing() -> None:
    async with live() as client:
        async def catch_up(answer: bytes) -> None:
            client.sockets.synced, before = answer, client.sockets.syncs
            async with asyncio.timeout(30):
                while client.sockets.syncs < before + 2:  # the one before has been applied, or refused
                    client.hs.sync.request()
                    await asyncio.sleep(0.01)

        await catch_up(json.dumps({"token": "t1", "more": False, "chats": [{**CHATS[0], "id": "kept"}]}).encode())
        for answer in (b"[]", b"5", b'{"token": 5}'):
            await catch_up(answer)
            assert [chat.id for chat in await client.hs.store.chats(archived=None)] == ["kept"]


async def test_a_sync_that_always_has_more_has_an_end() -> None:
    async with live() as client:
        await client.meets([], b'{"token": "again", "more": true}')


async def test_the_architecture_of_a_build_leads_nowhere(tmp_path: Path) -> None:
    content = b"a build"
    release = Release.from_json({**RELEASE["release"], "abi": "../../elsewhere", "size": len(content),
                                 "sha256": hashlib.sha256(content).hexdigest()})
    async with raw_server() as raw, HyperSend(raw.url) as hs:
        raw.answers = [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
            len(content), content)]
        found = await hs.updates.download(release, tmp_path / "updates")
    assert found.parent == tmp_path / "updates"
    assert found.read_bytes() == content


async def test_a_body_whose_compression_is_broken_is_given_up() -> None:
    body = b'{"a":' * 50_000
    async with raw_server() as raw, HyperSend(raw.url) as hs:
        hs.transport._read_s = 0.5
        raw.answers = [b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Type: application/json\r\n"
                       b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)]
        with pytest.raises((ConnectionFailed, NotHyperSend)):
            await hs.transport.call("GET", "/x", auth=False, max_tries=1)
